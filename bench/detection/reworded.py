"""Held-out rows that get into training in other words, and rows excluded without need.

    python bench/detection/reworded.py [--file NAME=FILE ...] [--rows 300] [--json]
    python bench/detection/reworded.py --speed

A set of questions and answers is split into held-out, training and new rows. Some of the new rows are
held-out ones reworded by rules: framed, with other words, reordered, all of these, or half of the words
among others; with the same answer, with an answer in other words, or with half of it. Others are unchanged
rows of the set: they share its topics and its templates, and each one excluded is excluded without need
(or is the set's own repeat). A FILE is JSON, JSON lines or CSV; by default the documentation in Python is
used. The last figure bounds the effect of what slips through: a version that answers every slipped-through
held-out row right, and all others as before, seems better by at most that share of the repeated rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from bench.detection.duplicates import texts
from bench.report import Figure, Section, as_json
from engine.data.readers.named_datasets import BuiltinReader
from engine.data.signals.embeddings import EMBEDDED_CHARACTERS, embed
from engine.data.similarity.equality import normalise_text
from engine.data.similarity.text_overlap import TrigramWeights, split_words
from engine.retraining.paraphrases import (
    NEAREST,
    SAME_ANSWER,
    TIE,
    AnsweredQuestions,
    QuestionPairs,
    RepeatMatches,
    find_repeated,
    find_similar_questions,
    strip_template_words,
)
from store.retraining.config import MAX_LEAKAGE, MAX_LEAKAGE_SHORT, SHORT_ANSWER

SPEED_ROWS = (5_000, 20_000)
FASTER = 1.1  # minimum speed-up over full matrix products
MAX_MIB = 500.0  # beyond the texts and the embedding model
MIN_ROWS = 30  # minimum rows of one length for a share
QUESTIONS = ("question", "instruction", "prompt", "text")
ANSWERS = ("answer", "output", "completion", "category", "label")
OTHER_WORDS = {
    "what is": "which thing is", "what are": "which things are", "how many": "what number of",
    "explain": "describe", "describe": "give an account of", "list": "name", "name": "list",
    "give me": "provide", "write": "compose", "why": "for what reason", "big": "large", "biggest": "largest",
    "largest": "biggest", "difference between": "distinction of", "best": "finest", "buy": "purchase",
    "begin": "start", "start": "begin", "people": "persons", "use": "employ", "used": "employed",
    "make": "produce", "made": "produced", "famous": "well-known", "usually": "normally",
    "total": "overall", "each": "every", "card": "bank card", "money": "funds", "first": "earliest",
    "country": "nation", "called": "named", "sells": "trades", "gets": "receives", "does": "might",
    "return": "give back", "returns": "gives back", "create": "build", "following": "below",
}  # fmt: skip
FRAMES = ("Could you please tell me: {}", "I was wondering about this. {} Thanks!", "Quick question: {}",
          "A colleague asked me today: {} I need a good answer.", "Hello there, {}")  # fmt: skip
FILLERS = ("please", "really", "actually", "about", "again", "with", "somehow", "there", "would", "know",
           "some", "might", "still", "maybe", "think", "right", "thing", "kind", "ever", "then")  # fmt: skip
SWAPPED = {"therefore": "so", "because": "since", "usually": "normally", "can": "may", "very": "quite",
           "is": "would be", "many": "several", "are": "would be", "has": "holds", "also": "too"}  # fmt: skip


class Row(NamedTuple):
    """A question with its answer."""

    question: str
    answer: str


def framed(text: str, draw: random.Random) -> str:
    """Add a phrase before or after the text."""
    return draw.choice(FRAMES).format(text)


def other_words(text: str, draw: random.Random) -> str:
    """Replace words that have a synonym in the list."""
    for word, other in OTHER_WORDS.items():
        text = re.sub(rf"\b{word}\b", other, text, flags=re.IGNORECASE)
    return text


def turned(text: str, draw: random.Random) -> str:
    """Reorder the sentences, or swap the halves of a single one."""
    parts = [part for part in re.split(r"(?<=[.?!])\s+", text.strip()) if part]
    if len(parts) > 1:
        draw.shuffle(parts)
        return " ".join(parts)
    words = text.rstrip("?.! ").split()
    half = len(words) // 2
    return f"{' '.join(words[half:])}, {' '.join(words[:half])}?"


def every_way(text: str, draw: random.Random) -> str:
    """Apply all three."""
    return framed(turned(other_words(text, draw), draw), draw)


def in_other_words(answer: str, draw: random.Random) -> str:
    """Reorder the sentences of an answer and replace some of its words."""
    text = turned(answer, draw) if len(answer.split()) > 3 else answer
    for word, other in SWAPPED.items():
        text = re.sub(rf"\b{word}\b", other, text)
    return other_words(text, draw)


def half_of(answer: str, draw: random.Random) -> str:
    """Return half of the words of an answer with another ending."""
    words = answer.split()
    return " ".join([*words[: max(1, len(words) // 2)], "and so on, as far as I know."])


def told_anew(text: str, draw: random.Random) -> str:
    """Keep half of the words in their order and add as many filler words that occur in any question, like
    somebody who remembers the content of a question but not its wording.
    """
    words = text.split()
    kept = [word for word in words if draw.random() < 0.5] or words[:1]
    filled = [each if draw.random() < 0.2 else f"{each} {draw.choice(FILLERS)}" for each in kept]
    return f"{' '.join(filled)}?"


Way = Callable[[str, random.Random], str]
ASKED: dict[str, Way] = {
    "framed": framed, "other words": other_words, "turned round": turned, "all three": every_way,
    "told anew": told_anew,
}  # fmt: skip
TOLD: dict[str, Way] = {
    "same answer": lambda text, draw: text, "answer in other words": in_other_words,
    "half an answer": half_of,
}  # fmt: skip


def rows_of(path: Path) -> list[Row]:
    """Return the rows of a file, each question once."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        documents = list(csv.DictReader(text.splitlines()))
    elif path.suffix == ".json":
        documents = json.loads(text)
    else:
        documents = [json.loads(line) for line in text.splitlines() if line]
    return _distinct(_row(document) for document in documents)


def _row(document: dict[str, object]) -> Row:
    question, answer = (
        next(str(document[name]) for name in names if document.get(name)) for names in (QUESTIONS, ANSWERS)
    )
    return Row(f"{question}\n\n{document['input']}" if document.get("input") else question, answer)


def _distinct(rows: Iterator[Row]) -> list[Row]:
    return list({normalise_text(row.question): row for row in rows}.values())


def documentation() -> list[Row]:
    """Return the rows that the project makes from the documentation of the running Python."""
    return _distinct(
        Row(str(row["prompt"]), str(row["completion"]))
        for _, row in BuiltinReader().rows()
        if isinstance(row, dict)
    )


def measured(name: str, rows: list[Row], wanted: int) -> list[Figure]:
    """Measure recall by kind of rewording, rows excluded without need, and the bound on the effect of missed
    repeats.
    """
    draw = random.Random(5)
    draw.shuffle(rows)
    held, clean, train = rows[:wanted], rows[wanted : 2 * wanted], rows[2 * wanted :]
    labelled = len({row.answer for row in rows}) * 10 < len(rows)
    others = [normalise_text(row.answer) for row in train]
    figures = [Figure(f"{name}: rows held out, and clean new rows", len(held))]
    hits: list[np.ndarray] = []
    for manner, tell in TOLD.items():
        if labelled and manner != "same answer":
            continue
        for asked, ask in ASKED.items():
            new = [Row(ask(row.question, draw), tell(row.answer, draw)) for row in held]
            hits.append(_held_back(new, held, others, labelled))
            figures.append(Figure(f"{name}: {asked}, {manner}: found", float(hits[-1].mean()), digits=3))
    false = float(_held_back(clean, held, others, labelled).mean())
    figures.append(Figure(f"{name}: clean rows left out", false, digits=3))
    slipped = [1 - float(of_way.mean()) for of_way in hits]
    figures.append(Figure(f"{name}: slip through, over all ways", float(np.mean(slipped)), digits=3))
    worst, limit = max(slipped[: len(ASKED)]), None if labelled else MAX_LEAKAGE
    figures.append(Figure(f"{name}: slip through, worst way, same answer", worst, "", limit, "≤", 3))
    return figures if labelled else [*figures, *_by_length(name, held, hits)]


def _by_length(name: str, held: list[Row], hits: list[np.ndarray]) -> list[Figure]:
    """Measure the missed repeats of the worst kind by the length of the held-out answers, as shown on the
    card.
    """
    short = np.array([len(split_words(row.answer)) < SHORT_ANSWER for row in held], bool)
    kinds = (
        (f"{SHORT_ANSWER} words or more", ~short, MAX_LEAKAGE),
        (f"under {SHORT_ANSWER} words", short, MAX_LEAKAGE_SHORT),
    )
    return [
        Figure(
            f"{name}: slip through, worst way, answers of {words} (n {of_kind.sum()})",
            max(1 - float(of_way[of_kind].mean()) for of_way in hits), "", limit, "≤", 3,
        )
        for words, of_kind, limit in kinds
        if of_kind.sum() >= MIN_ROWS
    ]  # fmt: skip


def straightforward(new: list[str], held: list[str]) -> QuestionPairs:
    """Find the same as `paraphrases` by complete matrix products: every cosine of 256 questions with all
    held-out ones, and the `NEAREST` of each by either measure.
    """
    asked = [text[:EMBEDDED_CHARACTERS] for text in (*new, *held)]
    weights, count = TrigramWeights(asked).rows, len(new)
    vectors = embed(pa.array(strip_template_words(asked), pa.large_string()))
    across, nearest, parts = csr_array(weights[count:].T), min(NEAREST, len(held)), []
    for begin in range(0, count, 256):
        block = slice(begin, min(count, begin + 256))
        trigrams, meaning = (weights[block] @ across).toarray(), vectors[block] @ vectors[count:].T
        chosen = np.zeros(trigrams.shape, bool)
        for cosines in (trigrams, meaning):
            least = np.partition(cosines, -nearest, axis=1)[:, -nearest]
            chosen |= cosines >= least[:, None] - TIE
        rows, columns = np.nonzero(chosen & SAME_ANSWER.reached(trigrams, meaning))
        parts.append(QuestionPairs(rows + begin, columns, trigrams[rows, columns], meaning[rows, columns]))
    return QuestionPairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


What = Literal["all", "questions", "products"]
SEARCHES: tuple[What, ...] = ("products", "questions", "all")


class TimedSearch(NamedTuple):
    """Cost of a search: processor time in seconds, peak memory in MiB beyond that before it, and the number
    of pairs of questions, or of new rows that repeat.
    """

    seconds: float
    mib: float
    hits: int


def made(rows: int) -> list[Row]:
    """Make questions and answers from recombined passages of the documentation; a third are edited copies of
    others.
    """
    words = [text.split() for text in texts(rows, seed=3)]
    return [Row(" ".join(each[:12]), " ".join(each[12:])) for each in words]


def searched(rows: int, what: What) -> TimedSearch:
    """Search this number of new rows for repeats of as many held-out ones. Run it in its own process, since
    peak memory is per process.
    """
    both = made(2 * rows)
    new, held = _compared(both[:rows], labelled=False), _compared(both[rows:], labelled=False)
    asked = list(new.questions), list(held.questions)
    embed(pa.array(["which loads the vectors"]))
    before, began = _status("VmRSS"), time.process_time()
    if what == "products":
        hits = len(straightforward(*asked).first)
    elif what == "questions":
        hits = len(find_similar_questions(*asked, SAME_ANSWER, _silent).first)
    else:
        hits = int(_hits(find_repeated(new, held, (), _silent)).sum())
    return TimedSearch(time.process_time() - began, _status("VmHWM") - before, hits)


def _status(name: str) -> float:
    """Return a value of this process's status, in MiB."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def speed() -> list[Figure]:
    """Measure seconds and memory at both sizes, compared with complete matrix products, each in its own
    process.
    """
    figures = []
    for rows in SPEED_ROWS:
        taken: dict[What, TimedSearch] = {}
        for what in SEARCHES:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                taken[what] = process.submit(searched, rows, what).result()
        name = f"{rows:,} among {rows:,}"
        figures += [Figure(f"{name}: {what}", taken[what].seconds, "s", digits=1) for what in SEARCHES]
        figures += [
            Figure(f"{name}: questions, times as fast as whole products",
                   taken["products"].seconds / taken["questions"].seconds, "×", FASTER, digits=1),
            Figure(f"{name}: pairs of questions, as many as whole products find",
                   taken["questions"].hits / max(1, taken["products"].hits), "", 1.0, digits=4),
            Figure(f"{name}: memory at its peak, whole products", taken["products"].mib, "MiB"),
            Figure(f"{name}: memory at its peak", taken["all"].mib, "MiB", MAX_MIB, "≤"),
        ]  # fmt: skip
    return figures


def _held_back(new: list[Row], held: list[Row], others: list[str], labelled: bool) -> np.ndarray:
    """Return which new rows are excluded, whichever held-out row they are assumed to repeat."""
    return _hits(find_repeated(_compared(new, labelled), _compared(held, labelled), others, _silent))


def _hits(repeated: RepeatMatches) -> np.ndarray:
    return (repeated.copied >= 0) | (repeated.reworded >= 0)


def _silent(*_: object) -> None:
    """Ignore progress reports."""


def _compared(rows: list[Row], labelled: bool) -> AnsweredQuestions:
    return AnsweredQuestions(
        [row.question for row in rows],
        [normalise_text(row.answer) for row in rows],
        np.full(len(rows), labelled),
    )


def shares(named: list[str], rows: int) -> list[Figure]:
    """Measure every NAME=FILE, or the documentation of Python."""
    files = [line.split("=", 1) for line in named]
    sets = {name: rows_of(Path(path)) for name, path in files} or {"documentation": documentation()}
    return [each for name, set_rows in sets.items() for each in measured(name, set_rows, rows)]


def main() -> int:
    """Measure every file, or the documentation of Python."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--file", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--rows", type=int, default=300, help="held out, and as many clean ones")
    parser.add_argument("--speed", action="store_true", help="seconds and memory, of made rows")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    figures = speed() if options.speed else shares(options.file, options.rows)
    section = Section("Reworded repeats of held-out rows", figures)
    if options.json:
        print(as_json([section]))
    else:
        section.show()
    return int(any(figure.missed for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
