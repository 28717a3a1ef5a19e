"""Near duplicates among short texts: recall by length, false matches, and speed.

    python bench/detection/short_texts.py [--file NAME=FILE ...] [--whole] [--held 5000]
        [--rows 100000] [--json]

Rows made from a template that differ only in its fields are no near duplicates. A tenth of such rows is
copied with a word of the template itself changed; precision is the share of all pairs found that are such
a copy with its original.

Texts of a set are copied with one word changed: mistyped, replaced, dropped, inserted, or moved by one
place. Recall is the share of copies that match their original. Unchanged texts count as false matches if
they match one with another answer or label; a few of these are repeats that somebody labeled differently.
A FILE is JSON, JSON lines or CSV with a question or a text, and an answer or a label. By default the
titles in the documentation in Python are used, which differ only in a name: they have no limits. Questions
are compared alone, or with --whole together with their answers, as rows are. The time is the processor
time of one whole search, held-out texts against training texts of 300 characters, a fifth of them short:
other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from bench.detection.duplicates import texts
from bench.detection.reworded import Row, documentation, rows_of
from bench.report import Figure, Section, as_json
from engine.data.similarity.minhash_clusters import Sketches, find_clusters
from engine.data.similarity.text_overlap import find_short_pairs, split_words

LENGTHS = ((4, 5), (6, 7), (8, 8), (9, 12), (13, 20), (21, 32))  # ranges of words per text
WAYS = ("mistyped", "replaced", "dropped", "put in", "moved")
MIN_RECALL = 0.85  # for copies of 6 to 12 words
MAX_FALSE = 0.12  # share of unchanged texts of 4 to 12 words
MAX_SECONDS = 30.0  # processor time of a whole search
MIN_PRECISION = 0.95  # for pairs among rows of a template
THRESHOLD, BATCH = 0.7, 4_000
NOUNS = ["cat", "dog", "house", "car", "boat", "tree", "book", "lamp", "chair", "table"]
ADJECTIVES = ["red", "blue", "green", "big", "small", "old", "new"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July"]
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def _adjective(draw: random.Random) -> str:
    noun, stated, asked = draw.choice(NOUNS), draw.choice(ADJECTIVES), draw.choice(ADJECTIVES)
    return f"The {noun} is {stated}. Is the {noun} {asked}? {'yes' if stated == asked else 'no'}"


def _timer(draw: random.Random) -> str:
    return f"Set a timer for {draw.randint(1, 59)} minutes and {draw.randint(0, 59)} seconds"


def _alarm(draw: random.Random) -> str:
    return f"Set an alarm for {draw.randint(1, 23)}:{draw.randint(0, 59):02} tomorrow"


def _weekday(draw: random.Random) -> str:
    date = f"{draw.randint(1, 28)} {draw.choice(MONTHS)} {draw.randint(1900, 2019)}"
    return f"What day of the week was {date}? It was a {draw.choice(WEEKDAYS)}."


TEMPLATES: dict[str, Callable[[random.Random], str]] = {
    "adjectives": _adjective, "timers": _timer, "alarms": _alarm, "weekdays": _weekday,
}  # fmt: skip


def of_template(make: Callable[[random.Random], str], most: int, seed: int = 1) -> list[str]:
    """Return the distinct rows among `most` draws of a template."""
    draw = random.Random(seed)
    return list(dict.fromkeys(make(draw) for _ in range(most)))


def reworded(rows: list[str], seed: int = 2) -> tuple[list[str], set[tuple[int, int]]]:
    """Return the rows followed by copies of a tenth of them with one word of the template changed, and the
    index pairs of originals and copies.
    """
    draw = random.Random(seed)
    often = Counter(word for row in rows for word in set(row.split()))
    fixed = {word for word, count in often.items() if count == len(rows) and len(word) > 2}
    chosen = draw.sample(range(len(rows)), len(rows) // 10)
    copies = [
        re.sub(
            rf"\b{draw.choice(sorted(fixed & set(rows[place].split())))}\b", "otherwise", rows[place], count=1
        )
        for place in chosen
    ]
    return [*rows, *copies], {(place, len(rows) + number) for number, place in enumerate(chosen)}


def templates() -> list[Figure]:
    """Measure, for each template, how many rows match another one, with and without copies among them."""
    figures = []
    for name, make in TEMPLATES.items():
        rows = of_template(make, 3_000)
        matched = np.unique(np.concatenate(find_short_pairs(rows)[:2]))
        mixed, copied = reworded(rows)
        pairs = set(zip(*(each.tolist() for each in find_short_pairs(mixed)[:2]), strict=True))
        precision = len(pairs & copied) / max(1, len(pairs))
        shares = (
            ("rows that match another", len(matched) / len(rows), 0.01, "≤"),
            ("precision beside copies", precision, MIN_PRECISION, "≥"),
            ("copies found", len(pairs & copied) / len(copied), None, "≥"),
        )
        figures += [
            Figure(f"{name}: {title}", value, "", limit, way, 3) for title, value, limit, way in shares
        ]
    return figures


def changed(text: str, way: str, draw: random.Random, vocabulary: list[str]) -> str:
    """Return the text with one word changed."""
    words = text.split()
    place = draw.randrange(len(words))
    if way == "mistyped":
        longest = max(range(len(words)), key=lambda at: (len(words[at]) > 3, draw.random()))
        letters = list(words[longest])
        at = draw.randrange(max(1, len(letters) - 1))
        letters[at : at + 2] = letters[at : at + 2][::-1]
        words[longest] = "".join(letters)
    elif way == "replaced":
        words[place] = draw.choice(vocabulary)
    elif way == "dropped":
        del words[place]
    elif way == "put in":
        words.insert(place, draw.choice(vocabulary))
    else:
        other = max(0, place - 1)
        words[other], words[place] = words[place], words[other]
    return " ".join(words)


def measured(name: str, rows: list[Row], limited: bool, most: int = 4_000) -> list[Figure]:
    """Measure recall by length over all kinds of changes, and false matches by length; `limited`: whether
    limits apply.
    """
    draw = random.Random(3)
    draw.shuffle(rows)
    rows = rows[:most]
    vocabulary = [word for row in rows for word in row.question.split()]
    figures = []
    for least, longest in LENGTHS:
        chosen = [row for row in rows if least <= len(split_words(row.question)) <= longest][:300]
        if len(chosen) < 50:
            continue
        recall = np.mean([_recall(chosen, rows, way, draw, vocabulary) for way in WAYS])
        limit = MIN_RECALL if limited and least in (6, 8, 9) else None
        title = f"{name}, {least} to {longest} words"
        figures.append(Figure(f"{title}: copies found", float(recall), "", limit, "≥", 3))
        limit = MAX_FALSE if limited and longest <= 12 else None
        figures.append(Figure(f"{title}: matched for nothing", _false(chosen, rows), "", limit, "≤", 3))
    return figures


def _recall(
    chosen: list[Row], rows: list[Row], way: str, draw: random.Random, vocabulary: list[str]
) -> float:
    copies = [changed(row.question, way, draw, vocabulary) for row in chosen]
    everything = [row.question for row in rows]
    place = {text: number for number, text in enumerate(everything)}
    side = np.repeat([0, 1], [len(copies), len(everything)])
    first, second, _ = find_short_pairs([*copies, *everything], side=side)
    pairs = set(zip(first.tolist(), (second - len(copies)).tolist(), strict=True))
    hits = [
        copies[number] == row.question or (number, place[row.question]) in pairs
        for number, row in enumerate(chosen)
    ]
    return float(np.mean(hits))


def _false(chosen: list[Row], rows: list[Row]) -> float:
    """Return the share of texts that match one with another answer."""
    first, second, _ = find_short_pairs([row.question for row in rows])
    other = [rows[a].answer != rows[b].answer for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    apart = np.array(other, bool)
    wrong = {rows[place].question for place in np.concatenate([first[apart], second[apart]]).tolist()}
    return float(np.mean([row.question in wrong for row in chosen]))


def timed(held: int, rows: int) -> list[Figure]:
    """Measure one search as for two data sets: from texts to verified pairs."""
    made = [text if at % 5 else " ".join(text.split()[:10]) for at, text in enumerate(texts(rows, seed=1))]
    everything = [*made[:held], *made]
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder, Sketches(THRESHOLD, Path(folder)) as sketches:
        for begin in range(0, len(everything), BATCH):
            sketches.add(sketches.sketch(everything[begin : begin + BATCH]))
        sketches.close()
        side = np.repeat([0, 1], [held, rows])
        pairs = find_clusters(sketches, lambda done, total: None, side).all_pairs()
    seconds = time.process_time() - began
    share = len(np.unique(pairs[0][pairs[0] < held])) / held
    name = f"{held:,} held-out texts against {rows:,}"  # training texts that contain them unchanged
    return [
        Figure(f"{name}: seconds of the processor", seconds, "s", MAX_SECONDS, "≤", 1),
        Figure(f"{name}: share found", share, "", 0.99, "≥", 3),
    ]


def main() -> int:
    """Measure every file, or the documentation of Python."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--file", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--whole", action="store_true", help="compare questions with their answers")
    parser.add_argument("--held", type=int, default=5_000)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    files = [line.split("=", 1) for line in options.file]
    sets = {name: rows_of(Path(path)) for name, path in files} or {"documentation": documentation()}
    if options.whole:
        sets = {
            name: [Row(f"{row.question} {row.answer}", row.answer) for row in rows]
            for name, rows in sets.items()
        }
    figures = [each for name, rows in sets.items() for each in measured(name, rows, bool(files))]
    section = Section(
        "Near duplicates among short texts", [*figures, *templates(), *timed(options.held, options.rows)]
    )
    if options.json:
        print(as_json([section]))
    else:
        section.show()
    return int(any(figure.missed for figure in section.figures))


if __name__ == "__main__":
    sys.exit(main())
