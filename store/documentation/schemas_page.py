"""Generate docs/documents.md, the reference of all documents of the store: `python -m
store.documentation.schemas_page`.

The page is generated from the source, so that they can't disagree: the docstring of each module and type,
and for each field its type and the comment on its line.
"""

from __future__ import annotations

import ast
from pathlib import Path

STORE = Path(__file__).parents[1]
HEAD = (
    "# Documents\n\nEvery JSON document between processes: results of jobs, rows of the store, and what"
    " screens and command line\nread. This page is generated from the modules `schemas` of `store/` by"
    " `python -m\nstore.documentation.schemas_page`; a field with a question mark is optional.\n"
)


def format_schemas_page() -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *(_format_module(path) for path in sorted(STORE.rglob("*schemas.py")))])


def _format_module(path: Path) -> str:
    source = path.read_text("utf-8")
    tree, lines = ast.parse(source), source.splitlines()
    parts = [f"## {_format_title(path)}", _join_lines(ast.get_docstring(tree) or "")]
    parts += [_format_type(node, lines) for node in tree.body if isinstance(node, ast.ClassDef)]
    return "\n\n".join(parts) + "\n"


def _format_title(path: Path) -> str:
    """Return room and topic of a file: "Rating: round" for `rating/round_schemas.py`."""
    room, topic = (
        path.parent.name.capitalize(),
        path.stem.removesuffix("schemas").strip("_").replace("_", " "),
    )
    return f"{room}: {topic}" if topic else room


def _format_type(node: ast.ClassDef, lines: list[str]) -> str:
    bases = [base for base in map(ast.unparse, node.bases) if base != "TypedDict"]
    also = f" (and all of {', '.join(bases)})" if bases else ""
    head = f"### {node.name}{also}\n{_join_lines(ast.get_docstring(node) or '')}"
    rows = [_format_field(field, lines) for field in node.body if isinstance(field, ast.AnnAssign)]
    return "\n".join([head, "", "| field | type | |", "|---|---|---|", *rows]) if rows else head


def _format_field(field: ast.AnnAssign, lines: list[str]) -> str:
    name, kind = ast.unparse(field.target), ast.unparse(field.annotation)
    if kind.startswith("NotRequired["):
        name, kind = f"{name}?", kind.removeprefix("NotRequired[").removesuffix("]")
    elif field.value is not None:  # with a default: stored documents may lack it, and null is omitted
        is_null = isinstance(field.value, ast.Constant) and field.value.value is None
        name, kind = f"{name}?", kind.removesuffix(" | None") if is_null else kind
    _, _, comment = lines[(field.end_lineno or field.lineno) - 1].partition("  # ")
    kind = kind.replace("None", "null").replace("|", "\\|").replace("'", '"')
    return f"| `{name}` | `{kind}` | {comment.strip()} |"


def _join_lines(text: str) -> str:
    """Join the lines of each paragraph."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


if __name__ == "__main__":
    print(format_schemas_page(), end="")
