"""Response times with a million rows: a page, a filter, a histogram, over HTTP from a real engine.

Rows are generated here: questions and answers of words drawn by seed, with sidecars of the signals of
texts and duplicates in the documented columns. An engine process serves them as `python -m engine` does,
while this process sends requests as a screen does, each with new values.

    python bench/load/explore.py [--rows 1000000] [--rounds 12] [--json]

Limit: 500 ms at the 95th percentile for a filter (counting its rows and returning the first page) and for
a histogram with and without a filter; the exit code is 1 if one is missed. Columns of the file are
extracted from their JSON; a column with a different value in every row is shown without a limit.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from bench.made.million_rows import FINGERPRINT, LANGUAGES, make
from bench.report import ended
from store.core.errors import EngineUnavailable
from store.core.home import Home
from store.data import datasets, exploration, histogram
from store.data.filters import Condition, Filter
from store.http.client import Client

P95_MS = 500.0


@contextmanager
def engine(home: Home) -> Iterator[Client]:
    """Run an engine process on `home` during the block."""
    environment = {**os.environ, "TUNEBENCH_HOME": str(home.path), "TUNEBENCH_NO_SAMPLE": "1"}
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen([sys.executable, "-m", "engine"], cwd=root, env=environment)
    client = Client(home)
    try:
        for _ in range(600):
            try:
                client.health()
                break
            except EngineUnavailable:
                time.sleep(0.1)
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(30)


def questions(client: Client, rows: exploration.DatasetTable) -> dict[str, Callable[[int], Any]]:
    """Return the queries of a round by name; each round queries other values."""

    def filtered(where: Filter) -> int:
        count, first = exploration.find(client, rows, where)
        exploration.values_of(client, rows, first, ["prompt", "answer"], shorten=exploration.EXCERPT)
        return count

    def on(*conditions: tuple[str, Any, Any]) -> Filter:
        return Filter(conditions=[Condition(column=c, op=op, value=v) for c, op, v in conditions])

    def shape(names: list[str], where: Filter) -> Any:
        return histogram.facets(client, rows, names, where)

    total = int(rows.dataset.row_count)
    names = ("prompt", "answer")
    flagged = on(("truncated", "is", True))
    return {
        "page, anywhere": lambda i: exploration.page(
            client, rows, Filter(), exploration.TablePage(names, offset=i * total // 13)
        ),
        "page, sorted by a signal": lambda i: exploration.page(
            client,
            rows,
            Filter(),
            exploration.TablePage(names, exploration.Sort("characters", descending=True), offset=20 * i),
        ),
        "filter, one signal": lambda i: filtered(on(("characters", ">", 200 + 10 * i))),
        "filter, signals of two groups": lambda i: filtered(
            on(("language", "is", LANGUAGES[i % 5]), ("conflict", "is", True), ("characters", ">", 100 + i))
        ),
        "filter, search in the text": lambda i: filtered(Filter(search=f"{'abcdefghijklm'[i % 13]}x")),
        "filter, search and a signal": lambda i: filtered(
            Filter(search=f"{'abcdefghijklm'[i % 13]}y", conditions=flagged.conditions)
        ),
        "filter, regular expression": lambda i: filtered(Filter(regex=f"^{'abcdefghijklm'[i % 13]}[a-z]+ x")),
        "histogram of a number": lambda i: shape(["characters"], Filter()),
        "histogram of a category": lambda i: shape(["language"], Filter()),
        "histogram of groups": lambda i: shape(["near_group"], Filter()),
        "histogram, filtered by a signal": lambda i: shape(["characters"], on(("repetition", ">", i / 20))),
        "histogram, filtered by a search": lambda i: shape(
            ["characters"], Filter(search=f"{'abcdefghijklm'[i % 13]}z")
        ),
        "filter on a column of the file": lambda i: filtered(on(("source.rating", ">", i % 9))),
        "histogram of words of the file": lambda i: shape(["source.topic"], Filter()),
        "histogram of a number of the file": lambda i: shape(["source.rating"], Filter()),
        "four histograms, filtered": lambda i: shape(
            ["language", "characters", "answer_characters", "truncated"], on(("repetition", ">", i / 20))
        ),
    }  # fmt: skip


def aside(client: Client, rows: exploration.DatasetTable) -> dict[str, Callable[[int], Any]]:
    """Return the queries without a limit: every value is unique, which no chart can show."""
    return {
        "histogram of a text of the file": lambda i: histogram.facets(
            client, rows, ["source.prompt"], Filter()
        ),
    }


def measure(home: Home, count: int, rounds: int) -> dict[str, Any]:
    """Return the median and the 95th percentile of every query, in milliseconds."""
    make(home, count)
    figures: dict[str, Any] = {"rows": count, "megabytes": home.rows(FINGERPRINT).stat().st_size / 1e6}
    with engine(home) as client:
        dataset = datasets.get_dataset(client, "data-bench")
        measured = datasets.signals(client, FINGERPRINT)
        columns = exploration.columns(dataset, measured, exploration.example_row(client, dataset))
        rows = exploration.DatasetTable(dataset, measured, columns)
        for limited, asked in ((True, questions(client, rows)), (False, aside(client, rows))):
            for name, ask in asked.items():
                seconds = []
                for i in range(rounds if limited else 3):
                    began = time.perf_counter()
                    ask(i)
                    seconds.append(time.perf_counter() - began)
                p50, p95 = (float(np.percentile(seconds, q)) * 1000 for q in (50, 95))
                figures[name] = {"p50_ms": p50, "p95_ms": p95, "limit_ms": P95_MS if limited else None}
    return figures


def missed(figures: dict[str, Any]) -> list[str]:
    """Return the limits that the figures miss."""
    return [
        f"{name}: {row['p95_ms']:.0f} ms at the 95th percentile are not under {row['limit_ms']:g}"
        for name, row in figures.items()
        if isinstance(row, dict) and row["limit_ms"] and row["p95_ms"] >= row["limit_ms"]
    ]


def show(figures: dict[str, Any]) -> None:
    """Print the figures as a table."""
    print(f"{figures['rows']:,} rows, {figures['megabytes']:.0f} MB of Parquet")
    print(f"{'':<40}{'p50 (ms)':>10}{'p95 (ms)':>10}{'limit':>10}")
    for name, row in figures.items():
        if isinstance(row, dict):
            limit = f"< {row['limit_ms']:g}" if row["limit_ms"] else ""
            print(f"{name:<40}{row['p50_ms']:>10.0f}{row['p95_ms']:>10.0f}{limit:>10}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tunebench-bench-"))
    try:
        figures = measure(Home(folder).create(), arguments.rows, arguments.rounds)
    finally:
        shutil.rmtree(folder)
    return ended(figures, missed(figures), show, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
