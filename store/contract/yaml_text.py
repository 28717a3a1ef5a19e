"""Documents as YAML that reads back as what it was, white space and line ends of any script included.

A key that stands twice in one mapping is an error: YAML forbids it, and PyYAML would silently take the last.
"""

from __future__ import annotations

from typing import Any

import yaml
from yaml.nodes import MappingNode, ScalarNode

from store.contract.errors import ConfigError

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


class _Loader(yaml.SafeLoader):
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


def read_yaml(text: str) -> Any:
    """The document that the YAML describes. Raises ConfigError (field config) with the line at fault."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"This is not valid YAML{where}.", field="config") from error
    except ValueError as error:  # a date such as 2020-13-45
        raise ConfigError(
            f"This YAML holds a value that can't be: {error}.",
            fix="Put quotes around what is meant as text.",
            field="config",
        ) from error
    except RecursionError as error:
        raise ConfigError(
            "This YAML is nested too deeply.", fix="Take brackets away.", field="config"
        ) from error
