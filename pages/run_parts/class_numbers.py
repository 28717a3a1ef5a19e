"""The numbers that a classifier comes down to, each with its interval, and the models it is held against.

The numbers that a finished preference run comes down to, each with its interval.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.diagnostics import phrasing
from pages.run_parts import key_numbers
from pages.run_parts.key_numbers import (
    INKS,
    NumberChange,
    draw_change,
    held_out_loss,
    membership,
    overfitting,
    sign_of,
)
from pages.shared import wording

MODELS = {
    "tuned": "Tuned",
    "prompted": "Untuned, asked for the label",
    "majority": "Always the most frequent class",
}


def draw_class_numbers(verdict: dict[str, Any]) -> None:
    """Accuracy, macro F1 and loss against always the most frequent class, and whether it overfits."""
    base, tuned = verdict["base"], verdict["tuned"]
    points = wording.estimate(verdict["accuracy_gain"], scale=100).removesuffix(")") + " points)"
    macro = verdict["classification"]["models"]["tuned"]["f1_macro"]
    members = verdict.get("membership")  # runs from before it was tested have none
    with st.grid(5 if members else 4, min_column_width=180):
        shares = (100 * base["accuracy"], 100 * tuned["accuracy"])
        sign = sign_of(verdict["accuracy_gain"])
        draw_change(NumberChange("Accuracy, %", *shares, 1, points, sign, rises=True))
        bounds = phrasing.interval(macro["low"], macro["high"])
        f1 = base["f1_macro"], tuned["f1_macro"]
        draw_change(NumberChange("Macro F1", *f1, 2, f"now {bounds}", 0, rises=True))
        draw_change(held_out_loss(verdict))
        overfitting(verdict["overfitting"])
        membership(members)
    split = verdict["classification"]["split"]
    sees = ", seen only by the verdict" if split == "test" else ""
    st.caption(
        f"Always the most frequent class → tuned on {phrasing.plural(tuned['n'], f'{split} row')}{sees};"
        " loss in nats a row. 95% intervals, of changes over rows in pairs."
    )


def draw_models(classification: dict[str, Any]) -> None:
    """A line a model: the tuned one and those that it is held against."""
    rows = [
        _model(title, classification["models"][name])
        for name, title in MODELS.items()
        if name in classification["models"]
    ]
    st.dataframe(
        rows, hide_index=True, alt="Accuracy and F1 of the tuned model and of what it is held against"
    )


def _model(title: str, figures: dict[str, Any]) -> dict[str, Any]:
    return {
        "Model": title,
        "Accuracy ↑": percent(figures["accuracy"]),
        "Macro F1 ↑": wording.estimate(figures["f1_macro"], sign=False),
        "Weighted F1 ↑": wording.estimate(figures["f1_weighted"], sign=False),
        "n": figures["n"],
    }


def percent(interval: dict[str, Any] | None) -> str:
    """ "91% (88 to 94)" of {value, low, high}, a share."""
    if not interval:
        return "–"
    value, bracket, bounds = wording.estimate(interval, scale=100, sign=False).partition(" (")
    return f"{value}%{bracket}{bounds}"


def drawn_gain(verdict: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The gain that a verdict's card draws, and what its axis says."""
    gain, classification = verdict["gain"], verdict.get("classification")
    if not classification or not gain or gain["unit"] != "nats a row":
        return gain, f"Gain in {gain['unit']}, 95% interval; 0 is the base model" if gain else ""
    points = {k: None if v is None else 100 * v for k, v in verdict["accuracy_gain"].items() if k in BOUNDS}
    return {**points, "unit": "points"}, "Gain in points of accuracy; 0 is the most frequent class"


BOUNDS = ("value", "low", "high")


def draw_preference_numbers(verdict: dict[str, Any]) -> None:
    """Reward accuracy, loss, what became of both answers' likelihood, and whether it overfits."""
    preference = verdict["preference"]
    accuracy = preference["reward_accuracy"]
    forgot = key_numbers.prose_of(verdict)
    with st.grid(6 if forgot else 5, min_column_width=165):
        above = sign_of({"low": accuracy["low"] - 0.5, "high": accuracy["high"] - 0.5})
        bounds = phrasing.interval(100 * accuracy["low"], 100 * accuracy["high"], 0)
        _figure("Chosen answer preferred", f"{accuracy['value']:.0%}", f"{bounds}%; chance is 50%", above)
        draw_change(held_out_loss(verdict, "Preference loss"))
        _likelihood("Chosen answers, nats", preference["chosen_change"], good=1)
        _likelihood("Rejected answers, nats", preference["rejected_change"], good=-1)
        key_numbers.overfitting(verdict["overfitting"])
        if forgot:
            key_numbers.forgetting(forgot)
    st.caption(basis(verdict))


def _figure(label: str, value: str, note: str, sign: int) -> None:
    st.metric(label, value, note, delta_color=INKS[sign], delta_arrow="off", border=True, height="stretch")


def _likelihood(label: str, change: dict[str, Any], *, good: int) -> None:
    """The change of the answers' mean log-probability."""
    value, _, bounds = wording.estimate(change).partition(" (")
    _figure(label, value, bounds.removesuffix(")"), good * sign_of(change))


def basis(verdict: dict[str, Any]) -> str:
    """The pairs that the numbers rest on, and what the intervals are."""
    tuned, split = verdict["tuned"], verdict["gain"]["split"]
    sees = ", seen only by the verdict" if split == "test" else ""
    return (
        f"On {phrasing.plural(tuned['n'], f'{split} pair')}{sees}. Preferred: more than by the base model,"
        " with Wilson's 95% interval. Answers: the change of their log-probability, summed over tokens."
        f" Other 95% intervals over pairs{key_numbers.widened(verdict['gain'])}."
    )
