"""The group `text`: length, language, and faults of the text of every row by itself.

What a single scan can detect (HTML, boilerplate, damaged characters) is matched with RE2 over the whole
batch; Python only processes rows that match.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.data.graphemes import measure_lengths
from engine.data.signals.encoding_damage import BROKEN, PERHAPS_MOJIBAKE, is_damaged, repair_text
from engine.data.signals.protocol import PART_COLUMNS, Parts, split_parts
from engine.data.signals.text_checks import (
    BOILERPLATE,
    HTML,
    REFUSAL_GATE,
    EndingHabits,
    detect_languages,
    is_empty_text,
    is_refusal,
    is_truncated,
    learn_endings,
    repeats_question,
    strip_html,
)
from engine.worker.job import WorkerJob
from store.core.row_schemas import SignalOptions
from store.data.config import ProfileConfig
from store.data.dataset_files import iterate_batches

READS = PART_COLUMNS
LEARNING_ROWS = 5_000  # rows
NGRAM_WORDS = 3  # words of a repeat

# Scripts without spaces between words: each character counts as a word.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_UNSPACED_WORDS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]"
    "|[^\\s\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]+"
)


def prepare(job: WorkerJob, config: ProfileConfig, rows_path: Path) -> tuple[EndingHabits, SignalOptions]:
    """Return how the answers of the first rows end; there are no options to choose."""
    first = next(iterate_batches(pq.ParquetFile(rows_path), LEARNING_ROWS, list(PART_COLUMNS)), None)
    answers: list[str] = []
    if first is not None:
        parts = split_parts(first)
        free = parts.answered & ~parts.labelled
        answers = [answer for answer, wanted in zip(parts.answers, free.tolist(), strict=True) if wanted]
    endings = learn_endings(answers)
    return endings, {"endings": endings.words}


def measure(batch: pa.RecordBatch, context: EndingHabits) -> dict[str, pa.Array | np.ndarray]:
    """Compute the columns of the group. Answer signals are null for plain texts."""
    parts = split_parts(batch)
    texts = pa.array(parts.texts, pa.string())
    words, answer_words, repetition = _count_words(parts, texts)
    languages = detect_languages(*_select_language_texts(parts))
    empty = np.fromiter(map(is_empty_text, parts.answers), bool, len(parts))
    no_answer = ~parts.answered
    repairable, lost = _find_damage(parts.texts, texts)
    candidates = set(_find_matching(pa.array(parts.answers, pa.string()), REFUSAL_GATE))
    return {
        "characters": measure_lengths(parts.texts),
        "words": words,
        "prompt_characters": measure_lengths(parts.prompts),
        "answer_characters": measure_lengths(parts.answers),
        "answer_words": answer_words,
        "language": pa.array([code for code, _ in languages], pa.string()),
        "language_confidence": np.array([sure for _, sure in languages], np.float32),
        "repetition": repetition,
        "encoding_damage": repairable,
        "lost_characters": lost,
        "html": _find_html(parts.texts, texts),
        "boilerplate": pc.match_substring_regex(texts, BOILERPLATE),
        "empty_answer": empty,
        "one_word_answer": pa.array(
            (answer_words == 1) & ~empty, mask=no_answer | parts.labelled, type=pa.bool_()
        ),
        "echo": _flag_answers(
            parts, lambda index: repeats_question(parts.asked[index], parts.answers[index])
        ),
        "refusal": _flag_answers(
            parts, lambda index: index in candidates and is_refusal(parts.answers[index])
        ),
        "truncated": _flag_answers(parts, lambda index: is_truncated(parts.answers[index], context)),
    }


def _select_language_texts(parts: Parts) -> tuple[list[str], list[str]]:
    """Return the prompts and answers for language detection, without labels."""
    if not parts.labelled.any():
        return parts.prompts, parts.answers
    rows = list(zip(parts.prompts, parts.answers, parts.labelled.tolist(), strict=True))
    return (
        ["" if labelled else prompt for prompt, _, labelled in rows],
        [prompt if labelled else answer for prompt, answer, labelled in rows],
    )


def _find_matching(texts: pa.Array, pattern: str) -> list[int]:
    """Return the positions of the texts that match the RE2 pattern."""
    return np.flatnonzero(pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)).tolist()


def _count_words(parts: Parts, texts: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the words of the row and of the answer (int32), and the repeated share (float32)."""
    words = [text.lower().split() for text in parts.texts]
    answer_words = np.fromiter((len(answer.split()) for answer in parts.answers), np.int32, len(parts))
    for index in _find_matching(texts, f"[{_UNSPACED}]"):
        words[index] = _UNSPACED_WORDS.findall(parts.texts[index].lower())
        answer_words[index] = len(_UNSPACED_WORDS.findall(parts.answers[index]))
    counts = np.fromiter(map(len, words), np.int32, len(parts))
    return counts, answer_words, np.fromiter(map(compute_repeated_share, words), np.float32, len(parts))


def compute_repeated_share(words: list[str]) -> float:
    """Return the share of words inside a 3-gram that occurred earlier in the list."""
    if len(words) - len(set(words)) < NGRAM_WORDS:  # each word of a repeat occurred before
        return 0.0
    if len(set(zip(words, words[1:], words[2:], strict=False))) >= len(words) - NGRAM_WORDS + 1:
        return 0.0
    seen: set[tuple[str, str, str]] = set()
    covered = free = 0  # words counted, and the first uncounted one
    for start, gram in enumerate(zip(words, words[1:], words[2:], strict=False)):
        if gram in seen:
            covered += start + NGRAM_WORDS - max(start, free)
            free = start + NGRAM_WORDS
        else:
            seen.add(gram)
    return covered / len(words)


def _find_damage(rows: list[str], texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows with repairable characters, and the rows with unrepairable ones."""
    repairable, lost = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    for index in _find_matching(texts, f"{BROKEN}|{PERHAPS_MOJIBAKE}"):
        if is_damaged(rows[index]):
            repaired = repair_text(rows[index])
            repairable[index], lost[index] = repaired != rows[index], is_damaged(repaired)
    return repairable, lost


def _find_html(rows: list[str], texts: pa.Array) -> np.ndarray:
    """Return the rows from which a recipe would strip HTML."""
    marked_up = np.zeros(len(rows), bool)
    for index in _find_matching(texts, HTML):
        marked_up[index] = strip_html(rows[index]) != rows[index]
    return marked_up


def _flag_answers(parts: Parts, flag: Any) -> pa.Array:
    """Flag conversations whose answer is no label; false for a label, null for plain text."""
    flags = [
        (flag(index) if not labelled else False) if answered else None
        for index, (answered, labelled) in enumerate(
            zip(parts.answered.tolist(), parts.labelled.tolist(), strict=True)
        )
    ]
    return pa.array(flags, pa.bool_())
