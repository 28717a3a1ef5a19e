"""Main results of a finished run, base and tuned with intervals: for answers, classes and preferences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import streamlit as st

from engine.evaluation.statistics.intervals import get_limits
from pages.shared import display
from pages.shared.session import escape_markdown
from store.core import formatting
from store.core.figure_schemas import Estimate, Gain, UnitEstimate
from store.evaluation.forgetting_schemas import Membership, MembershipState, TextForgetting
from store.evaluation.schemas import ClassAverages, Classification
from store.evaluation.verdict_schemas import GainParts, Overfitting, PreferenceFigures, Verdict

Ink = Literal["green", "red", "gray", "orange"]
MAX_NATS = 100.0
MAX_PLAIN_PERPLEXITY = 10_000  # larger values are shortened
INKS: dict[int, Ink] = {1: "green", -1: "red", 0: "gray"}
MEMBERSHIP_INKS: dict[MembershipState, Ink] = {"remembers": "red", "none": "green", "unclear": "gray"}


@dataclass(frozen=True)
class Bounds:
    """Both ends of an interval."""

    low: float | None
    high: float | None


@dataclass(frozen=True)
class NumberChange:
    """One number, base and tuned, with its decimal places. delta: text of the change; sign: 1 significantly
    better, -1 significantly worse, 0 inconclusive; rises: higher is better.
    """

    label: str
    before: float | None
    after: float | None
    places: int
    delta: str | None
    sign: int
    rises: bool = False


def draw_key_numbers(verdict: Verdict) -> None:
    """Draw loss, perplexity and token accuracy on held-out rows, overfitting, and forgetting."""
    base, tuned, gain = verdict.base, verdict.tuned, verdict.gain
    accuracy = verdict.accuracy_gain
    before, after = (None if m.token_accuracy is None else 100 * m.token_accuracy for m in (base, tuned))
    points = display.format_estimate(accuracy, scale=100) if accuracy else None  # per 100 tokens
    forgot, parts = get_prose_result(verdict), verdict.parts
    cards = 3 + bool(parts) + bool(verdict.overfitting) + bool(forgot)
    with st.grid(cards, min_column_width=180):
        draw_change(build_loss_change(verdict))
        draw_question_gain(parts)
        sides = ["–" if m.perplexity is None else _format_any_size(m.perplexity) for m in (base, tuned)]
        ratio = format_perplexity_ratio(gain)
        _draw_metric("Perplexity", " → ".join(sides), ratio, get_sign(gain), rises=False)
        draw_change(
            NumberChange("Token accuracy (%)", before, after, 1, points, get_sign(accuracy), rises=True)
        )
        if verdict.overfitting:
            draw_overfitting(verdict.overfitting)
        if forgot:
            draw_forgetting(forgot)
    st.caption(describe_basis(verdict))


def describe_basis(verdict: Verdict) -> str:
    """The rows and tokens behind the numbers, and the level of their intervals.

    Without a gain it is unknown which split was used; the rows are then called held-out rows.
    """
    tuned, gain = verdict.tuned, verdict.gain
    noun, sees = "held-out row", ""
    if gain:
        noun, sees = f"{gain.split} row", ", seen only by the verdict" if gain.split == "test" else ""
    tokens = formatting.plural(tuned.tokens, "trained token")
    sentence = f"Base → tuned on {formatting.plural(tuned.n, noun)}{sees}, with {tokens}"
    if forgot := get_prose_result(verdict):
        sentence += f"; forgetting on {formatting.plural(forgot.n, 'passage')} of plain prose"
    bounded = [part for part in (gain, verdict.accuracy_gain) if part and part.low is not None]
    return (
        f"{sentence}; 95% intervals of the change over rows{describe_widened_intervals(gain)}."
        if bounded
        else f"{sentence}."
    )


def describe_widened_intervals(gain: Gain | None) -> str:
    """A note that intervals are corrected for choosing the best of several steps; runs of older versions have
    none.
    """
    steps = (gain.chosen_of if gain else None) or 0
    return f", widened for the {steps} steps that these rows chose from" if steps > 1 else ""


def get_prose_result(verdict: Verdict) -> TextForgetting | None:
    """The result of the loss on prose, if it was measured."""
    texts = verdict.forgetting.texts if verdict.forgetting else ()
    return next((text for text in texts if text.probe == "prose" and text.change), None)


def draw_question_gain(parts: GainParts | None) -> None:
    """Draw the part of the gain that depends on the question, with its interval; nothing if it was not
    measured.
    """
    if not parts:
        return
    own = parts.question
    total = display.format_number(parts.total.value, 2)
    value, _, bounds = display.format_estimate(own).partition(" (")
    st.metric(
        f"Of {total}, the question's",
        value,
        f"{bounds.removesuffix(')')}, n {own.n:,}" if bounds else None,
        delta_color=INKS[get_sign(own)],
        delta_arrow="off",
        border=True,
        height="stretch",
        help="The part of the gain that depends on a row's own prompt. The rest is also gained with prompts"
        " of other rows: which answers occur, and how often.",
    )


def draw_forgetting(text: TextForgetting) -> None:
    """Draw the loss on prose, coloured by whether its rise is material."""
    status = display.FORGETTING[text.state]
    ink: Ink = "gray" if status.color == "blue" else status.color
    value = display.format_transition(text.before, text.after, 3)
    rise = display.format_estimate(text.change)
    st.metric(
        "Forgetting, prose loss",
        value,
        rise,
        delta_color=ink,
        delta_arrow="off",
        border=True,
        height="stretch",
    )


def draw_membership(evidence: Membership | None) -> None:
    """Draw membership inference, from placebo to tuned model; nothing if it was not tested."""
    if not evidence or not evidence.best:
        return
    score = evidence.scores[evidence.best]
    ink = MEMBERSHIP_INKS[evidence.state]
    placebo = score.placebo.value if score.placebo else 0.5
    st.metric(
        "Membership, AUC",
        display.format_transition(placebo, score.auc.value, 2),
        display.format_estimate(score.excess),
        delta_color=ink,
        delta_arrow="off",
        border=True,
        height="stretch",
        help="How well training rows can be distinguished from held-out rows; 0.5 is chance.",
    )


def draw_overfitting(shape: Overfitting) -> None:
    best, since = shape.best_step, shape.since_step
    note = f"best step {best:,}" if best is not None else None
    ink: Ink = "red" if since is not None else "green" if shape.state == "none" else "gray"
    value = f"Significant since step {since:,}" if since is not None else shape.state.capitalize()
    if shape.state == "diverged":
        value, ink = "Diverged", "red"
        note = f"since step {since:,}" if since is not None else note
    if shape.stage == "memorising":
        note = f"overfitting, significant since step {since:,}" if since is not None else note
        value, ink = "Memorizes", "red"
    st.metric("Overfitting", value, note, delta_color=ink, delta_arrow="off", border=True, height="stretch")


def _format_any_size(value: float) -> str:
    return (
        display.format_parameters(value)
        if value >= MAX_PLAIN_PERPLEXITY
        else formatting.format_perplexity(value)
    )


def build_loss_change(verdict: Verdict, label: str = "Held-out loss") -> NumberChange:
    """The main loss of a run, base and tuned."""
    base, tuned, gain = verdict.base, verdict.tuned, verdict.gain
    return NumberChange(label, base.loss, tuned.loss, 3, format_loss_delta(gain), get_sign(gain))


def draw_change(change: NumberChange) -> None:
    """Draw a card of the number."""
    value = display.format_transition(change.before, change.after, change.places)
    _draw_metric(change.label, value, change.delta, change.sign, rises=change.rises)


def _draw_metric(label: str, value: str, delta: str | None, sign: int, *, rises: bool) -> None:
    up = (sign > 0) == rises
    st.metric(
        label,
        value,
        delta,
        delta_color=INKS[sign],
        delta_arrow="off" if not sign else "up" if up else "down",
        border=True,
        height="stretch",
    )


def get_sign(interval: Bounds | Estimate | None) -> int:
    """1 significantly better, -1 significantly worse, 0 inconclusive."""
    if not interval or interval.low is None or interval.high is None:
        return 0
    return 1 if interval.low > 0 else -1 if interval.high < 0 else 0


def subtract_level(interval: Estimate, level: float) -> Bounds:
    """The interval relative to a level other than 0."""
    low, high = interval.low, interval.high
    return Bounds(None if low is None else low - level, None if high is None else high - level)


def format_loss_delta(gain: Gain | None) -> str | None:
    """Format the change of the loss, which is minus the gain."""
    if not gain:
        return None
    low, high = gain.low, gain.high
    ends = (None, None) if low is None or high is None else (-high, -low)
    return display.format_estimate(Estimate(value=-gain.value, low=ends[0], high=ends[1], n=gain.n))


def format_perplexity_ratio(gain: Gain | None) -> str | None:
    """Format the perplexity ratio of a gain in nats, exp(-gain); a tiny ratio is written as a divisor."""
    if not gain or gain.low is None or gain.high is None:
        return None
    gains = (gain.high, gain.value, gain.low)
    if max(map(abs, gains)) > MAX_NATS:
        return None  # the ratio would have hundreds of digits
    low, value, high = (math.exp(-nats) for nats in gains)
    if value < 1 / MAX_PLAIN_PERPLEXITY:
        parts = [display.format_parameters(1 / part) for part in (value, high, low)]
        return "÷{} ({} to {})".format(*parts)
    places = formatting.compute_decimals(low, high)
    return f"×{formatting.format_number(value, places)} ({formatting.format_interval(low, high, places)})"


def draw_class_numbers(verdict: Verdict, classification: Classification) -> None:
    """Draw accuracy, macro F1 and loss against the majority class, and overfitting."""
    base, tuned = verdict.base, verdict.tuned
    points = display.format_estimate(verdict.accuracy_gain, scale=100).removesuffix(")") + " points)"
    macro = classification.models.tuned.f1_macro
    members = verdict.membership  # runs of older versions have none
    with st.grid(5 if members else 4, min_column_width=180):
        shares = (100 * (base.accuracy or 0.0), 100 * (tuned.accuracy or 0.0))  # never None with a head
        sign = get_sign(verdict.accuracy_gain)
        draw_change(NumberChange("Accuracy (%)", *shares, 1, points, sign, rises=True))
        now = f"now {formatting.format_interval(macro.low, macro.high)}"
        if get_limits(macro) is None:
            now = f"no interval: {macro.why}" if macro.why else "no interval"
        f1 = base.f1_macro, tuned.f1_macro
        draw_change(NumberChange("Macro F1", *f1, 2, now, 0, rises=True))
        draw_change(build_loss_change(verdict))
        if verdict.overfitting:
            draw_overfitting(verdict.overfitting)
        draw_membership(members)
    split = classification.split
    sees = ", seen only by the verdict" if split == "test" else ""
    st.caption(
        f"Always the most frequent class → tuned on {formatting.plural(tuned.n, f'{split} row')}{sees};"
        " loss in nats a row. 95% intervals, of changes over rows in pairs."
    )


def draw_models(classification: Classification) -> None:
    """Draw one line per model: the tuned model and its baselines."""
    models = classification.models
    rows = [_build_model_row("Tuned", models.tuned)]
    if models.prompted is not None:
        rows.append(_build_model_row("Untuned, asked for the label", models.prompted))
    rows.append(_build_model_row("Always the most frequent class", models.majority))
    st.dataframe(rows, hide_index=True, alt="Accuracy and F1 of the tuned model and of its baselines")
    tuned = models.tuned
    named = (("Macro F1", tuned.f1_macro), ("Weighted F1", tuned.f1_weighted))
    if reasons := display.describe_missing_intervals(named):
        st.caption(escape_markdown(reasons))


def _build_model_row(title: str, figures: ClassAverages) -> dict[str, str | int]:
    return {
        "Model": title,
        "Accuracy ↑": format_percent(figures.accuracy),
        "Macro F1 ↑": display.format_estimate(figures.f1_macro, sign=False, reason=False),
        "Weighted F1 ↑": display.format_estimate(figures.f1_weighted, sign=False, reason=False),
        "n": figures.n,
    }


def format_percent(interval: Estimate | None) -> str:
    """ "91% (88 to 94)" of {value, low, high}, a share."""
    if not interval:
        return "–"
    value, bracket, bounds = display.format_estimate(interval, scale=100, sign=False).partition(" (")
    return f"{value}%{bracket}{bounds}"


def choose_gain_to_draw(verdict: Verdict) -> tuple[UnitEstimate | None, str]:
    """The gain drawn on the verdict card, and its axis title."""
    gain, accuracy = verdict.gain, verdict.accuracy_gain
    if not gain:
        return None, ""
    if not verdict.classification or not accuracy or gain.unit != "nats a row":
        return gain, f"Gain in {gain.unit}, 95% interval; 0 is the base model"
    low, high = display.scale_bounds(accuracy, 100)
    points = UnitEstimate(
        value=100 * accuracy.value,
        low=low,
        high=high,
        n=accuracy.n,
        unit="points",
    )
    return points, "Gain in points of accuracy; 0 is the most frequent class"


def draw_preference_numbers(verdict: Verdict, preference: PreferenceFigures) -> None:
    """Draw reward accuracy, loss, the likelihood of both answers, and overfitting."""
    accuracy = preference.reward_accuracy
    forgot = get_prose_result(verdict)
    with st.grid(5 + bool(forgot) + bool(verdict.parts), min_column_width=165):
        bounds = formatting.format_interval(*display.scale_bounds(accuracy, 100), 0)
        above = get_sign(subtract_level(accuracy, 0.5))
        _draw_figure("Chosen answer preferred", f"{accuracy.value:.0%}", f"{bounds}%; chance is 50%", above)
        draw_change(build_loss_change(verdict, "Preference loss"))
        _draw_likelihood("Chosen answers, nats", preference.chosen_change, good=1)
        _draw_likelihood("Rejected answers, nats", preference.rejected_change, good=-1)
        draw_question_gain(verdict.parts)
        if verdict.overfitting:
            draw_overfitting(verdict.overfitting)
        if forgot:
            draw_forgetting(forgot)
    st.caption(describe_class_basis(verdict))


def _draw_figure(label: str, value: str, note: str, sign: int) -> None:
    st.metric(label, value, note, delta_color=INKS[sign], delta_arrow="off", border=True, height="stretch")


def _draw_likelihood(label: str, change: Estimate, *, good: int) -> None:
    """Draw the change of the answers' mean log-probability."""
    value, _, bounds = display.format_estimate(change).partition(" (")
    _draw_figure(label, value, bounds.removesuffix(")"), good * get_sign(change))


def describe_class_basis(verdict: Verdict) -> str:
    """The rows or pairs behind the numbers, and the level of their intervals."""
    tuned, gain = verdict.tuned, verdict.gain
    split = gain.split if gain else "held-out"
    sees = ", seen only by the verdict" if split == "test" else ""
    return (
        f"On {formatting.plural(tuned.n, f'{split} pair')}{sees}. Preferred: more than by the base model,"
        " with Wilson's 95% interval. Answers: the change of their log-probability, summed over tokens."
        f" Other 95% intervals over pairs{describe_widened_intervals(gain)}."
    )
