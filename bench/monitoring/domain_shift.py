"""Requests of another domain raise an alert, and as many of the same domain don't.

python bench/monitoring/domain_shift.py SAME.csv OTHER.tsv [--streams 20] [--length 1000]

Both files have a text per line: a CSV with a column `text`, and lines of `label TAB text`. Each stream is
written as the log of an endpoint, ingested, measured and tested as by the engine: the first 300 requests
are the reference, and nine days of the same kind come before the change. Prints for each kind of stream
how many raised an alert, of which kind, and after how many requests.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.made.monitored import Monitored
from bench.made.request_log import Traffic, append, request_lines
from engine.monitoring.drift import compute_log_threshold
from store.monitoring.config import WATCHED_NAMES

REFERENCE = 300
EVERY = 600.0  # seconds between two requests
QUIET = round(9 * 86_400 / EVERY)  # requests of a partial day, the first week, and a day


def texts_of(path: Path) -> list[str]:
    """Return the texts of a file."""
    with open(path, encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            return [row["text"] for row in csv.DictReader(file)]
        return [line.rstrip("\n").partition("\t")[2] for line in file if "\t" in line]


def first_alarm(texts: list[str], seed: int) -> tuple[int, str] | None:
    """Return the number of requests after the change until the first alarm, and its subject; None if there is
    none.
    """
    rng = np.random.default_rng(seed)
    answers = [f"I can help with that: {text[:40]}" for text in texts]
    with tempfile.TemporaryDirectory() as folder:
        monitored = Monitored(Path(folder), "endpoint-1", "Intents")
        append(
            monitored.log / "requests-000000.jsonl",
            request_lines(texts, answers, Traffic(failing=0, every=EVERY), rng),
        )
        monitored.catch_up()
        alarms = [
            (state.alarm_place - REFERENCE - QUIET, state.name)
            for state in monitored.monitor().states
            if state.alarm_place is not None
        ]
        monitored.close()
    return min(alarms) if alarms else None


def main() -> int:
    """Print a line for each kind of stream; return 1 if more than 1 in 10 streams of the same domain raise an
    alarm, or one of the other doesn't.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("same", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--length", type=int, default=1_000)
    options = parser.parse_args()
    same, other = texts_of(options.same), texts_of(options.other)
    print(
        f"threshold e^{compute_log_threshold(0.05, len(WATCHED_NAMES)):.2f};"
        f" {options.length} requests after {REFERENCE + QUIET}"
    )
    alarms: dict[str, list[tuple[int, str] | None]] = {"same": [], "other": []}
    for seed in range(options.streams):
        rng = np.random.default_rng(seed)
        drawn = list(rng.permutation(same)[: REFERENCE + QUIET + options.length])
        new = list(rng.permutation(other)[: options.length])
        alarms["same"].append(first_alarm([str(text) for text in drawn], seed))
        changed = [*drawn[: REFERENCE + QUIET], *new]
        alarms["other"].append(first_alarm([str(text) for text in changed], seed))
    for kind, seen in alarms.items():
        raised = [alarm for alarm in seen if alarm]
        delays = sorted(delay for delay, _ in raised)
        what = ", ".join(
            f"{name} {count}" for name, count in Counter(name for _, name in raised).most_common()
        )
        middle = f", median after {delays[len(delays) // 2]} requests, first by {what}" if raised else ""
        print(f"{kind} domain: {len(raised)} of {len(seen)} streams raised an alarm{middle}")
    wrong = sum(alarm is not None for alarm in alarms["same"]) > options.streams / 10
    return int(wrong or None in alarms["other"])


if __name__ == "__main__":
    sys.exit(main())
