"""Coverage of intervals and level of tests in simulations whose truth is known.

    python bench/truth.py [--only TOPIC …] [--share 1.0] [--write]

Prints a table of nominal and observed rates, and exits with 1 if one is off. `--share 0.1` uses a tenth of
the draws, for a first look: the bands are meant for all of them. `--write` stores the results, with date
and commit, for the page of the app and docs/truth.md; topics that are not measured are not changed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import pkgutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")  # one process per core

from bench.truths import Observed, Rate, observe  # noqa: E402
from store.core.errors import StateError  # noqa: E402
from store.core.job_folder import write_atomically  # noqa: E402
from store.documentation import reference_tables  # noqa: E402
from store.evaluation import simulated_truth  # noqa: E402
from store.evaluation.schemas import SimulatedRate, SimulatedTopic, SimulatedTruth  # noqa: E402

FOLDERS = ("bench.truths", "bench.ratings")


class Measured(NamedTuple):
    """An observed rate of a topic, and the seconds of one core that it took."""

    topic: str
    observed: Observed
    seconds: float


class Stamp(NamedTuple):
    """Date, commit and share of the draws of a measurement."""

    date: str
    commit: str
    share: float


def modules(*folders: str) -> dict[str, str]:
    """Return the simulation modules by topic. Topics are unique across all folders and their subfolders."""
    named = [
        (module.name.rpartition(".")[2], module.name)
        for folder in folders or FOLDERS
        for module in pkgutil.walk_packages(importlib.import_module(folder).__path__, f"{folder}.")
        if not module.ispkg
    ]
    return dict(sorted(named))


def rates(topic: str) -> list[Rate]:
    """Return the rates of a topic."""
    return list(importlib.import_module(modules()[topic]).RATES)


def about(topic: str) -> str:
    """Return the first paragraph of a topic's module docstring."""
    first, *_ = (importlib.import_module(modules()[topic]).__doc__ or "").split("\n\n")
    return " ".join(first.split())


def _observe(topic: str, place: int, share: float) -> tuple[float, int, float]:
    rate, start = rates(topic)[place], time.process_time()
    observed = observe(rate, max(1, round(rate.draws * share)))
    return observed.share, observed.counted, time.process_time() - start


def measure(chosen: Sequence[str], share: float) -> Iterator[Measured]:
    """Measure the rates of these topics, in their order."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        answers = [
            (topic, rate, pool.submit(_observe, topic, place, share))
            for topic in chosen
            for place, rate in enumerate(rates(topic))
        ]
        for topic, rate, answer in answers:
            observed, counted, seconds = answer.result()
            yield Measured(topic, Observed(rate, observed, counted), seconds)


def show(measured: Measured) -> Measured:
    """Print the row of a rate and return it."""
    rate, observed = measured.observed.rate, measured.observed
    print(
        f"| {rate.topic}: {rate.name} | {observed.counted:,} | {100 * rate.nominal:g}% | "
        f"{100 * rate.low:g} to {100 * rate.high:g}% | {100 * observed.share:.1f}% | "
        f"{'holds' if observed.holds else '**off**'} |",
        flush=True,
    )
    return measured


def table(chosen: Sequence[str], share: float, stamp: Stamp | None = None) -> int:
    """Print the rates of these topics, nominal and observed; return how many are off. With a stamp, each
    topic is written as soon as it is measured.
    """
    print("| what | draws | nominal | band | observed | |\n|---|---|---|---|---|---|")
    off = total = 0
    for topic, group in groupby(measure(chosen, share), key=lambda measured: measured.topic):
        of_topic = [show(measured) for measured in group]
        off += sum(not measured.observed.holds for measured in of_topic)
        total += len(of_topic)
        if stamp:
            write(merged(simulated_truth.read(), as_topic(topic, of_topic, stamp), modules()))
    print(f"\n{off} of {total} rates are off." if off else f"\nAll {total} rates hold.")
    return off


def as_topic(topic: str, of_topic: Sequence[Measured], stamp: Stamp) -> SimulatedTopic:
    """Return the stored form of a topic."""
    return {
        **{"topic": topic, "about": about(topic), "date": stamp.date, "commit": stamp.commit},
        **{"share": stamp.share, "seconds": round(sum(measured.seconds for measured in of_topic), 1)},
        "rates": [as_rate(measured.observed) for measured in of_topic],
    }


def as_rate(observed: Observed) -> SimulatedRate:
    """Return the stored form of a rate."""
    rate, share = observed.rate, observed.share
    return {
        **{"name": rate.name, "draws": observed.counted, "nominal": rate.nominal, "low": rate.low},
        **{"high": rate.high, "observed": None if math.isnan(share) else round(share, 6)},
        "holds": observed.holds,
    }


def merged(
    truth: SimulatedTruth, topic: SimulatedTopic, topics: Sequence[str] | dict[str, str]
) -> SimulatedTruth:
    """Return the results with this topic replaced, without topics that no longer exist."""
    kept = {old["topic"]: old for old in truth["topics"] if old["topic"] in topics}
    return {"topics": [entry for _, entry in sorted((kept | {topic["topic"]: topic}).items())]}


def write(truth: SimulatedTruth) -> None:
    """Write the file of the package, one line per rate, atomically."""
    with write_atomically(simulated_truth.PATH) as aside:
        aside.write_text(as_text(truth), "utf-8")


def as_text(truth: SimulatedTruth) -> str:
    """Format as JSON with one line per rate, so that a diff shows what changed."""
    topics = []
    for topic in truth["topics"]:
        head = json.dumps({key: value for key, value in topic.items() if key != "rates"}, ensure_ascii=False)
        lines = ",\n".join(json.dumps(rate, ensure_ascii=False) for rate in topic["rates"])
        topics.append(f'{head[:-1]}, "rates": [\n{lines}\n]}}')
    return '{"topics": [\n' + ",\n".join(topics) + "\n]}\n"


def commit_of(root: Path, dirty: bool) -> str:
    """Return the commit of the measured code. Raises StateError if files differ from it, unless `dirty`;
    files written by this command are ignored.
    """

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True).stdout

    own = [f":(exclude){path}" for path in (simulated_truth.PATH.relative_to(ROOT), "docs/truth.md")]
    changed = git("status", "--porcelain", "--", ".", *own).splitlines()
    if changed and not dirty:
        first = changed[0][3:]
        raise StateError(
            f"{len(changed)} files differ from the last commit, such as {first}, so that figures would name "
            "a commit that they are not of.",
            fix="Commit them, or write with --dirty, which marks the commit.",
        )
    return git("rev-parse", "--short", "HEAD").strip() + ("-dirty" if changed else "")


def main() -> int:
    """Print the table; return 1 if a rate is off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=[*modules()], default=[*modules()])
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--dirty", action="store_true", help="write though files differ from the last commit")
    options = parser.parse_args()
    stamp = None
    if options.write:
        try:
            commit = commit_of(ROOT, options.dirty)
        except StateError as error:
            parser.error(str(error))
        stamp = Stamp(datetime.now(UTC).date().isoformat(), commit, options.share)
    off = table(options.only, options.share, stamp)
    if stamp:
        reference_tables.main()
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
