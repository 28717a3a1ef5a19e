"""CONTRIBUTING.md as edits of files: each block of code with the file and place that the line above names."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

SECTION = re.compile(r"^## (?P<title>[^\n]+): (?P<files>\d+) files?\n(?P<body>.*?)(?=^## |\Z)", re.M | re.S)
BLOCK = re.compile(r"^\*\*`(?P<path>[^`]+)`\*\*, (?P<place>[^\n]+):\n```\w+\n(?P<code>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Edit:
    """path: from the root. place: "a new file", "at the end", or "into", "before" or "instead of" with what
    stands there."""

    path: str
    place: str
    code: str

    def apply(self, root: Path) -> None:
        """Write it; AssertionError where the place is not there."""
        path = root / self.path
        if self.place == "a new file":
            assert not path.exists(), f"{self.path} is there already"
            path.parent.mkdir(exist_ok=True)
            path.write_text(self.code, "utf-8")
            return
        source = path.read_text("utf-8")
        verb, _, name = self.place.partition(" `")
        changed = {"at the end": at_the_end, "into": into, "before": before, "instead of": instead_of}[verb]
        path.write_text(changed(source, name.removesuffix("`"), self.code), "utf-8")


def sections(page: str) -> dict[str, tuple[int, list[Edit]]]:
    """Title of an addition -> the number of files that the page says, and its edits in their order."""
    return {
        section["title"]: (
            int(section["files"]),
            [Edit(block["path"], block["place"], block["code"]) for block in BLOCK.finditer(section["body"])],
        )
        for section in SECTION.finditer(page)
    }


def at_the_end(source: str, _: str, code: str) -> str:
    return f"{source}\n\n{code}"


def before(source: str, name: str, code: str) -> str:
    lines, place = found_line(source, name)
    apart = "" if code.startswith((" ", "from ")) else "\n\n"
    return "".join([*lines[:place], code, apart, *lines[place:]])


def instead_of(source: str, name: str, code: str) -> str:
    lines, place = found_line(source, name)
    return "".join([*lines[:place], code, *lines[place + 1 :]])


def found_line(source: str, start: str) -> tuple[list[str], int]:
    """All lines, and the place of the one that begins so, apart from its indent."""
    lines = source.splitlines(keepends=True)
    places = [place for place, line in enumerate(lines) if line.strip().startswith(start)]
    assert len(places) == 1, f"{len(places)} lines begin with {start}"
    return lines, places[0]


def into(source: str, name: str, code: str) -> str:
    """Into a class: after its last method. Into a table, or what a function returns: before its bracket."""
    node = named(ast.parse(source), name)
    lines = source.splitlines(keepends=True)
    end = node.end_lineno
    assert end is not None
    if isinstance(node, ast.ClassDef):
        return "".join([*lines[:end], "\n", code, *lines[end:]])
    return "".join([*lines[: end - 1], code, *lines[end - 1 :]])


def named(tree: ast.Module, name: str) -> ast.AST:
    """`NAME`, `CLASS.METHOD` or `NAME["key"]`: the class, or the brackets that hold the entries."""
    path = re.findall(r"\w+", name)
    node: ast.AST = tree
    for part in path:
        node = next(child for child in children(node) if part == child[0])[1]
    if isinstance(node, ast.FunctionDef):
        returned = node.body[-1]
        assert isinstance(returned, ast.Return)
        node = returned.value or returned
    if isinstance(node, ast.Call):  # of a class that holds the table
        node = node.args[0]
    if isinstance(node, ast.DictComp):
        node = node.generators[0].iter
    return node


def children(node: ast.AST) -> list[tuple[str, ast.AST]]:
    """What has a name in a module, a class, a dictionary or a call."""
    if isinstance(node, ast.Call):
        return [(keyword.arg or "", keyword.value) for keyword in node.keywords]
    if isinstance(node, ast.Dict):
        keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
        return [(key, value) for key, value in zip(keys, node.values, strict=True) if isinstance(key, str)]
    named_nodes: list[tuple[str, ast.AST]] = []
    for child in getattr(node, "body", []):
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            named_nodes.append((child.name, child))
        elif isinstance(child, ast.AnnAssign) and child.value is not None:
            named_nodes.append((ast.unparse(child.target), child.value))
        elif isinstance(child, ast.Assign):
            named_nodes.append((ast.unparse(child.targets[0]), child.value))
    return named_nodes
