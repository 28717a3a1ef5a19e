"""What a verdict says of the question's part of a gain: its state by it, its words, its document, what to do.

A gain that is told from noise is "learned" where what the row's own prompt adds is told from 0 as well and
matters. Where that surely is as good as nothing it is "shape": the tuned model knows which answers there are,
and not which belongs to which question. Where it can't be told, or was not measured, it is "better".
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.diagnostics import phrasing
from engine.diagnostics.course.advice import hold_out, more_rows
from engine.diagnostics.course.judged_config import JudgedConfig
from engine.diagnostics.statistics.statistics import Interval
from engine.diagnostics.verdicts.held_out import DealtPrompts, OtherPrompts
from engine.diagnostics.verdicts.question_part import MAX_ROWS, MeasuredParts
from store.documents.verdicts.classification import JudgingSplit
from store.documents.verdicts.forgetting import AdvicePiece
from store.documents.verdicts.verdict import GainParts, VerdictState

SMALL = 0.1  # of a gain: what surely is less is as good as nothing of it
MIN_SURE = 60  # rows, under which one in twenty that all of it comes from may well be missing


@dataclass(frozen=True)
class PartWords:
    """How a task calls its parts: what any prompt gives, a gain of `total` in words, the same where it is no
    sure gain, its unit, and what of the question was not learned."""

    shape: str
    gained: str
    changed: str
    unit: str
    unlearned: str


ANSWERS = PartWords(
    shape="the shape of the answers",
    gained="Of the gain of {total} nats a token",
    changed="Of the change of {total} nats a token",
    unit="nats a token",
    unlearned="what the question asks",
)
PAIRS = PartWords(
    shape="the style of the preferred answers",
    gained="Of the {total} nats a pair by which chosen answers gained on rejected ones",
    changed="Of the change of {total} nats a pair of chosen answers against rejected ones",
    unit="nats a pair",
    unlearned="which answer fits the question",
)


@dataclass(frozen=True)
class JudgedParts:
    """parts and others are None where nothing was measured, for the reason `why`, which is empty where there
    is no question. limit: up to which what the question adds doesn't matter."""

    parts: MeasuredParts | None
    others: OtherPrompts | None
    why: str
    limit: float
    words: PartWords

    def state(self, state: VerdictState) -> VerdictState:
        """Of a gain with that state."""
        if state != "learned" or not self._asked:
            return state
        if self._sure:
            return "learned"
        return "shape" if self.surely_small else "better"

    @property
    def _sure(self) -> bool:
        """What the question adds is told from 0 and may matter."""
        highest = self._highest
        return bool(self.parts and self.parts.question.above) and (highest is None or highest >= self.limit)

    @property
    def _asked(self) -> bool:
        """Whether rows have a question."""
        return bool(self.parts or self.why)

    @property
    def _highest(self) -> float | None:
        """The most that the question may add: the upper end, had no prompt come from a row with the same
        answer. None where that can't be told."""
        if self.parts is None or self.others is None or self.parts.question.high is None:
            return None
        unlike = 1 - self.others.dealt.same / len(self.others.dealt)
        return self.parts.question.high / unlike if unlike else None

    @property
    def surely_small(self) -> bool:
        """What the question adds is nothing to speak of, and that is sure."""
        return self._small and self.parts is not None and self.parts.question.n >= MIN_SURE

    @property
    def _small(self) -> bool:
        """What the question adds is nothing to speak of on the rows that were asked."""
        highest = self._highest
        if self.parts is None or highest is None:
            return False
        return highest <= max(self.limit, SMALL * self.parts.total.value)

    def lead(self, state: VerdictState) -> str:
        """How the headline of a sure gain begins."""
        if state == "shape":
            return f"Learned {self.words.shape}, not {self.words.unlearned}"
        if state != "better":
            return "Learned"
        if self.parts is None:
            return f"Better; whether it learned {self.words.unlearned} was not measured"
        return f"Better; whether it learned {self.words.unlearned} or just {self.words.shape} can't be told"

    @property
    def amount(self) -> str:
        """How a headline ends: "; from the question: 0.02 (−0.1 to 0.1)"."""
        return f"; from the question: {_bounded(self.parts.question)}" if self.parts else ""

    @property
    def sentences(self) -> list[str]:
        """The parts with their intervals and rows, or why there are none."""
        if self.parts is None or self.others is None:
            return [f"What of the gain is the question was not measured: {self.why}."] if self.why else []
        parts, dealt = self.parts, self.others.dealt
        places = phrasing.decimals(parts.total.low, parts.total.high)
        total = phrasing.number(parts.total.value, places)
        after, own = f"after {phrasing.plural(len(dealt), 'prompt')} of other rows", _bounded(parts.question)
        sentence = (
            f"{self.words.gained.format(total=total)} (n {parts.total.n:,}),"
            f" {_bounded(parts.shape)} are {self.words.shape}: as much is gained {after}."
            f" From the question: {own}."
        )
        if not parts.total.above:
            sentence = (
                f"{self.words.changed.format(total=total)} (minus is worse, n {parts.total.n:,}),"
                f" {_bounded(parts.shape)} came {after}, too. From the question: {own}."
            )
        return [sentence, *self._caveats(parts, dealt)]

    def _caveats(self, parts: MeasuredParts, dealt: DealtPrompts) -> list[str]:
        caveats, question = [], parts.question
        few = question.n < MIN_SURE and question.low is not None
        if few and parts.total.above and not self._sure:  # of what is no gain nobody asks whose it is
            caveats.append(
                f"The question's interval speaks of these {phrasing.plural(question.n, 'row')}: a kind of"
                " row whose answer hangs on its prompt may be missing among so few."
            )
        if dealt.same:
            caveats.append(
                f"Of these {phrasing.plural(len(dealt), 'prompt')} {dealt.same:,} could only come from a row"
                " with the same answer, so that the question's part is too small rather than too large."
            )
        if dealt.left_out:
            rows = phrasing.plural(dealt.left_out, "held-out row")
            has = "has" if dealt.left_out == 1 else "have"
            caveats.append(f"{rows} {has} no like row to take a prompt from, and no part in this.")
        return caveats

    @property
    def document(self) -> GainParts | None:
        """`verdict["parts"]`."""
        if self.parts is None or self.others is None:
            return None
        parts, dealt = self.parts, self.others.dealt
        return {
            "total": parts.total.to_dict(),
            "shape": parts.shape.to_dict(),
            "question": parts.question.to_dict(),
            "unit": self.words.unit,
            "pairs": len(dealt),
            "same": dealt.same,
            "left_out": dealt.left_out,
        }

    def advice(self, state: VerdictState, split: JudgingSplit, config: JudgedConfig) -> list[AdvicePiece]:
        """What to try where the gain is not the question's."""
        if state not in ("shape", "better") or self.parts is None:
            return []
        question = self.parts.question
        lead = "Hardly anything of the gain is" if question.above else "Nothing of the gain is surely"
        text = (
            f"{lead} from the question: look whether every answer belongs to its prompt, and whether prompts"
            " hold what the answers hang on and are not cut."
        )
        pieces: list[AdvicePiece] = [{"text": text, "change": {}}]
        asked = question.n + (self.others.dealt.left_out if self.others else 0)
        if self.surely_small or question.low is None or asked >= MAX_ROWS:
            return pieces
        if self._small:
            held = hold_out(MIN_SURE, question.n, split, config)
            text = f"{held['text']}: {MIN_SURE} may show that the question adds nothing that matters."
            return [*pieces, {**held, "text": text}]
        return [*pieces, more_rows(question, split, config, most=MAX_ROWS)]


def _bounded(part: Interval) -> str:
    """ "0.02 (−0.1 to 0.1)"."""
    if part.low is None or part.high is None:
        return f"{phrasing.alone(part.value)} (no interval: {part.why})"
    places = phrasing.decimals(part.low, part.high)
    return f"{phrasing.number(part.value, places)} ({phrasing.interval(part.low, part.high, places)})"
