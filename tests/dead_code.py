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
    """Lines of the file that declare a field of a record, by whichever base of ours it is one."""
    return frozenset(
        field.lineno
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ClassDef)
        if any(keyword.arg == "total" for keyword in node.keywords) or is_record(node, path)
        for field in node.body
        if isinstance(field, ast.AnnAssign)
    )


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def is_record(node: ast.ClassDef, path: Path) -> bool:
    """Whether the class of this file is a record, or comes from one, there or where it imports it from."""
    return any(
        base in RECORDS or any(is_record(*parent) for parent in find_classes(base, path))
        for base in map(ast.unparse, node.bases)
    )


def find_classes(name: str, path: Path) -> Iterator[tuple[ast.ClassDef, Path]]:
    """The class that a file of ours calls so, with the file that it is in."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ClassDef) and node.name == name:
            yield node, path
        elif isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            module = (ROOT / str(node.module).replace(".", "/")).with_suffix(".py")
            if module.exists():
                yield from find_classes(name, module)


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
