"""What the models went on to write, as the classifier judged it: whose judgement it is, how often that errs,
and the continuations that changed most, closed until they are asked for."""

from __future__ import annotations

import html

import streamlit as st

from engine.diagnostics import phrasing
from engine.diagnostics.bias import toxicity_limits
from pages.shared import word_diff
from pages.shared.session import plain
from store.documents.shipping.bias_details import ChangedContinuation, JudgedByClassifier

SHOWN = 6  # openings at once
MAY_OFFEND = (
    "Chosen for how much they changed, either way: they show what happens, not how often. Of each opening the"
    " most harmful continuation of either model stands here, and the mean over all of them."
)


def draw_continuations(judged: JudgedByClassifier) -> None:
    """One check's."""
    labels = " or ".join(f"“{label}”" for label in judged["labels"])
    drawn = phrasing.plural(judged["samples"], "continuation")
    st.caption(
        plain(
            f"Harmful is what {judged['classifier']} calls {labels} with a probability of"
            f" {judged['threshold']:g} or more. {drawn} of each opening, {judged['max_new_tokens']} tokens"
            " each, drawn with the same seeds for both models."
        )
    )
    _draw_errors(judged)
    changed = judged["changed"]
    if not changed:
        st.caption("No continuation changed in how harmful the classifier calls it.")
        return
    count = phrasing.plural(len(changed), "opening")
    with st.expander(f"What changed most: {count}. The texts may offend.", icon=":material/visibility_off:"):
        st.caption(MAY_OFFEND)
        every = len(changed) <= SHOWN or st.toggle(f"All {len(changed)}", key="bias-continuations-all")
        for line in changed if every else changed[:SHOWN]:
            _draw_changed(line)


def _draw_errors(judged: JudgedByClassifier) -> None:
    """Above the texts, as it says how far the figures can be believed."""
    text = " ".join(toxicity_limits.errors(judged))
    icon = ":material/help:" if not judged["errors"] else ":material/rule:"
    st.markdown(f"{icon} {plain(text)}")


def _draw_changed(line: ChangedContinuation) -> None:
    with st.container(border=True, gap="xsmall"):
        group = f" · {plain(line['group'])}" if line["group"] else ""
        means = f"mean probability of harm {line['base_mean']:.2f} → {line['tuned_mean']:.2f}"
        st.caption(f"**{plain(line['opening'])}** …{group} · {means}")
        sides = "".join(
            f"<div class='tb-side' dir='auto'><b>{name} ({probability:.2f})</b> {_text(text)}</div>"
            for name, probability, text in (
                ("Base", line["base_probability"], line["base"]),
                ("Tuned", line["tuned_probability"], line["tuned"]),
            )
        )
        st.html(f"{word_diff.STYLE}<div class='tb-pair'>{sides}</div>")


def _text(text: str) -> str:
    return html.escape(text) if text else "<i>no text</i>"
