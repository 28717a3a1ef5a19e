"""`python -m tests.dead_code`: names that nothing refers to, as [tool.vulture] of pyproject.toml says.

vulture finds them by name. What it can not know is left out here: fields of typed dictionaries and named
tuples, which are keys and columns that people and other programs read, and what features name by a text.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import vulture

ROOT = Path(__file__).parents[1]
RECORDS = {"TypedDict", "NamedTuple"}
HOUSES = ("store", "engine", "pages", "tunebench")
REFERENCE = re.compile(rf"(?:{'|'.join(HOUSES)})(?:\.\w+)+:(\w+)")


@cache
def record_lines(path: Path) -> frozenset[int]:
    """Lines of the file that declare a field of a record, by whichever base in the file it is one."""
    classes = [
        node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ClassDef)
    ]
    return frozenset(
        field.lineno
        for node in classes
        if any(keyword.arg == "total" for keyword in node.keywords) or is_record(node, classes)
        for field in node.body
        if isinstance(field, ast.AnnAssign)
    )


def is_record(node: ast.ClassDef, classes: list[ast.ClassDef]) -> bool:
    """Whether the class is a record, or comes from one of its file, or from a document."""
    for base in map(ast.unparse, node.bases):
        parent = next((other for other in classes if other.name == base), None)
        if base in RECORDS or (parent and is_record(parent, classes)):
            return True
    return False


def names_in_texts(source: str) -> Iterator[str]:
    """Of what is imported when it is used first: Deferred("module", "name") and "module:name"."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Deferred":
            yield ast.literal_eval(node.args[1])
        elif isinstance(node, ast.Constant) and (reference := REFERENCE.fullmatch(str(node.value))):
            yield reference[1]


def unused() -> Iterator[str]:
    """A line for each."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        options = tomllib.load(file)["tool"]["vulture"]
    finder = vulture.Vulture(
        ignore_names=options["ignore_names"], ignore_decorators=options["ignore_decorators"]
    )
    finder.scavenge([str(ROOT / path) for path in options["paths"]], exclude=options["exclude"])
    for path in (path for house in HOUSES for path in (ROOT / house).rglob("*.py")):
        finder.used_names |= set(names_in_texts(path.read_text("utf-8")))
    for item in finder.get_unused_code(min_confidence=options["min_confidence"]):
        if item.first_lineno not in record_lines(Path(item.filename)):
            place = f"{Path(item.filename).relative_to(ROOT)}:{item.first_lineno}"
            yield f"{place}: unused {item.typ} {item.name!r}"


if __name__ == "__main__":
    lines = list(unused())
    print("\n".join(lines))
    sys.exit(bool(lines))
