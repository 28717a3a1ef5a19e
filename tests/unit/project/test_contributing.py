"""Each addition of CONTRIBUTING.md, made in a copy as the page says it, works, and keeps the rules."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.project.contributed_page import sections
from tests.unit.project.removal import write_docs

ROOT = Path(__file__).parents[3]
ADDITIONS = sections((ROOT / "CONTRIBUTING.md").read_text("utf-8"))
EDITS = [edit for _, edits in ADDITIONS.values() for edit in edits]
COPIED = ("store", "engine", "pages", "tunebench", "tests", "docs")
# What holds the tables to their documentation, and the rooms to their floors.
TABLES = [
    *(f"tests/unit/config/test_{name}.py" for name in ("metric_words", "methods_text", "documents_text")),
    "tests/unit/config/test_job_kinds.py",
    *(f"tests/unit/project/test_{name}.py" for name in ("words", "floors", "import_cost")),
]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with all the additions, its documentation written anew."""
    root = tmp_path_factory.mktemp("house")
    for file in ("pyproject.toml", "app.py", "README.md"):
        shutil.copy(ROOT / file, root)
    for folder in COPIED:
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for edit in EDITS:
        edit.apply(root)
    write_docs(root)
    return root


def python(root: Path, *arguments: str) -> str:
    """What it prints, run in the copy with the packages of the copy."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_addition_touches_as_many_files_as_the_page_says() -> None:
    assert {title: len({edit.path for edit in edits}) for title, (_, edits) in ADDITIONS.items()} == {
        title: files for title, (files, _) in ADDITIONS.items()
    }
    assert len(ADDITIONS) == 8


def test_the_additions_work_and_the_tables_are_documented(house: Path) -> None:
    python(
        house, "-m", "pytest", "-x", "-p", "no:cacheprovider", "tests/unit/project/contributed.py", *TABLES
    )


def test_the_additions_are_in_the_style_of_the_house(house: Path) -> None:
    files = sorted({edit.path for edit in EDITS if edit.path.endswith(".py")})
    python(house, "-m", "ruff", "check", "--no-cache", *files)
    python(house, "-m", "ruff", "format", "--no-cache", "--check", *files)
