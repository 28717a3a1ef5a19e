"""The numbers that a classifier comes down to, each with its interval, and the models it is held against.

The numbers that a finished preference run comes down to, each with its interval.
"""

from __future__ import annotations

import streamlit as st

from engine.diagnostics import phrasing
from engine.diagnostics.statistics.statistics import limits
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
from pages.shared.session import plain
from store.documents.figures.estimate import Estimate
from store.documents.verdicts.classification import ClassAverages, Classification
from store.documents.verdicts.forgetting import UnitEstimate
from store.documents.verdicts.verdict import PreferenceFigures, Verdict


def draw_class_numbers(verdict: Verdict, classification: Classification) -> None:
    """Accuracy, macro F1 and loss against always the most frequent class, and whether it overfits."""
    base, tuned = verdict["base"], verdict["tuned"]
    points = wording.estimate(verdict["accuracy_gain"], scale=100).removesuffix(")") + " points)"
    macro = classification["models"]["tuned"]["f1_macro"]
    members = verdict["membership"]  # runs from before it was tested have none
    with st.grid(5 if members else 4, min_column_width=180):
        shares = (100 * base["accuracy"], 100 * tuned["accuracy"])
        sign = sign_of(verdict["accuracy_gain"])
        draw_change(NumberChange("Accuracy, %", *shares, 1, points, sign, rises=True))
        now = f"now {phrasing.interval(macro['low'], macro['high'])}"
        if limits(macro) is None:
            now = f"no interval: {macro['why']}" if macro.get("why") else "no interval"
        f1 = base["f1_macro"], tuned["f1_macro"]
        draw_change(NumberChange("Macro F1", *f1, 2, now, 0, rises=True))
        draw_change(held_out_loss(verdict))
        if verdict["overfitting"]:
            overfitting(verdict["overfitting"])
        membership(members)
    split = classification["split"]
    sees = ", seen only by the verdict" if split == "test" else ""
    st.caption(
        f"Always the most frequent class → tuned on {phrasing.plural(tuned['n'], f'{split} row')}{sees};"
        " loss in nats a row. 95% intervals, of changes over rows in pairs."
    )


def draw_models(classification: Classification) -> None:
    """A line a model: the tuned one and those that it is held against."""
    models = classification["models"]
    rows = [_model("Tuned", models["tuned"])]
    if "prompted" in models:
        rows.append(_model("Untuned, asked for the label", models["prompted"]))
    rows.append(_model("Always the most frequent class", models["majority"]))
    st.dataframe(
        rows, hide_index=True, alt="Accuracy and F1 of the tuned model and of what it is held against"
    )
    tuned = models["tuned"]
    named = (("Macro F1", tuned["f1_macro"]), ("Weighted F1", tuned["f1_weighted"]))
    if reasons := wording.missing_intervals(named):
        st.caption(plain(reasons))


def _model(title: str, figures: ClassAverages) -> dict[str, str | int]:
    return {
        "Model": title,
        "Accuracy ↑": percent(figures["accuracy"]),
        "Macro F1 ↑": wording.estimate(figures["f1_macro"], sign=False, reason=False),
        "Weighted F1 ↑": wording.estimate(figures["f1_weighted"], sign=False, reason=False),
        "n": figures["n"],
    }


def percent(interval: Estimate | None) -> str:
    """ "91% (88 to 94)" of {value, low, high}, a share."""
    if not interval:
        return "–"
    value, bracket, bounds = wording.estimate(interval, scale=100, sign=False).partition(" (")
    return f"{value}%{bracket}{bounds}"


def drawn_gain(verdict: Verdict) -> tuple[UnitEstimate | None, str]:
    """The gain that a verdict's card draws, and what its axis says."""
    gain, accuracy = verdict["gain"], verdict["accuracy_gain"]
    if not gain:
        return None, ""
    if not verdict["classification"] or not accuracy or gain["unit"] != "nats a row":
        return gain, f"Gain in {gain['unit']}, 95% interval; 0 is the base model"
    low, high = wording.ends(accuracy, 100)
    points: UnitEstimate = {
        "value": 100 * accuracy["value"],
        "low": low,
        "high": high,
        "n": accuracy["n"],
        "unit": "points",
    }
    return points, "Gain in points of accuracy; 0 is the most frequent class"


def draw_preference_numbers(verdict: Verdict, preference: PreferenceFigures) -> None:
    """Reward accuracy, loss, what became of both answers' likelihood, and whether it overfits."""
    accuracy = preference["reward_accuracy"]
    forgot = key_numbers.prose_of(verdict)
    with st.grid(5 + bool(forgot) + bool(verdict["parts"]), min_column_width=165):
        bounds = phrasing.interval(*wording.ends(accuracy, 100), 0)
        above = sign_of(key_numbers.beyond(accuracy, 0.5))
        _figure("Chosen answer preferred", f"{accuracy['value']:.0%}", f"{bounds}%; chance is 50%", above)
        draw_change(held_out_loss(verdict, "Preference loss"))
        _likelihood("Chosen answers, nats", preference["chosen_change"], good=1)
        _likelihood("Rejected answers, nats", preference["rejected_change"], good=-1)
        key_numbers.question(verdict["parts"])
        if verdict["overfitting"]:
            key_numbers.overfitting(verdict["overfitting"])
        if forgot:
            key_numbers.forgetting(forgot)
    st.caption(basis(verdict))


def _figure(label: str, value: str, note: str, sign: int) -> None:
    st.metric(label, value, note, delta_color=INKS[sign], delta_arrow="off", border=True, height="stretch")


def _likelihood(label: str, change: Estimate, *, good: int) -> None:
    """The change of the answers' mean log-probability."""
    value, _, bounds = wording.estimate(change).partition(" (")
    _figure(label, value, bounds.removesuffix(")"), good * sign_of(change))


def basis(verdict: Verdict) -> str:
    """The pairs that the numbers rest on, and what the intervals are."""
    tuned, gain = verdict["tuned"], verdict["gain"]
    split = gain["split"] if gain else "held-out"
    sees = ", seen only by the verdict" if split == "test" else ""
    return (
        f"On {phrasing.plural(tuned['n'], f'{split} pair')}{sees}. Preferred: more than by the base model,"
        " with Wilson's 95% interval. Answers: the change of their log-probability, summed over tokens."
        f" Other 95% intervals over pairs{key_numbers.widened(gain)}."
    )
