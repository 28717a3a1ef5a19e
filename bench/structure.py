"""Reproducible figures of the code's structure: `python bench/structure.py [--json]`.

Product files are `app.py` and those of `store`, `engine`, `pages` and `tunebench`. A chain of imports is
counted in files, from a module down to one that imports none of ours; imports inside functions count,
those for type checkers only don't.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import statistics
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
HOUSES = ("store", "engine", "pages", "tunebench")
TRAIN_JOB, RUN_PAGE = "engine.training.train_job", "pages.runs.run"
LEARNING_RATE = "learning_rate"


class StructureFigures(NamedTuple):
    """The figures, in the order in which they are printed."""

    product_files: int
    product_lines: int
    median_lines: float
    functions_per_100_lines: float
    import_lines_percent: float
    imported_by_one: int
    train_job_chain: int
    run_page_chain: int
    run_page_files: int
    run_page_lines: int
    engine_rooms: int
    engine_floors: int
    folders: int
    typed_dicts: int
    pydantic_classes: int
    key_accesses: int
    plain_dicts: int
    learning_rate_files: int


@dataclass(frozen=True)
class SourceFile:
    """A product file: its dotted name, text and syntax tree."""

    name: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """Number of lines, including empty ones and comments."""
        return self.text.count("\n")


def read_files() -> dict[str, SourceFile]:
    """Read every product file by its dotted name; a package has the name of its folder."""
    files = {}
    inside = [path for house in HOUSES for path in sorted((ROOT / house).rglob("*.py"))]
    for path in [ROOT / "app.py", *inside]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text("utf-8")
        files[name] = SourceFile(name, text, ast.parse(text))
    return files


def walk_run(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes except those in `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from walk_run(child)


def imports_of(file: SourceFile, files: Mapping[str, SourceFile]) -> set[str]:
    """Return the names of the product files that a file imports."""
    names: set[str] = set()
    for node in walk_run(file.tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            names.update(inside & files.keys())
            if not inside <= files.keys():
                names.add(node.module)
    return (names & files.keys()) - {file.name}


class ImportGraph:
    """Imports between product files."""

    def __init__(self, files: Mapping[str, SourceFile]) -> None:
        self.edges = {name: imports_of(file, files) for name, file in files.items()}
        self.chain = cache(self._chain)

    def _chain(self, name: str) -> int:
        return 1 + max((self.chain(other) for other in self.edges[name]), default=0)

    def reach(self, name: str) -> set[str]:
        """Return the files loaded by importing one, including itself."""
        seen, waiting = {name}, [name]
        while waiting:
            fresh = self.edges[waiting.pop()] - seen
            seen |= fresh
            waiting += fresh
        return seen

    def imported_by_one(self) -> int:
        """Return the number of files imported by exactly one other file."""
        counts: dict[str, int] = {}
        for others in self.edges.values():
            for other in others:
                counts[other] = counts.get(other, 0) + 1
        return sum(count == 1 for count in counts.values())


def class_counts(files: Mapping[str, SourceFile]) -> tuple[int, int]:
    """Return the numbers of TypedDicts and of pydantic classes, including indirect subclasses."""
    bases: dict[str, set[str]] = {}
    for file in files.values():
        for node in ast.walk(file.tree):
            if isinstance(node, ast.ClassDef):
                bases.setdefault(node.name, set()).update(
                    ast.unparse(base).rpartition(".")[2].partition("[")[0] for base in node.bases
                )

    def stems_from(name: str, root: str, seen: frozenset[str] = frozenset()) -> bool:
        return name == root or any(
            stems_from(base, root, seen | {name}) for base in bases.get(name, ()) if base not in seen
        )

    dicts = sum(stems_from(name, "TypedDict") for name in bases)
    return dicts, sum(stems_from(name, "BaseModel") for name in bases)


def engine_layers() -> list[str]:
    """Return the layers of the engine as named in import-linter's contract."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers: list[str] = next(each["layers"] for each in contracts if each.get("containers") == ["engine"])
    return layers


def rooms_of(layer: str) -> list[str]:
    """Return the folders of a layer; modules beside them don't count."""
    names = [name.strip() for name in re.split("[|:]", layer)]
    return [name for name in names if (ROOT / "engine" / name).is_dir()]


def measure() -> StructureFigures:
    """Compute all figures."""
    files = read_files()
    graph = ImportGraph(files)
    lines = sum(file.lines for file in files.values())
    nodes = [node for file in files.values() for node in ast.walk(file.tree)]
    functions = sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes)
    import_lines = sum(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
    )
    keys = sum(
        isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
        for node in nodes
    )
    typed_dicts, pydantic_classes = class_counts(files)
    page = graph.reach(RUN_PAGE)
    floors = [layer for layer in map(rooms_of, engine_layers()) if layer]
    return StructureFigures(
        product_files=len(files),
        product_lines=lines,
        median_lines=statistics.median(file.lines for file in files.values()),
        functions_per_100_lines=round(100 * functions / lines, 1),
        import_lines_percent=round(100 * import_lines / lines, 1),
        imported_by_one=graph.imported_by_one(),
        train_job_chain=graph.chain(TRAIN_JOB),
        run_page_chain=graph.chain(RUN_PAGE),
        run_page_files=len(page),
        run_page_lines=sum(files[name].lines for name in page),
        engine_rooms=sum(map(len, floors)),
        engine_floors=len(floors),
        folders=len({name.rpartition(".")[0] for name in files}),
        typed_dicts=typed_dicts,
        pydantic_classes=pydantic_classes,
        key_accesses=keys,
        plain_dicts=sum(len(re.findall(r"dict\[str, Any\]", file.text)) for file in files.values()),
        learning_rate_files=sum(LEARNING_RATE in file.text for file in files.values()),
    )


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    figures = measure()
    if parser.parse_args().json:
        print(json.dumps(figures._asdict(), indent=1))
        return 0
    for name, value in figures._asdict().items():
        print(f"| {name.replace('_', ' ')} | {value:,} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
