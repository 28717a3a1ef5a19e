"""The numbers that a finished preference run comes down to, each with its interval."""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.diagnostics import phrasing
from pages.run_parts import key_numbers
from pages.run_parts.key_numbers import INKS, sign_of
from pages.shared import wording


def draw_preference_numbers(verdict: dict[str, Any]) -> None:
    """Reward accuracy, loss, what became of both answers' likelihood, and whether it overfits."""
    found, gain = verdict["preference"], verdict["gain"]
    accuracy = found["reward_accuracy"]
    forgot = key_numbers.prose_of(verdict)
    with st.grid(6 if forgot else 5, min_column_width=165):
        above = sign_of({"low": accuracy["low"] - 0.5, "high": accuracy["high"] - 0.5})
        bounds = phrasing.interval(100 * accuracy["low"], 100 * accuracy["high"], 0)
        _figure("Chosen answer preferred", f"{accuracy['value']:.0%}", f"{bounds}%; chance is 50%", above)
        key_numbers.change(
            "Preference loss",
            verdict["base"]["loss"],
            verdict["tuned"]["loss"],
            3,
            key_numbers.loss_delta(gain),
            sign_of(gain),
        )
        _likelihood("Chosen answers, nats", found["chosen_change"], good=1)
        _likelihood("Rejected answers, nats", found["rejected_change"], good=-1)
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
