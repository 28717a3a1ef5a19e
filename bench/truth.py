"""Do intervals cover and tests keep their level where the truth is known?

    python bench/truth.py [--only TOPIC …] [--share 1.0]

Prints a table of nominal and observed rates, and exits with 1 where one is off. `--share 0.1` takes a tenth
of the draws, for a first look: the bands are meant for all of them.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")  # a process a core

from bench.truths import Observed, Rate, observe  # noqa: E402

TRUTHS = "bench.truths"


def topics(folder: str = TRUTHS) -> list[str]:
    """The files of simulations."""
    return sorted(module.name for module in pkgutil.iter_modules(importlib.import_module(folder).__path__))


def rates(topic: str, folder: str = TRUTHS) -> list[Rate]:
    """The rates of one of them."""
    return list(importlib.import_module(f"{folder}.{topic}").RATES)


def _observe(folder: str, topic: str, place: int, share: float) -> tuple[float, int]:
    rate = rates(topic, folder)[place]
    observed = observe(rate, max(20, round(rate.draws * share)))
    return observed.share, observed.counted


def table(chosen: Sequence[str], share: float, folder: str = TRUTHS) -> int:
    """Prints the rates of these topics, nominal and observed; how many are off."""
    print("| what | draws | nominal | band | observed | |\n|---|---|---|---|---|---|")
    off = 0
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        answers = [
            (rate, pool.submit(_observe, folder, topic, place, share))
            for topic in chosen
            for place, rate in enumerate(rates(topic, folder))
        ]
        for rate, answer in answers:
            observed = Observed(rate, *answer.result())
            off += not observed.holds
            print(
                f"| {rate.topic}: {rate.name} | {observed.counted:,} | {100 * rate.nominal:g}% | "
                f"{100 * rate.low:g} to {100 * rate.high:g}% | {100 * observed.share:.1f}% | "
                f"{'holds' if observed.holds else '**off**'} |",
                flush=True,
            )
    print(f"\n{off} of {len(answers)} rates are off." if off else f"\nAll {len(answers)} rates hold.")
    return off


def main() -> int:
    """The table; 1 where a rate is off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=topics(), default=topics())
    parser.add_argument("--share", type=float, default=1.0)
    options = parser.parse_args()
    return 1 if table(options.only, options.share) else 0


if __name__ == "__main__":
    sys.exit(main())
