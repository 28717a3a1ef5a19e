"""Answers against references: exact match, shared words, BLEU, chrF and ROUGE, row by row.

BLEU and chrF come as each row's n-gram counts, which sacrebleu takes, so that any set of rows can be summed
up (`engine.diagnostics.statistics.estimators`), and as the row's own figure. ROUGE is rouge-score's, with
words told in every script: its own tokenizer keeps a to z and digits alone, so that a Russian or Chinese
answer would be 0.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Pairs = Sequence[tuple[str, str]]  # (answer, reference)

_ARTICLES = re.compile(r"\b(a|an|the)\b")
# Scripts that put no space between words: there a character is a word.
_DENSE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_HAS_DENSE = re.compile(f"[{_DENSE}]")
_MARKS = "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u064b-\u065f\u0900-\u0963\u0966-\u0dff"  # vowels, accents
_WORDS = re.compile(rf"[{_DENSE}]|(?:[^\W_{_DENSE}]|[{_MARKS}])+")


def normalised(text: str) -> str:
    """Small letters without punctuation, articles and repeated spaces (Rajpurkar et al. 2016). Punctuation
    is that of ASCII, "$", "+" and "=" with it, and what Unicode calls so; what is nothing else, such as the
    answer "A" or "?", stays, as an empty answer would be the same."""
    small = text.lower()
    bare = "".join(c for c in small if not _is_punctuation(c))
    plain = _ARTICLES.sub(" ", bare)
    return " ".join((plain if plain.strip() else bare if bare.strip() else small).split())


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def exact_match(pairs: Pairs, *, normalise: bool = False) -> np.ndarray:
    """1 where answer and reference are the same."""
    same: Callable[[str], str] = normalised if normalise else str.strip
    return np.array([float(same(answer) == same(reference)) for answer, reference in pairs])


def token_f1(pairs: Pairs) -> np.ndarray:
    """F1 of the words of both, counted with repeats; where one has none, whether the other hasn't either."""
    return np.array([_f1(_words(answer), _words(reference)) for answer, reference in pairs])


def _words(text: str) -> list[str]:
    """Parted by spaces; where the script puts none between words, by words."""
    return [
        word
        for part in normalised(text).split()
        for word in (_WORDS.findall(part) if _HAS_DENSE.search(part) else [part])
    ]


def _f1(answer: list[str], reference: list[str]) -> float:
    if not answer or not reference:
        return float(answer == reference)
    shared = (Counter(answer) & Counter(reference)).total()
    return 2 * shared / (len(answer) + len(reference))


def bleu(pairs: Pairs, *, tokenize: str = "13a", lowercase: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(BLEU of each row by the orders that it is long enough for, its counts [rows, 10])."""
    from sacrebleu.metrics import BLEU

    metric = BLEU(tokenize=tokenize, lowercase=lowercase, effective_order=True)
    return _ngrams(metric, pairs, 10)


def chrf(pairs: Pairs, *, word_order: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(chrF of each row, its counts [rows, 18], with words [rows, 24])."""
    from sacrebleu.metrics import CHRF

    return _ngrams(CHRF(word_order=word_order), pairs, 3 * (6 + word_order))


def _ngrams(metric: Any, pairs: Pairs, width: int) -> tuple[np.ndarray, np.ndarray]:
    scores, counts = np.zeros(len(pairs)), np.zeros((len(pairs), width))
    for row, (answer, reference) in enumerate(pairs):
        counted = metric._extract_corpus_statistics([answer], [[reference]])
        counts[row] = counted[0]
        scores[row] = metric._aggregate_and_compute(counted).score
    return scores, counts


class _Words:
    """Words of any script for rouge-score; English ones by their stem if asked for."""

    def __init__(self, use_stemmer: bool) -> None:
        self.stem: Callable[[str], str] | None = None
        if use_stemmer:
            from nltk.stem.porter import PorterStemmer

            self.stem = PorterStemmer().stem

    def tokenize(self, text: str) -> list[str]:
        words = _WORDS.findall(text.lower())
        if self.stem is None:
            return words
        return [self.stem(word) if len(word) > 3 and word.isascii() else word for word in words]


def rouge(pairs: Pairs, kinds: Sequence[str], *, use_stemmer: bool = False) -> dict[str, np.ndarray]:
    """F1 of each row, of each of `kinds`: rouge1, rouge2, rougeL."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(kinds), tokenizer=_Words(use_stemmer))
    row_scores = [scorer.score(reference, answer) for answer, reference in pairs]
    return {kind: np.array([row[kind].fmeasure for row in row_scores], float) for kind in kinds}
