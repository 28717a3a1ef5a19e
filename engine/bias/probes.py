"""Probes of a check: each is run on the base model, then on the tuned one, and compared.

A probe stores the results of each model for its items; an item that one of the two models couldn't process
is excluded for both and counted by reason.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from engine.bias import probe_statistics, rates, scoring
from engine.bias.item_files import ItemFile
from engine.bias.probe_statistics import AnsweredPairs, ChosenAnswers, ReferredPairs, WrittenPairs
from engine.bias.rates import MeasuredBias
from engine.bias.scoring import BiasQuestion, ItemScores, OnItems, ProbedModel, PronounItem, SentencePair
from store.bias.schemas import BiasLevel, BiasProbe, ChangedPair

BASE, TUNED = "base", "tuned"
MAX_CHANGED = 12  # pairs shown per probe
LOG_P = "nats between the two sentences"
ODDS = "nats between the two people"


class RunnableProbe(Protocol):
    """Probe of a check."""

    @property
    def name(self) -> str:
        """Display name."""

    @property
    def items(self) -> int:
        """Number of items per model."""

    def ask(self, which: str, asked: ProbedModel, on_items: OnItems) -> None:
        """Run the probe on one of the two models."""

    def figures(self) -> list[MeasuredBias]:
        """Return the metrics; call after both models ran."""

    def changed(self) -> list[ChangedPair]:
        """Return the pairs that changed most."""

    def document(self) -> BiasProbe:
        """Return the probe's description for storage."""


@dataclass
class BuiltinProbe:
    """Probe with the built-in pairs."""

    name: str = scoring.BUILTIN_NAME
    kind: str = probe_statistics.COUNTERFACTUAL
    items: int = len(scoring.build_decision_pairs()) + len(scoring.build_writing_pairs())
    seconds: float = 0.0
    odds: dict[str, np.ndarray] = field(default_factory=dict)
    written: dict[str, scoring.WrittenAnswers] = field(default_factory=dict)

    def ask(self, which: str, asked: ProbedModel, on_items: OnItems) -> None:
        began, first = time.perf_counter(), len(scoring.build_decision_pairs())
        self.odds[which] = scoring.score_decisions(asked, scoring.build_decision_pairs(), on_items)
        self.written[which] = scoring.write_answers(
            asked, scoring.build_writing_pairs(), lambda done: on_items(first + done)
        )
        self.seconds += time.perf_counter() - began

    def _pairs(self) -> AnsweredPairs:
        asked = scoring.build_decision_pairs()
        return AnsweredPairs(
            self.odds[BASE],
            self.odds[TUNED],
            np.array([pair.axis for pair in asked]),
            np.array([pair.template for pair in asked]),
        )

    def figures(self) -> list[MeasuredBias]:
        before, after = self.written[BASE], self.written[TUNED]
        answers = WrittenPairs(before.refuses, after.refuses, before.words, after.words)
        return probe_statistics.measure_counterfactual(
            self.name, self._pairs()
        ) + probe_statistics.measure_writing(self.name, answers)

    def changed(self) -> list[ChangedPair]:
        apart = {which: odds[:, 1] - odds[:, 0] for which, odds in self.odds.items()}
        rows = [(pair.axis, pair.first, pair.second) for pair in scoring.build_decision_pairs()]
        return _find_most_changed(self.name, rows, apart[BASE], apart[TUNED], ODDS)

    def document(self) -> BiasProbe:
        levels = [
            _build_level("Favorable response, first person", *(odds[:, 0] > 0 for odds in self._both())),
            _build_level("Favorable response, second person", *(odds[:, 1] > 0 for odds in self._both())),
            _build_level("Refusals", *(self.written[which].refuses.ravel() > 0 for which in (BASE, TUNED))),
        ]
        return _build_document(self, self.items, Counter(), [], levels)

    def _both(self) -> tuple[np.ndarray, np.ndarray]:
        return self.odds[BASE], self.odds[TUNED]


@dataclass
class FileProbe:
    """Probe with the items of a file; subclasses define the scoring and the metrics."""

    file: ItemFile
    kind: str
    seconds: float = 0.0
    scores: dict[str, ItemScores] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def items(self) -> int:
        return len(self.file.items)

    def score(self, asked: ProbedModel, on_items: OnItems) -> ItemScores:
        raise NotImplementedError

    def ask(self, which: str, asked: ProbedModel, on_items: OnItems) -> None:
        began = time.perf_counter()
        self.scores[which] = self.score(asked, on_items)
        self.seconds += time.perf_counter() - began

    def usable(self) -> list[int]:
        """Return indices of the items that both models processed."""
        left = {place for scores in self.scores.values() for place in scores.reasons}
        return [place for place in range(self.items) if place not in left]

    def left_out(self) -> Counter[str]:
        """Return the number of rows left out by reason, by the file or by a model."""
        reasons: dict[int, str] = {}
        for scores in self.scores.values():
            reasons |= scores.reasons
        return self.file.left_out + Counter(reasons.values())

    def margins(self, which: str) -> np.ndarray:
        """Return the score of the first option minus the second for usable items."""
        scores = self.scores[which].scores
        return np.array([scores[place][0] - scores[place][1] for place in self.usable()])

    def changed(self) -> list[ChangedPair]:
        return []

    def levels(self) -> list[BiasLevel]:
        return []

    def document(self) -> BiasProbe:
        return _build_document(self, self.file.rows, self.left_out(), self.file.notices, self.levels())


class SentenceProbe(FileProbe):
    """Probe with pairs of sentences, one more stereotypical."""

    def __init__(self, file: ItemFile) -> None:
        super().__init__(file, probe_statistics.STEREOTYPE)

    def _pairs(self) -> list[SentencePair]:
        chosen = [self.file.items[place] for place in self.usable()]
        return [pair for pair in chosen if isinstance(pair, SentencePair)]

    def score(self, asked: ProbedModel, on_items: OnItems) -> ItemScores:
        whole = [pair for pair in self.file.items if isinstance(pair, SentencePair)]
        return scoring.score_sentences(asked, whole, on_items)

    def figures(self) -> list[MeasuredBias]:
        groups = np.array([pair.group for pair in self._pairs()])
        return probe_statistics.measure_stereotypes(
            self.name, self.margins(BASE), self.margins(TUNED), groups
        )

    def changed(self) -> list[ChangedPair]:
        rows = [(pair.group, pair.more, pair.less) for pair in self._pairs()]
        return _find_most_changed(self.name, rows, self.margins(BASE), self.margins(TUNED), LOG_P)


class PronounProbe(FileProbe):
    """Probe of whom a pronoun refers to."""

    def __init__(self, file: ItemFile) -> None:
        super().__init__(file, probe_statistics.COREFERENCE)

    def score(self, asked: ProbedModel, on_items: OnItems) -> ItemScores:
        whole = [item for item in self.file.items if isinstance(item, PronounItem)]
        return scoring.score_pronouns(asked, whole, on_items)

    def _items(self) -> list[PronounItem]:
        chosen = [self.file.items[place] for place in self.usable()]
        return [item for item in chosen if isinstance(item, PronounItem)]

    def _coupled(self) -> list[tuple[int, int]]:
        """Return index pairs among the usable items: a stereotypical sentence, and the same with the other
        pronoun.
        """
        sides: dict[tuple[str, bool], int] = {}
        for place, item in enumerate(self._items()):
            sides.setdefault((item.alike, item.fits), place)
        return [
            (place, sides[alike, False])
            for (alike, fits), place in sides.items()
            if fits and (alike, False) in sides
        ]

    def figures(self) -> list[MeasuredBias]:
        coupled, items = self._coupled(), self._items()
        if not coupled:
            return []
        places = np.array(coupled)
        right = [(self.margins(which) > 0).astype(float)[places] for which in (BASE, TUNED)]
        groups = np.array([items[fits].group for fits, _ in coupled])
        return probe_statistics.measure_coreference(self.name, ReferredPairs(right[0], right[1], groups))

    def levels(self) -> list[BiasLevel]:
        fits = np.array([item.fits for item in self._items()], bool)
        right = [self.margins(which) > 0 for which in (BASE, TUNED)]
        named = (("Accuracy, pro-stereotypical", fits), ("Accuracy, anti-stereotypical", ~fits))
        return [_build_level(name, *(side[mask] for side in right)) for name, mask in named if mask.any()]

    def document(self) -> BiasProbe:
        alone = len(self._items()) - 2 * len(self._coupled())
        document = super().document()
        if alone:
            document.notices = [
                *document.notices,
                f"{alone:,} sentences without a counterpart with the other pronoun count for accuracy only.",
            ]
        return document


class BiasChoiceProbe(FileProbe):
    """Multiple-choice probe with one stereotypical and one unknown answer."""

    def __init__(self, file: ItemFile) -> None:
        super().__init__(file, probe_statistics.CHOICE)

    def score(self, asked: ProbedModel, on_items: OnItems) -> ItemScores:
        whole = [item for item in self.file.items if isinstance(item, BiasQuestion)]
        return scoring.score_choices(asked, whole, on_items)

    def _items(self) -> list[BiasQuestion]:
        chosen = [self.file.items[place] for place in self.usable()]
        return [item for item in chosen if isinstance(item, BiasQuestion)]

    def _answers(self) -> ChosenAnswers:
        items, places = self._items(), self.usable()
        ways, right = [], []
        for which in (BASE, TUNED):
            chosen = [int(self.scores[which].scores[place].argmax()) for place in places]
            directions = [
                0 if own == item.unknown else 1 if own == item.biased else -1
                for item, own in zip(items, chosen, strict=True)
            ]
            ways.append(np.array(directions, float))
            right.append(
                np.array([item.right == own for item, own in zip(items, chosen, strict=True)], float)
            )
        return ChosenAnswers(
            np.array([item.ambiguous for item in items], bool),
            np.array([item.right == item.biased for item in items], bool),
            ways[0],
            ways[1],
            right[0],
            right[1],
            np.array([item.group for item in items]),
        )

    def figures(self) -> list[MeasuredBias]:
        return probe_statistics.measure_choices(self.name, self._answers()) if self.usable() else []

    def levels(self) -> list[BiasLevel]:
        answers = self._answers()
        right = (answers.base_right > 0, answers.tuned_right > 0)
        named = (
            ("Accuracy, ambiguous context", answers.ambiguous),
            ("Accuracy, disambiguated context", ~answers.ambiguous),
        )
        return [_build_level(name, *(side[mask] for side in right)) for name, mask in named if mask.any()]


PROBE_CLASSES: dict[str, Callable[[ItemFile], RunnableProbe]] = {
    "stereotype_pairs": SentenceProbe,
    "coreference": PronounProbe,
    "choices": BiasChoiceProbe,
}


def _build_level(name: str, base: np.ndarray, tuned: np.ndarray) -> BiasLevel:
    return BiasLevel(
        name=name,
        base=rates.estimate_share(base).to_estimate(),
        tuned=rates.estimate_share(tuned).to_estimate(),
    )


def _build_document(
    probe: BuiltinProbe | FileProbe,
    rows: int,
    left_out: Counter[str],
    notices: Sequence[str],
    levels: list[BiasLevel],
) -> BiasProbe:
    items = len(probe.usable()) if isinstance(probe, FileProbe) else probe.items
    return BiasProbe(
        name=probe.name,
        kind=probe.kind,
        items=items,
        rows=rows,
        left_out=dict(left_out.most_common()),
        notices=list(notices),
        levels=levels,
        seconds=probe.seconds,
    )


def _find_most_changed(
    probe: str, rows: Sequence[tuple[str, str, str]], base: np.ndarray, tuned: np.ndarray, unit: str
) -> list[ChangedPair]:
    """Return pairs whose two sides are further apart than before, most changed first."""
    further = np.abs(tuned) - np.abs(base)
    order = [place for place in np.argsort(-further)[:MAX_CHANGED].tolist() if further[place] > 0]
    return [
        ChangedPair(
            probe=probe,
            group=rows[place][0],
            first=rows[place][1],
            second=rows[place][2],
            base=float(base[place]),
            tuned=float(tuned[place]),
            unit=unit,
        )
        for place in order
    ]
