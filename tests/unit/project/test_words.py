"""Names say what they hold: words that would name anything name nothing, and limits are `MAX_` and `MIN_`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
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


def bound_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Each name that is given to something, with its line: variables, parameters, functions, classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno


def test_no_name_is_an_empty_word() -> None:
    empty = [
        f"{path}:{line}: {name}"
        for path, tree in trees(*PACKAGES, "bench", "tests")
        for name, line in bound_names(tree)
        if name.lstrip("_") in EMPTY
    ]
    assert empty == []


def test_no_variable_is_called_what_any_could_be() -> None:
    vague = [
        f"{path}:{line}: {name}"
        for path, tree in trees(*PACKAGES, "bench", "tests")
        for name, line in variables(tree)
        if name.lstrip("_") in VAGUE
    ]
    assert vague == []


def variables(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Names of variables and parameters with their lines; fields of classes are none."""
    fields = {
        id(part.target)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for part in node.body
        if isinstance(part, ast.AnnAssign)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in fields:
            yield node.id, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno


def test_limits_are_called_max_and_min() -> None:
    dialect = [
        f"{path}:{line}: {name}"
        for path, tree in trees(*PACKAGES, "bench", "tests")
        for name, line in bound_names(tree)
        if name.lstrip("_").startswith(("MOST", "LEAST", "FEWEST"))
    ]
    assert dialect == []


def test_every_noun_of_the_glossary_is_the_name_of_its_type() -> None:
    glossary = (ROOT / "docs" / "words.md").read_text("utf-8")
    nouns = re.findall(r"^\| `(\w+)` \|", glossary, re.MULTILINE)
    classes = {
        node.name for _, tree in trees(*PACKAGES) for node in tree.body if isinstance(node, ast.ClassDef)
    }
    assert len(nouns) == 30
    assert [noun for noun in nouns if noun not in classes] == []
