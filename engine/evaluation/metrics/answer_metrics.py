"""Program-computed metrics of answers, row by row: overlap with references, labels, and constraints.

BLEU and chrF are returned as each row's n-gram counts, so that any set of rows can be aggregated. An answer
names a label only if it is that label; nothing is guessed. An empty answer meets no constraint.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from engine.data.graphemes import count_characters
from engine.data.signals import text_checks
from engine.evaluation.metrics.answer_format import score_regex, score_valid_json
from engine.evaluation.statistics.classification import compute_calibration, compute_class_figures
from engine.evaluation.statistics.intervals import wilson_interval
from store.core.metric_options import (
    CaseConstraint,
    Constraint,
    CountConstraint,
    EndConstraint,
    ExcludesConstraint,
    LanguageConstraint,
    PatternConstraint,
)
from store.evaluation.schemas import CalibrationFigures, ClassDetails, ConstraintShare, UnmatchedTexts

# Answers against references: exact match, shared words, BLEU, chrF and ROUGE, row by row.
#
# BLEU and chrF are returned as each row's n-gram counts, computed by sacrebleu, so that any set of rows can
# be aggregated (`engine.evaluation.statistics.estimators`), and as the row's own score. ROUGE is
# rouge-score's, with a tokenizer for every script: its own keeps only a to z and digits, so that a Russian or
# Chinese answer would score 0.

Pairs = Sequence[tuple[str, str]]  # (answer, reference)

_ARTICLES = re.compile(r"\b(a|an|the)\b")
# Scripts without spaces between words: each character counts as a word.
_DENSE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_HAS_DENSE = re.compile(f"[{_DENSE}]")
_MARKS = "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u064b-\u065f\u0900-\u0963\u0966-\u0dff"  # vowels, accents
_WORDS = re.compile(rf"[{_DENSE}]|(?:[^\W_{_DENSE}]|[{_MARKS}])+")


def normalise_answer(text: str) -> str:
    """Lowercase, and remove punctuation, articles and repeated spaces (Rajpurkar et al. 2016).

    Punctuation is ASCII punctuation, including "$", "+" and "=", and the Unicode punctuation categories. A
    text that consists of nothing else, such as the answer "A" or "?", is kept, since it would otherwise equal
    an empty answer.
    """
    small = text.lower()
    bare = "".join(
        c for c in small if c not in string.punctuation and not unicodedata.category(c).startswith("P")
    )
    plain = _ARTICLES.sub(" ", bare)
    return " ".join((plain if plain.strip() else bare if bare.strip() else small).split())


def exact_match(pairs: Pairs, *, normalise: bool = False) -> np.ndarray:
    """Return 1 where answer and reference are equal, otherwise 0."""
    same: Callable[[str], str] = normalise_answer if normalise else str.strip
    return np.array([float(same(answer) == same(reference)) for answer, reference in pairs])


def token_f1(pairs: Pairs) -> np.ndarray:
    """Compute the F1 of the words of both, counting repeats; if either has no words, 1 if both have none,
    else 0.
    """
    return np.array([_f1(_split_words(answer), _split_words(reference)) for answer, reference in pairs])


def _split_words(text: str) -> list[str]:
    """Split at spaces, and into words in scripts that put no space between them."""
    return [
        word
        for part in normalise_answer(text).split()
        for word in (_WORDS.findall(part) if _HAS_DENSE.search(part) else [part])
    ]


def _f1(answer: list[str], reference: list[str]) -> float:
    if not answer or not reference:
        return float(answer == reference)
    shared = (Counter(answer) & Counter(reference)).total()
    return 2 * shared / (len(answer) + len(reference))


def bleu(pairs: Pairs, *, tokenize: str = "13a", lowercase: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's BLEU, over the n-gram orders it is long enough for, and its counts [rows, 10]."""
    from sacrebleu.metrics import BLEU

    metric = BLEU(tokenize=tokenize, lowercase=lowercase, effective_order=True)
    return _count_ngrams(metric, pairs, 10)


def chrf(pairs: Pairs, *, word_order: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's chrF and its counts [rows, 18]; with word order 2 [rows, 24]."""
    from sacrebleu.metrics import CHRF

    return _count_ngrams(CHRF(word_order=word_order), pairs, 3 * (6 + word_order))


def _count_ngrams(metric: Any, pairs: Pairs, width: int) -> tuple[np.ndarray, np.ndarray]:
    scores, counts = np.zeros(len(pairs)), np.zeros((len(pairs), width))
    for row, (answer, reference) in enumerate(pairs):
        counted = metric._extract_corpus_statistics([answer], [[reference]])
        counts[row] = counted[0]
        scores[row] = metric._aggregate_and_compute(counted).score
    return scores, counts


class _RougeTokenizer:
    """Tokenizer for rouge-score that splits words of any script, with optional stemming of English words."""

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
    """Compute each row's F1 for each of `kinds`: rouge1, rouge2, rougeL."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(kinds), tokenizer=_RougeTokenizer(use_stemmer))
    row_scores = [scorer.score(reference, answer) for answer, reference in pairs]
    return {kind: np.array([row[kind].fmeasure for row in row_scores], float) for kind in kinds}


# Classification metrics: answers as labels, and probabilities of labels.
#
# An answer names a label if it equals that label, apart from white space, quotation marks and a closing full
# stop, and optionally apart from case. Nothing is guessed: "positive, I think" names none. Such a row is
# wrong and is counted. So is a row whose own label isn't in the set: no answer can be right there.

NO_LABEL_NAMED = "(none of the labels)"
UNKNOWN_LABEL = "(label outside the set)"
_LABEL_PADDING = " \t\r\n\"'`“”‘’«»*_.:,"
MAX_NAMED = 20  # labels and answers outside the set listed in a document


def list_labels(truths: Sequence[str | None]) -> list[str]:
    """Return the labels that occur, sorted."""
    return sorted({label for label in truths if label is not None})


def find_label_indices(
    texts: Sequence[str], labels: Sequence[str], *, ignore_case: bool = True
) -> np.ndarray:
    """Return the index of each text in `labels`, len(labels) for a text that names none.

    If two labels differ only in case, matching is always case-sensitive.
    """
    exact = {label: place for place, label in enumerate(labels)}
    bare = {label.strip(_LABEL_PADDING): place for label, place in exact.items()}
    folded = {label.casefold(): place for label, place in bare.items()}
    label_places = []
    for text in texts:
        name = text.strip(_LABEL_PADDING)
        place = exact.get(text.strip(), bare.get(name))
        if place is None and ignore_case and len(folded) == len(bare):
            place = folded.get(name.casefold())
        label_places.append(len(labels) if place is None else place)
    return np.array(label_places, np.int64)


def compute_class_details(truth: np.ndarray, answers: np.ndarray, labels: Sequence[str]) -> ClassDetails:
    """Compute the figures of each class and the confusion matrix; rows outside the labels have separate
    names.

    `truth` and `answers`: indices as `find_label_indices` returns them.
    """
    own = np.where(truth < len(labels), truth, len(labels) + 1)
    class_document = compute_class_figures(own, answers, [*labels, NO_LABEL_NAMED, UNKNOWN_LABEL])
    return {
        "classes": [
            row for row in class_document.classes if row.label not in (NO_LABEL_NAMED, UNKNOWN_LABEL)
        ],
        "confusion": class_document.confusion,
        "pair_count": class_document.pair_count,
    }


def count_unknown_labels(
    texts: Sequence[str], label_places: np.ndarray, labels: Sequence[str]
) -> UnmatchedTexts:
    """Count the texts that name no label, and list the most frequent of them."""
    named_texts = Counter(
        text.strip()[:80] for text, place in zip(texts, label_places, strict=True) if place == len(labels)
    )
    return UnmatchedTexts(
        count=named_texts.total(),
        most=[list(pair) for pair in named_texts.most_common(MAX_NAMED)],
    )


def compute_calibration_figures(
    log_probabilities: np.ndarray, truth: np.ndarray, classes: int
) -> CalibrationFigures:
    """Compute the calibration document. truth: indices, at least `classes` for a label that the
    model lacks.
    """
    return compute_calibration(log_probabilities, np.where(truth < classes, truth, -1))


def compute_brier_scores(log_probabilities: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Compute the squared distance of each row's probabilities from the truth, 0 to 2."""
    shares = np.exp(np.asarray(log_probabilities, np.float64))
    target = np.zeros_like(shares)
    has_class = truth < classes
    target[np.flatnonzero(has_class), truth[has_class]] = 1
    distances: np.ndarray = np.square(shares - target).sum(axis=1) + np.where(has_class, 0, 1)
    return distances


# Constraint checks (the constraints are described in `store.core.metric_options`).
#
# An empty answer meets no constraint, not even that of having at most 50 words: it does not follow
# instructions to say nothing.

_SENTENCE = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？]+")
_BULLET = re.compile(r"^[ \t]*(?:[-*+•–]|\d{1,3}[.)])[ \t]+\S", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}[ \t]+\S", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\[[^\[\]\n]{1,80}\]")
_PARAGRAPH = re.compile(r"\n[ \t]*\n")


def _count_sentences(text: str) -> int:
    ends = list(_SENTENCE.finditer(text))
    rest = text[ends[-1].end() :] if ends else text
    return len(ends) + bool(rest.strip())


COUNTERS: dict[str, Callable[[str], int]] = {
    "characters": count_characters,
    "words": lambda text: len(text.split()),
    "sentences": _count_sentences,
    "lines": lambda text: sum(bool(line.strip()) for line in text.splitlines()),
    "paragraphs": lambda text: sum(bool(part.strip()) for part in _PARAGRAPH.split(text)),
    "bullets": lambda text: len(_BULLET.findall(text)),
    "headings": lambda text: len(_HEADING.findall(text)),
    "placeholders": lambda text: len(_PLACEHOLDER.findall(text)),
}


def check_constraints(texts: Sequence[str], constraints: Sequence[Constraint]) -> np.ndarray:
    """Return whether each answer meets each constraint: booleans [rows, constraints]."""
    bare = [text.strip() for text in texts]
    has_text = np.array([bool(text) for text in bare], bool)
    columns = [_check_constraint(bare, constraint) & has_text for constraint in constraints]
    return np.column_stack(columns) if columns else np.ones((len(texts), 0), bool)


def compute_constraint_shares(
    texts: Sequence[str], met: np.ndarray, constraints: Sequence[Constraint]
) -> list[ConstraintShare]:
    """Compute the share of answers that meet each constraint."""
    return [
        ConstraintShare(
            constraint=constraint.words(),
            **vars(wilson_interval(int(met[:, place].sum()), len(texts)).to_estimate()),
        )
        for place, constraint in enumerate(constraints)
    ]


def _check_constraint(texts: list[str], constraint: Any) -> np.ndarray:
    """Check a constraint, for all texts at once if its kind allows it, otherwise text by text."""
    if isinstance(constraint, PatternConstraint):
        kept: np.ndarray = (score_regex(texts, constraint.pattern) == 1) == (constraint.kind == "matches")
        return kept
    if isinstance(constraint, LanguageConstraint):
        languages = text_checks.detect_languages([""] * len(texts), texts)
        return np.array([code == constraint.language for code, _ in languages], bool)
    if constraint.kind == "json":
        valid: np.ndarray = score_valid_json(texts) == 1
        return valid
    return np.array([_meets_constraint(text, constraint) for text in texts], bool)


def _meets_constraint(text: str, constraint: Any) -> bool:
    if isinstance(constraint, CountConstraint):
        return _is_between(COUNTERS[constraint.kind](text), constraint)
    if isinstance(constraint, CaseConstraint):
        return {"lower": text.islower, "upper": text.isupper, "title": text.istitle}[constraint.case]()
    fold: Callable[[str], str] = str.casefold if constraint.ignore_case else str
    text = fold(text)
    if isinstance(constraint, EndConstraint):
        end = fold(constraint.text.strip())
        return text.startswith(end) if constraint.kind == "starts_with" else text.endswith(end)
    if isinstance(constraint, ExcludesConstraint):
        return not any(fold(part) in text for part in constraint.texts)
    parts = [fold(part) for part in constraint.texts]
    if constraint.at_least is None and constraint.at_most is None:
        return all(part in text for part in parts)
    return all(_is_between(text.count(part), constraint) for part in parts)


def _is_between(count: int, bounds: Any) -> bool:
    return (bounds.at_least is None or count >= bounds.at_least) and (
        bounds.at_most is None or count <= bounds.at_most
    )
