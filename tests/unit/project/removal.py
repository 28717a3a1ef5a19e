"""`python -m tests.unit.project.removal FEATURE …`: the tests of the core, in a copy without these features.

With `all` it is without any.

Their rooms go, with their lines in `store.core.features`, and the tests and benchmarks that are theirs:
whatever imports one of their modules, or another test that does. Generated pages of `docs` are written anew.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from store.core.features import FEATURES

ROOT = Path(__file__).parents[3]
COPIED = (
    "store",
    "engine",
    "pages",
    "tunebench",
    "bench",
    "tests",
    "docs",
    "app.py",
    "pyproject.toml",
    "README.md",
)
ROOMS = (
    "store/{}",
    "engine/{}",
    "pages/{}",
    "tunebench/commands/{}.py",
    "tunebench/agents/{}.py",
    "docs/{}.md",
)
# What is about the project as a whole.
WHOLE = (
    "tests/unit/project",
    "tests/unit/golden",
    "tests/unit/verdicts/test_truth_file.py",
    "tests/unit/config/test_documents_text.py",
)


# An installation for development finds what the copy lacks in the project itself: not so here.
ALONE = """import sys

sys.meta_path[:] = [each for each in sys.meta_path if "editable" not in getattr(each, "__module__", "")]
"""


# As `make docs`, in one process: to start and import takes most of the time of each.
WRITE_DOCS = """
from contextlib import redirect_stdout
from runpy import run_module

def write(module):
    run_module(module, run_name="__main__")

for module in ("store.documentation.reference_tables", "store.documentation.configuration_page",
               "tunebench.agents.tools_text"):
    write(module)
printed = {"documents": "store.documentation.schemas_page", "commands": "tunebench.commands_page"}
for page, module in printed.items():
    with open(f"docs/{page}.md", "w", encoding="utf-8") as file, redirect_stdout(file):
        write(module)
"""


def copy_without(features: Iterable[str], folder: Path) -> list[str]:
    """Make the copy in the empty folder. The core's tests in it, as paths within it."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, folder / name)
    (folder / "sitecustomize.py").write_text(ALONE, "utf-8")
    for feature in features:
        _remove_rooms(folder, feature)
    for whole in WHOLE:
        _remove(folder / whole)
    _remove_importers(folder)
    write_docs(folder)
    tests = [*folder.glob("tests/unit/**/test_*.py"), *folder.glob("tests/pages/**/test_*.py")]
    return sorted(str(path.relative_to(folder)) for path in tests)


def _remove_rooms(folder: Path, feature: str) -> None:
    gone = [path for room in ROOMS if (path := folder / room.format(feature)).exists()]
    assert gone, f"{feature} has no room"
    for path in gone:
        _remove(path)
    registry = folder / "store/core/features.py"
    source, line = registry.read_text("utf-8"), f'    "{feature}",\n'
    assert source.count(line) == 1
    registry.write_text(source.replace(line, ""), "utf-8")


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_docs(folder: Path) -> None:
    """Write the generated pages of a copy anew."""
    run_in(folder, "-c", WRITE_DOCS)


def run_in(folder: Path, *order: str) -> str:
    """What Python prints, run in the copy. Raises AssertionError with its output where it fails."""
    done = subprocess.run(
        [sys.executable, *order],
        cwd=folder, env=_build_environment(folder), capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-4_000:]
    return done.stdout


def _build_environment(folder: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(folder), "TUNEBENCH_HOME": str(folder / "home")}


def _remove_importers(folder: Path) -> None:
    """Until no test and no benchmark imports what is not there."""
    while True:
        files = [*folder.glob("tests/**/*.py"), *folder.glob("bench/**/*.py")]
        gone = [path for path in files if not _is_importable(folder, path)]
        if not gone:
            return
        for path in gone:
            path.unlink()


def _is_importable(folder: Path, path: Path) -> bool:
    return all(_is_there(folder, module) for module in _list_imports(path.relative_to(folder)))


def _is_there(folder: Path, module: str) -> bool:
    house, *_ = module.split(".")
    if house not in COPIED:
        return True
    place = folder / module.replace(".", "/")
    return place.is_dir() or place.with_suffix(".py").exists()


@cache
def _list_imports(path: Path) -> tuple[str, ...]:
    """Modules that a file of the project imports, wherever in it; of `from a import b` also a.b where it is a
    module. Read once for all copies, in which the file is the same.
    """
    return tuple(_read_imports(path))


def _read_imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                if _is_there(ROOT, module):
                    yield module


def main(features: list[str]) -> int:
    """Run all tests of the core in a copy without the features; the exit code of pytest."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "copy"
        folder.mkdir()
        tests = copy_without(FEATURES if features == ["all"] else features, folder)
        order = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *tests]
        return subprocess.run(order, cwd=folder, env=_build_environment(folder), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
