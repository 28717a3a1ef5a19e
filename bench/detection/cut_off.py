"""Recall and false alarms of the detection of cut-off responses, on files not used for tuning it.

    python bench/detection/cut_off.py FILE=COLUMN [FILE=COLUMN ...] [--builtin] [--share 0.2] [--seed 7]

A share of a column's texts (of a text file, its paragraphs) with at least four words is cut, half of them
between words and half anywhere, never in the first fifth. The data set's usual endings are learned from
cut and whole ones together, as in a real measurement. There are no limits: the table shows what to expect.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from engine.data.readers.file_rows import SkippedRow
from engine.data.readers.source_reader import open_source
from engine.data.signals.text_checks import SENTENCE_WORDS, is_truncated, learn_endings
from engine.data.signals.text_signals import LEARNING_ROWS
from engine.evaluation.statistics.intervals import wilson_interval
from store.core.formatting import percent
from store.core.home import Home
from store.data.config import Source


class Counts(NamedTuple):
    """Results for one data set: numbers of cut texts, detected ones, whole texts and false alarms, and the
    usual ending.
    """

    cut: int
    detected: int
    whole: int
    alarms: int
    habit: str


def count(texts: Iterable[str], share: float, seed: int) -> Counts:
    """Cut off a share of the texts that have at least four words, and count the detected ones."""
    draw = random.Random(seed)
    texts = [text.strip() for text in texts if len(text.split()) >= SENTENCE_WORDS]
    cut = [draw.random() < share for _ in texts]
    made = [cut_off(text, draw) if here else text for text, here in zip(texts, cut, strict=True)]
    endings = learn_endings(made[:LEARNING_ROWS])
    flagged = [is_truncated(text, endings) for text in made]
    both = list(zip(cut, flagged, strict=True))
    return Counts(
        sum(cut),
        sum(called for here, called in both if here),
        len(texts) - sum(cut),
        sum(called for here, called in both if not here),
        endings.words,
    )


def cut_off(text: str, draw: random.Random) -> str:
    """Return the beginning of a text: at least a fifth of it, never all."""
    if draw.random() < 0.5:
        words = text.split(" ")
        most = len(words) - 1
        return (
            " ".join(words[: draw.randint(min(max(1, len(words) // 5), most), most)]) if most else text[:-1]
        )
    return text[: draw.randint(max(1, len(text) // 5), len(text) - 1)]


def read(source: Source, column: str) -> list[str]:
    """Return the texts of a column."""
    with tempfile.TemporaryDirectory() as folder:
        reader = open_source(Home(Path(folder)).create(), source)
        rows = [row for _, row in reader.rows() if not isinstance(row, SkippedRow)]
    return [text for row in rows if isinstance(text := row.get(column), str) and text.strip()]


def line(name: str, counts: Counts) -> str:
    """Format one row of the table in docs/benchmarks.md."""
    detected, alarms = _share(counts.detected, counts.cut), _share(counts.alarms, counts.whole)
    return f"| {name} | {counts.cut:,} | {detected} | {counts.whole:,} | {alarms} | {counts.habit} |"


def _share(some: int, n: int) -> str:
    if not n:
        return "none"
    share = wilson_interval(some, n)
    return f"{percent(share.value)} ({percent(share.low or 0)} to {percent(share.high or 0)})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="*", metavar="FILE=COLUMN")
    parser.add_argument("--builtin", action="store_true", help="the documentation inside Python, too")
    parser.add_argument("--share", type=float, default=0.2, help="of the texts that are cut")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    print("| set | cut | found (95%) | whole | called cut off (95%) | endings |\n|---|---|---|---|---|---|")
    sets = [argument.rpartition("=")[::2] for argument in options.sets]
    named = [
        (f"{Path(file).stem}, {column}", Source(path=str(Path(file).resolve())), column)
        for file, column in sets
    ]
    if options.builtin:
        named.append(("Python's documentation", Source(builtin="python"), "completion"))
    for name, source, column in named:
        print(line(name, count(read(source, column), options.share, options.seed)))


if __name__ == "__main__":
    main()
