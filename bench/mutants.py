"""Share of planted faults that the tests of their feature catch: `python bench/mutants.py [FEATURE ...]`.

Each entry of `planted_faults.toml` is a small change that somebody could make by mistake. It is planted in
a copy of the tree, never in the tree itself, and the tests of its entry run until one fails. A fault that
no test catches is a rule that nothing enforces. Exits with 1 if fewer than `MIN_CAUGHT` are caught, or an
entry no longer matches the code.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_name("planted_faults.toml")
MIN_CAUGHT = 0.95  # share of all faults
FILES = ("app.py", "pyproject.toml", "Makefile", "README.md")
COPIED = (*FILES, "docs", "store", "engine", "pages", "tunebench", "tests", "bench")
FAILED = 1  # pytest's exit code if tests failed; others mean that none ran
MAX_SECONDS = 600.0  # timeout of the tests of one fault


@dataclass(frozen=True)
class PlantedFault:
    """A change: `old`, which occurs exactly once in `file`, is replaced by `new`; `says` describes the
    resulting fault.
    """

    feature: str
    says: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def plant(self, text: str) -> str:
        """Return the text of the file with the fault. Raises ValueError if the entry doesn't match it."""
        if (times := text.count(self.old)) != 1:
            raise ValueError(f"{self.file} holds it {times} times, not once: {self.old}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class FaultOutcome:
    """Result for one fault. caught: a test failed; trouble: why there is no result, or empty."""

    fault: PlantedFault
    caught: bool
    seconds: float
    trouble: str = ""


def read_faults() -> list[PlantedFault]:
    """Read the entries of the list."""
    entries = tomllib.loads(LIST.read_text("utf-8"))["fault"]
    return [PlantedFault(**entry | {"tests": tuple(entry["tests"])}) for entry in entries]


@contextmanager
def copies(count: int) -> Iterator[SimpleQueue[Path]]:
    """Yield this number of copies of the tree as a queue; each copy is used for one fault at a time."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        free: SimpleQueue[Path] = SimpleQueue()
        for number in range(count):
            copy = Path(folder) / str(number)
            copy.mkdir()
            for name in COPIED:
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy2(ROOT / name, copy / name)
            free.put(copy)
        yield free


def run_fault(fault: PlantedFault, free: SimpleQueue[Path]) -> FaultOutcome:
    """Plant one fault in a copy, run its tests there, and remove it again."""
    tree = free.get()
    path = tree / fault.file
    text = path.read_text("utf-8")
    began = time.monotonic()
    try:
        path.write_text(fault.plant(text), "utf-8")
        code = run_tests(tree, fault.tests)
        trouble = "" if code in (0, FAILED) else f"pytest ended with {code}"
    except ValueError as error:
        code, trouble = 0, str(error)
    finally:
        path.write_text(text, "utf-8")
        free.put(tree)
    return FaultOutcome(fault, code == FAILED, time.monotonic() - began, trouble)


def run_tests(tree: Path, tests: tuple[str, ...]) -> int:
    """Return pytest's exit code. Tests that time out count as failed, as the fault may cause an infinite
    loop.
    """
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        return subprocess.run(command, cwd=tree, capture_output=True, timeout=MAX_SECONDS).returncode
    except subprocess.TimeoutExpired:
        return FAILED


def show(outcome: FaultOutcome) -> None:
    """Print a line for one fault."""
    word = outcome.trouble or ("caught" if outcome.caught else "SURVIVED")
    print(f"{outcome.seconds:6.1f} s  {outcome.fault.feature:<11} {word:<9} {outcome.fault.says}", flush=True)


def main() -> int:
    """Plant all faults, or those of the named features, and print which were caught."""
    faults = read_faults()
    names = sorted({fault.feature for fault in faults})
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    features = f"of {', '.join(names)}; all where left out"
    parser.add_argument("features", nargs="*", metavar="FEATURE", help=features)
    parser.add_argument("--jobs", type=int, default=2, help="faults at a time (2)")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.features) - set(names)):
        parser.error(f"no fault is of {', '.join(unknown)}; there are {', '.join(names)}")
    chosen = [fault for fault in faults if not asked.features or fault.feature in asked.features]
    outcomes: list[FaultOutcome] = []
    with copies(asked.jobs) as free, ThreadPoolExecutor(asked.jobs) as pool:
        for outcome in pool.map(lambda fault: run_fault(fault, free), chosen):
            show(outcome)
            outcomes.append(outcome)
    caught, whole = Counter[str](), Counter[str]()
    for outcome in outcomes:
        whole[outcome.fault.feature] += 1
        caught[outcome.fault.feature] += outcome.caught
    print("\n| feature | faults | caught |\n|---|---|---|")
    for name in sorted(whole):
        print(f"| {name} | {whole[name]} | {caught[name]} |")
    print(f"| all | {whole.total()} | {caught.total()} |")
    troubled = any(outcome.trouble for outcome in outcomes)
    return int(troubled or caught.total() < MIN_CAUGHT * whole.total())


if __name__ == "__main__":
    sys.exit(main())
