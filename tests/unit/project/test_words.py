"""Names say what they hold: words that would name anything name nothing, and limits are `MAX_` and `MIN_`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = ("store", "engine", "pages", "tunebench")
EMPTY = frozenset({"found", "said", "told", "one", "known", "shown"})
VAGUE = frozenset(  # as variables and parameters: a field or a command of that name is its user's word
    {
        *("data", "info", "obj", "res", "tmp", "temp", "val", "ret"),
        *("thing", "stuff", "payload", "df", "buf", "idx"),
    }
)


def trees(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text("utf-8"))


@dataclass(frozen=True)
class BoundName:
    """A name that is given to something. is_variable: to a variable or parameter, not to a field."""

    place: str
    name: str
    is_variable: bool


@cache
def list_bound_names() -> list[BoundName]:
    """Each name of a variable, parameter, function, class or attribute, where it is given; read once."""
    return [
        BoundName(f"{path}:{line}: {name}", name.lstrip("_"), is_variable)
        for path, tree in trees(*PACKAGES, "bench", "tests")
        for name, line, is_variable in bound_names(tree)
    ]


def bound_names(tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    fields: set[int] = set()
    for node in ast.walk(tree):  # a class comes before its fields
        if isinstance(node, ast.ClassDef):
            fields.update(id(part.target) for part in node.body if isinstance(part, ast.AnnAssign))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno, id(node) not in fields
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno, False
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno, True
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno, False


def test_no_name_is_an_empty_word() -> None:
    assert [each.place for each in list_bound_names() if each.name in EMPTY] == []


def test_no_variable_is_called_what_any_could_be() -> None:
    assert [each.place for each in list_bound_names() if each.is_variable and each.name in VAGUE] == []


def test_limits_are_called_max_and_min() -> None:
    dialect = ("MOST", "LEAST", "FEWEST")
    assert [each.place for each in list_bound_names() if each.name.startswith(dialect)] == []


def test_every_noun_of_the_glossary_is_the_name_of_its_type() -> None:
    glossary = (ROOT / "docs" / "words.md").read_text("utf-8")
    nouns = re.findall(r"^\| `(\w+)` \|", glossary, re.MULTILINE)
    classes = {
        node.name for _, tree in trees(*PACKAGES) for node in tree.body if isinstance(node, ast.ClassDef)
    }
    assert len(nouns) == 30
    assert [noun for noun in nouns if noun not in classes] == []
