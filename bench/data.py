"""Speed of importing and measuring data, and accuracy of the measures.

    python bench/data.py [SECTION ...] [--rows 1000000] [--pii FILE] [--languages FILE] [--json]

Every section is a function of `Bench` that returns figures; those with a limit decide the exit code, which
is 1 if one is missed. Rows come from this machine's own Python documentation, recombined with a fixed
seed: about 400 bytes of JSON per row. Jobs run as separate processes, as the engine starts them; memory is
that of a job and its children together, sampled twenty times a second, with shared pages counted in each.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil

from bench.report import Figure, Section, Skipped, as_json
from engine.data.readers.named_datasets import BuiltinReader
from store.core.home import Home
from store.core.job_folder import JobDir, read_json, write_json

ROOT = Path(__file__).resolve().parent.parent
IMPORT_SECONDS = 30.0  # for a million rows
IMPORT_GIB = 2.0
ROWS_A_SECOND = 20_000  # both groups together, on two cores

# section -> (title, module, function of a Bench that returns figures or raises Skipped)
SECTIONS = {
    "import": ("Import", "bench.data", "imported"),
    "signals": ("Signals without a model", "bench.data", "measured"),
    "duplicates": ("Near duplicates", "bench.detection.duplicates", "near_duplicates"),
    "pii": ("Personal data", "bench.detection.pii", "detection"),
    "languages": ("Languages", "bench.detection.languages", "accuracy"),
}


class Bench:
    """Home folder of the jobs, and the options; the file and the data set are created on first use."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.home = Home(folder / "home").create()
        self.options = options
        self.folder = folder

    @cached_property
    def file(self) -> Path:
        """Write a JSONL file of `--rows` rows {"prompt", "completion"}."""
        path = self.folder / "rows.jsonl"
        source = [row for _, row in BuiltinReader().rows() if isinstance(row, dict)]
        draw = random.Random(0)
        with open(path, "w", encoding="utf-8") as file:
            for number in range(self.options.rows):
                asked, *others = draw.choices(source, k=5)
                row = {
                    "prompt": f"{asked['prompt']} ({number})",
                    "completion": " ".join(example["completion"] for example in (asked, *others))[
                        : 240 + number % 300
                    ],
                }
                file.write(json.dumps(row) + "\n")
        return path

    @cached_property
    def dataset(self) -> dict[str, Any]:
        """Import the file; return the result with `wall_seconds` and `peak_gib`."""
        return self.work("import", {"name": "Rows", "source": {"path": str(self.file)}})

    def work(self, kind: str, config: dict[str, Any], **order: Any) -> dict[str, Any]:
        """Run a job in its own process; return its result, its duration in seconds and its peak memory."""
        folder = JobDir(self.home.jobs / f"{kind}-{len(list(self.home.jobs.iterdir()))}")
        folder.path.mkdir()
        document = {"job_id": folder.path.name, "kind": kind, "home": str(self.home.path), "config": config}
        write_json(folder.config, document | order)
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "engine.worker", str(folder.path)], cwd=ROOT)
        peak = [0.0]
        watcher = threading.Thread(target=_watch, args=(process, peak))
        watcher.start()
        process.wait()
        seconds = time.perf_counter() - began
        watcher.join()
        outcome = read_json(folder.result) or {"status": "lost"}
        if outcome["status"] != "finished":
            raise SystemExit(f"The job {kind} ended {outcome['status']}: {outcome.get('error')}")
        return outcome["result"] | {"wall_seconds": seconds, "peak_gib": peak[0]}


def _watch(process: subprocess.Popen[bytes], peak: list[float]) -> None:
    """Track the peak memory of the process and its children together, in GiB."""
    while process.poll() is None:
        total = 0
        try:
            top = psutil.Process(process.pid)
            for member in (top, *top.children(recursive=True)):
                total += member.memory_info().rss
        except psutil.NoSuchProcess:
            pass
        peak[0] = max(peak[0], total / 2**30)
        time.sleep(0.05)


def imported(bench: Bench) -> list[Figure]:
    """Measure the import. The time limit applies to a million rows and scales with their number."""
    size = bench.file.stat().st_size
    result = bench.dataset
    rows, seconds = result["row_count"], result["wall_seconds"]
    return [
        Figure("rows", rows, limit=bench.options.rows),
        Figure("size of the file", size / 1e6, "MB"),
        Figure("time", seconds, "s", IMPORT_SECONDS * rows / 1e6, "≤", 1),
        Figure("peak memory of the worker", result["peak_gib"], "GiB", IMPORT_GIB, "≤", 2),
        Figure("rows a second", rows / seconds),
    ]


def measured(bench: Bench) -> list[Figure]:
    """Measure the groups that need only the rows, as processes from start to end."""
    dataset = {"dataset_id": "d", "fingerprint": bench.dataset["fingerprint"], "kind": "chat", "signals": {}}
    figures, seconds, peak = [], 0.0, 0.0
    for group in ("text", "privacy"):
        result = bench.work("profile", {"dataset": "d", "group": group}, dataset=dataset, parent=None)
        seconds += result["wall_seconds"]
        peak = max(peak, result["peak_gib"])
        figures.append(Figure(f"{group}: rows a second", result["row_count"] / result["wall_seconds"]))
    rows = bench.dataset["row_count"]
    cores = len(os.sched_getaffinity(0))
    return [
        *figures,
        Figure(f"both groups on {cores} cores: rows a second", rows / seconds, limit=ROWS_A_SECOND),
        Figure("peak memory of a worker and its children", peak, "GiB", IMPORT_GIB, "≤", 2),
    ]


def measure(bench: Bench, names: list[str]) -> list[Section]:
    """Measure the requested sections, in the order of the table."""
    sections = []
    for name in names:
        title, module, function = SECTIONS[name]
        act: Callable[[Bench], list[Figure]] = getattr(importlib.import_module(module), function)
        try:
            sections.append(Section(title, act(bench)))
        except Skipped as reason:
            sections.append(Section(title, [], str(reason)))
        if not bench.options.json:
            sections[-1].show()
    return sections


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)}; all of them")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--pii", type=Path, help="texts with labelled spans, as presidio-research has them")
    parser.add_argument("--languages", type=Path, help="JSONL of texts with lang_file, the ISO 639-3 code")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    unknown = [name for name in options.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"there is no section {unknown[0]}; there is {', '.join(SECTIONS)}")
    folder = Path(tempfile.mkdtemp(prefix="tunebench-bench-"))
    try:
        sections = measure(Bench(folder, options), options.sections or list(SECTIONS))
    finally:
        shutil.rmtree(folder)
    if options.json:
        print(as_json(sections))
    return 1 if any(figure.missed for section in sections for figure in section.figures) else 0


if __name__ == "__main__":
    sys.exit(main())
