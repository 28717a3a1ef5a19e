"""Documents as YAML that reads back as what it was, white space and line ends of any script included.

A key that stands twice in one mapping is an error: YAML forbids it, and PyYAML would silently take the last.
What YAML 1.1 reads as a number or a truth and YAML 1.2 as text is text here: 1:30, 010, yes, off. How deep a
document is nested, and how much its aliases stand for, is counted while it is read, so that a few lines never
take the memory or the stack of whoever reads them.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode

from store.contract.errors import ConfigError

MAX_DEPTH = 64  # brackets or indents in one another; configs have six
MAX_VALUES = 100_000  # values, those that aliases repeat counted each time
MAX_CHARACTERS = 2**20
BREAKS = ("\x85", "\u2028", "\u2029")  # YAML 1.1 folds them like line ends unless they are escaped


class _Dumper(yaml.SafeDumper):
    pass


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = '"' if any(sign in text for sign in BREAKS) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def to_yaml(document: Any) -> str:
    """The document as YAML, its fields in their order."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


_EXPONENT = r"(?:[eE][-+][0-9]+)?"
_READ_AS = {  # plain scalars that are no text: how each kind is written, and its first characters
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)", "-+0123456789"),
    "float": (
        rf"[-+]?[0-9][0-9_]*\.[0-9_]*{_EXPONENT}|\.[0-9][0-9_]*{_EXPONENT}"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
}


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._values = 0
        self._sizes: dict[int, int] = {}  # of each node that is whole, by its id: the values in it

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        before, is_alias = self._values, self.check_event(AliasEvent)
        line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
        self._values += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _refusal(
                f"is nested too deeply: more than {MAX_DEPTH} deep at line {line}", "Take brackets away."
            )
        node: Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias:
            if id(node) not in self._sizes:
                raise _refusal(f"has an alias at line {line} that stands for what it is in", "Write it out.")
            self._values += self._sizes[id(node)]
        else:
            self._sizes[id(node)] = self._values - before
        if self._values > MAX_VALUES:
            why = f"stands for more than {MAX_VALUES:,} values at line {line}"
            raise _refusal(why, "Give a smaller one, with fewer aliases.")
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """Looked at before << merges other mappings in, whose keys may be given anew."""
        node: MappingNode = super().compose_mapping_node(anchor)
        seen: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if (first := seen.get(name)) is not None:
                raise ConfigError(
                    f"{key.value} stands twice in this YAML, at line {first} and at line {line}.",
                    fix="Take one of them away.",
                    field="config",
                )
            seen[name] = line
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag.rpartition(":")[2] not in (*_READ_AS, "value")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, (_form, _first) in _READ_AS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_form})\Z"), list(_first))


def _refusal(why: str, fix: str) -> ConfigError:
    return ConfigError(f"This YAML {why}.", fix=fix, field="config")


def read_yaml(text: str) -> Any:
    """The document that the YAML describes. Raises ConfigError (field config) with the line at fault."""
    if len(text) > MAX_CHARACTERS:
        raise _refusal(f"has {len(text):,} characters", f"Give one of up to {MAX_CHARACTERS:,}.")
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"This is not valid YAML{where}.", field="config") from error
    except (
        ValueError,
        LookupError,
        AttributeError,
    ) as error:  # 2020-13-45, !!int '', !!bool x
        raise ConfigError(
            f"This YAML holds a value that can't be: {error}.",
            fix="Put quotes around what is meant as text.",
            field="config",
        ) from error
