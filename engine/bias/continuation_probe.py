"""Probe of continuations: base and tuned model continue the same prompts, sampled at temperature 1 with the
same seeds, and once neither is in memory, a classifier judges the continuations.

The classifier sees only the continuation: a prompt that sounds harmful says nothing about the model. Every
row of a file is a prompt, or is counted with the reason why it isn't.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

import numpy as np
import torch

from engine.bias import rates
from engine.bias.harm_classifier import HarmClassifier
from engine.bias.item_files import explain_no_items, read_rows_from_file
from engine.bias.rates import JudgedContinuations, MeasuredBias
from engine.bias.scoring import OnItems, ProbedModel, encode_with_bos
from engine.data.readers.file_rows import FileRow
from engine.models.generation import MIN_PROMPT, GenerationOptions, Sampling, generate_continuations
from store.bias.config import CLASSIFIER_FIELD, BiasContinuations
from store.bias.schemas import (
    BiasProbe,
    ChangedContinuation,
    ChangedPair,
    ClassifierError,
    ClassifierJudgement,
)
from store.core.errors import DataError
from store.core.formatting import plural
from store.core.home import Home

VERSION = 1  # version of the texts: metrics of different versions aren't comparable
OPENINGS_NAME = f"Built-in openings v{VERSION}"
FIELD = "continuations.file"
MAX_CHARACTERS = 4_000  # per prompt
MAX_GROUP = 60  # maximum characters of a group's name
EMPTY = "empty prompt"
LONG_OPENING = f"prompt longer than {MAX_CHARACTERS:,} characters"
DUPLICATE_OPENING = "duplicate prompt"
OPENING_LIMITS = (
    "The built-in prompts are 96 short English sentence beginnings; a model tuned on other texts may be"
    " harmful in contexts that they do not cover.",
)


@dataclass(frozen=True)
class Opening:
    """Prompt to continue; `group` is empty for none."""

    text: str
    group: str


@dataclass
class Openings:
    """Prompts of a file or built-in ones.

    rows: number of rows of the source. left_out: number of unusable rows by reason.
    """

    name: str
    openings: list[Opening]
    rows: int
    left_out: Counter[str] = field(default_factory=Counter)
    notices: list[str] = field(default_factory=list)


@cache
def load_builtin_openings() -> tuple[Opening, ...]:
    """Load the built-in prompts, grouped by axis."""
    text = (resources.files("engine.bias") / "probe" / "openings.tsv").read_text("utf-8")
    lines = [line.split("\t") for line in text.splitlines()[1:]]
    return tuple(Opening(opening, axis) for axis, opening in lines)


def read_openings(home: Home, asked: BiasContinuations, seed: int, check: Callable[[], None]) -> Openings:
    """Read the configured prompts. Raises DataError (continuations.file) for a file without prompts."""
    chosen = (
        _read_file(home, asked, check)
        if asked.file
        else Openings(OPENINGS_NAME, [*load_builtin_openings()], len(load_builtin_openings()))
    )
    count = len(chosen.openings)
    if asked.max_rows is not None and count > asked.max_rows:
        kept = np.sort(np.random.default_rng([seed, 24]).permutation(count)[: asked.max_rows])
        chosen.openings = [chosen.openings[place] for place in kept.tolist()]
        chosen.notices.append(f"Random sample of {asked.max_rows:,} of {count:,} prompts.")
    return chosen


def _read_file(home: Home, asked: BiasContinuations, check: Callable[[], None]) -> Openings:
    assert asked.file is not None
    read_rows = read_rows_from_file(home, asked.file, FIELD, check)
    for column in filter(None, (asked.column, asked.group_column)):
        if read_rows.rows and not {column, column.partition(".")[0]} & read_rows.columns:
            there = ", ".join(sorted(read_rows.columns)[:20])
            raise DataError(
                f"{read_rows.name} has no column {column!r}.", fix=f"Choose one of: {there}.", field=FIELD
            )
    left_out, openings = read_rows.left_out, dict[str, Opening]()
    for row in read_rows.rows:
        text = _get_text(row, asked.column)
        if not text.strip():
            left_out[EMPTY] += 1
        elif len(text) > MAX_CHARACTERS:
            left_out[LONG_OPENING] += 1
        elif text in openings:
            left_out[DUPLICATE_OPENING] += 1
        else:
            group = _get_value(row, asked.group_column) if asked.group_column else ""
            openings[text] = Opening(text, " ".join(str("" if group is None else group).split())[:MAX_GROUP])
    if not openings:
        raise DataError(
            f"No prompts in {read_rows.name}: {explain_no_items(left_out)}.",
            fix="Set `column` to the prompt column.",
            field=FIELD,
        )
    return Openings(read_rows.name, list(openings.values()), len(openings) + sum(left_out.values()), left_out)


def _get_text(row: FileRow, column: str) -> str:
    """Return a text, or the `text` of an object as in RealToxicityPrompts.

    Trailing white space is stripped, as the next token would be tokenized differently after it.
    """
    value = _get_value(row, column)
    if isinstance(value, Mapping):
        value = value.get("text")
    return value.rstrip() if isinstance(value, str) else ""


def _get_value(row: FileRow, column: str) -> object:
    """Return the value of a column, or of a nested field by its path."""
    if column in row:
        return row[column]
    value: object = row
    for part in column.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


BASE, TUNED = "base", "tuned"
MAX_CHANGED = 20  # prompts whose continuations are stored
LONG_CONTINUATION = "prompt and continuation exceed the context length"
NO_TOKEN = "prompt without tokens"
NOT_FINITE = "the classifier returned no probability for a continuation"


@dataclass
class ContinuationProbe:
    """Probe of continuations.

    texts: by model, [prompts][samples]. judged: by model, [prompts, samples] probability of harm, NaN
    where the classifier returned none.
    """

    asked: BiasContinuations
    openings: Openings
    seed: int
    kind: str = rates.TOXICITY
    seconds: float = 0.0
    texts: dict[str, list[list[str]]] = field(default_factory=dict)
    judged: dict[str, np.ndarray] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    cut: int = 0

    @property
    def name(self) -> str:
        return self.openings.name

    @property
    def items(self) -> int:
        return len(self.openings.openings) * self.asked.samples

    def ask(self, which: str, asked: ProbedModel, on_items: OnItems) -> None:
        """Generate `samples` continuations of every prompt."""
        began = time.perf_counter()
        encoded = encode_with_bos(asked.tokenizer, [opening.text for opening in self.openings.openings])
        for place, tokens in enumerate(encoded):
            if not tokens:
                self.reasons.setdefault(place, NO_TOKEN)
            elif asked.positions and len(tokens) + self.asked.max_new_tokens > asked.positions - MIN_PROMPT:
                self.reasons.setdefault(place, LONG_CONTINUATION)
        places = self.usable()  # a prompt that one model can't continue gives no comparison
        if not places:
            raise DataError(
                f"No usable prompts in {self.name}: {explain_no_items(Counter(self.reasons.values()))}.",
                fix="Use shorter prompts, or reduce max_new_tokens.",
                field=FIELD,
            )
        each, texts = len(encoded), [list[str]() for _ in encoded]
        for sample in range(self.asked.samples):

            def on_token(done: int, most: int, before: int = each * sample) -> None:
                on_items(before + each * done // most)

            made = generate_continuations(
                asked.model,
                asked.tokenizer,
                [encoded[place] for place in places],
                self._drawn(sample, asked),
                on_token=on_token,
            )
            written = asked.tokenizer.batch_decode(made, skip_special_tokens=True)
            for place, text in zip(places, written, strict=True):
                texts[place].append(text.strip())
        self.texts[which] = texts
        self.seconds += time.perf_counter() - began

    def _drawn(self, sample: int, asked: ProbedModel) -> GenerationOptions:
        """Return generation options with a seed per sample, the same for base and tuned.

        `steady` makes their batches equal, so that most prompts get the same random numbers under both (if
        a batch ends early, those after it don't).
        """
        seed = int(np.random.SeedSequence([self.seed, sample]).generate_state(1)[0])  # unique to this check
        drawn = Sampling(1.0, 1.0, seed)
        return GenerationOptions(
            self.asked.max_new_tokens, asked.device, asked.batch_size, sampling=drawn, steady=True
        )

    def judge(
        self, classifier: HarmClassifier, size: int, device: torch.device, on_texts: Callable[[int], None]
    ) -> None:
        """Classify all non-empty continuations; empty ones count as not harmful."""
        began, usable = time.perf_counter(), self.usable()
        for number, which in enumerate((BASE, TUNED)):
            texts = [text for place in usable for text in self.texts[which][place]]
            full = [place for place, text in enumerate(texts) if text]
            before = number * self.items

            def on_some(done: int, before: int = before) -> None:
                on_texts(before + done)

            likely = classifier.probabilities([texts[place] for place in full], size, device, on_some)
            probabilities = np.zeros(len(texts))
            probabilities[full] = classifier.harmful(likely.of_labels, self.asked.labels)
            self.judged[which] = probabilities.reshape(len(usable), self.asked.samples)
            self.cut += likely.cut
        for row, place in enumerate(usable):
            if not all(np.isfinite(self.judged[which][row]).all() for which in (BASE, TUNED)):
                self.reasons[place] = NOT_FINITE
        kept = [row for row, place in enumerate(usable) if place not in self.reasons]
        if not kept:
            raise DataError(
                f"No continuation could be classified: {NOT_FINITE}.",
                fix="Choose another classifier: this one returns non-finite values.",
                field=CLASSIFIER_FIELD,
            )
        self.judged = {which: made[kept] for which, made in self.judged.items()}
        self.seconds += time.perf_counter() - began

    def usable(self) -> list[int]:
        """Return indices of prompts that both models continued and whose continuations were classified."""
        return [place for place in range(len(self.openings.openings)) if place not in self.reasons]

    def results(self) -> JudgedContinuations:
        """Return the results in the form for statistics."""
        groups = [self.openings.openings[place].group for place in self.usable()]
        return JudgedContinuations(
            self.judged[BASE], self.judged[TUNED], np.array(groups, str), self.asked.threshold
        )

    def figures(self) -> list[MeasuredBias]:
        return rates.compute_toxicity_figures(self.name, self.results())

    def changed(self) -> list[ChangedPair]:
        """Return no pairs; changed continuations are in `document_of`."""
        return []

    def document(self) -> BiasProbe:
        return BiasProbe(
            name=self.name,
            kind=self.kind,
            items=len(self.usable()),
            rows=self.openings.rows,
            left_out=dict((self.openings.left_out + Counter(self.reasons.values())).most_common()),
            notices=[*self.openings.notices, *self._notices()],
            levels=[],
            seconds=self.seconds,
        )

    def _notices(self) -> list[str]:
        notices = []
        base, tuned = self.empty(BASE), self.empty(TUNED)
        if base or tuned:
            all_of = plural(len(self.usable()) * self.asked.samples, "continuation")
            notices.append(
                f"Empty continuations, counted as not harmful: {base:,} of the base model and {tuned:,} of"
                f" the tuned model, of {all_of}."
            )
        notices += rates.describe_hidden_groups(self.results().group)
        if self.cut:
            notices.append(
                f"{plural(self.cut, 'continuation')} truncated to the context length of the classifier."
            )
        return notices

    def empty(self, which: str) -> int:
        """Return the number of empty continuations."""
        return sum(not text for place in self.usable() for text in self.texts[which][place])

    def document_of(self, classifier: str, errors: list[ClassifierError]) -> ClassifierJudgement:
        """Return the settings, errors and examples behind the metrics; `classifier` is its name."""
        return ClassifierJudgement(
            classifier=classifier,
            labels=self.asked.labels,
            threshold=self.asked.threshold,
            probe=self.name,
            samples=self.asked.samples,
            max_new_tokens=self.asked.max_new_tokens,
            empty_base=self.empty(BASE),
            empty_tuned=self.empty(TUNED),
            cut=self.cut,
            errors=errors,
            changed=self._most_changed(),
        )

    def _most_changed(self) -> list[ChangedContinuation]:
        """Return prompts sorted by the absolute change of their mean probability, without unchanged ones."""
        base, tuned = self.judged[BASE], self.judged[TUNED]
        if not len(base):
            return []
        moved = np.abs(tuned.mean(axis=1) - base.mean(axis=1))
        usable = self.usable()
        changed = []
        for row in np.argsort(-moved, kind="stable")[:MAX_CHANGED].tolist():
            if not moved[row]:
                break
            opening, worst = self.openings.openings[usable[row]], (base[row].argmax(), tuned[row].argmax())
            changed.append(
                ChangedContinuation(
                    opening=opening.text,
                    group=opening.group,
                    base=self.texts[BASE][usable[row]][worst[0]],
                    tuned=self.texts[TUNED][usable[row]][worst[1]],
                    base_probability=float(base[row].max()),
                    tuned_probability=float(tuned[row].max()),
                    base_mean=float(base[row].mean()),
                    tuned_mean=float(tuned[row].mean()),
                )
            )
        return changed
