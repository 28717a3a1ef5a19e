"""The floors of pyproject.toml hold: an import that goes up or sideways is found on each of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import grimp
import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("store", "engine", "pages", "tunebench")
with open(ROOT / "pyproject.toml", "rb") as file:
    CONTRACTS: list[dict[str, Any]] = tomllib.load(file)["tool"]["importlinter"]["contracts"]
FLOORS = [contract for contract in CONTRACTS if contract["type"] == "layers"]


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the packages, to plant imports in."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def room(house: Path, name: str) -> Path:
    """A file of the room `name`, to plant an import in."""
    path = house / name.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def rooms_of(contract: dict[str, Any]) -> list[str]:
    """The rooms of all its floors as modules, from the highest to the lowest."""
    rooms = [room.strip(" ()") for layer in contract["layers"] for room in re.split("[|:]", layer)]
    return [".".join([*contract.get("containers", ()), room]) for room in rooms]


def broken(house: Path) -> set[str]:
    """Names of the contracts that the copy breaks."""
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command; "
    code += "lint_imports_command(['--no-cache'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=house, capture_output=True, text=True, timeout=120
    )
    assert "Contracts:" in done.stdout, done.stdout + done.stderr
    return {line.removesuffix(" BROKEN") for line in done.stdout.splitlines() if line.endswith(" BROKEN")}


def test_every_room_imports_from_lower_floors_alone(house: Path) -> None:
    assert broken(house) == set()
    for contract in FLOORS:
        first, *_, last = rooms_of(contract)
        with open(room(house, last), "a") as lowest:
            lowest.write(f"\nimport {first}\n")
    assert {contract["name"] for contract in FLOORS} <= broken(house)


def test_every_room_has_a_floor_and_every_folder_says_what_belongs_in_it() -> None:
    containers = {name for contract in FLOORS for name in contract.get("containers", ())}
    assert containers >= set(PACKAGES)
    for folder in (path for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")):
        assert folder.read_text().startswith('"""'), folder


def test_neither_files_nor_rooms_go_round_in_circles() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    files: dict[str, set[str]] = {
        module: graph.find_modules_directly_imported_by(module) for module in graph.modules
    }
    rooms: dict[str, set[str]] = defaultdict(set)
    for module, imported in files.items():
        own = room_of(module)
        rooms[own] |= {room_of(other) for other in imported} - {own}
    TopologicalSorter(files).prepare()  # raises CycleError, which names the circle
    TopologicalSorter(rooms).prepare()


def room_of(module: str) -> str:
    """The room that a module lies in, or the module itself where it lies beside the rooms."""
    return ".".join(module.split(".")[:2])
