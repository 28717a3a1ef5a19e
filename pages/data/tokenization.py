"""The "How the model sees it" tab: any row token by token under any chat template, and token statistics of
the data set.

Problems with the loss mask are reported here in the same words as at launch, so that nobody discovers them
after training. Also here: the token length histogram with the `max_length` cut, and the tab's inputs (model,
chat template, length, loss, row).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from pages.data import dataset_queries
from pages.shared import cached_queries, display, meters
from pages.shared.charts import PLOT, build_empty_figure
from pages.shared.model_form import ModelForm
from pages.shared.palette import BAD, VALIDATION
from pages.shared.session import show_errors
from pages.shared.text_display import render_row
from pages.training.preview import describe_full_length
from store.core.formatting import plural
from store.core.model_folders import TEMPLATES
from store.core.training_schemas import RenderedRow, RenderedSet, Rendering
from store.data.config import RenderingQuery
from store.data.schemas import Dataset
from store.training.train_config import BUNDLED_MODEL

OWN, WRITTEN = "Model default", "Custom"
TITLES = {"chatml": "ChatML", "llama3": "Llama 3", "zephyr": "Zephyr", "headings": "Plain headings"}


def choose_rendering(dataset: Dataset) -> RenderingQuery | None:
    """Draw the choice of model, template and length; None while a template is being written."""
    key = f"rendering-{dataset.dataset_id}"
    form = ModelForm(RenderingQuery, f"{key}-", {"model": BUNDLED_MODEL})
    model, template, length = st.columns([2, 2, 1])
    with model:
        names = [BUNDLED_MODEL, *(row.name for row in cached_queries.list_models())]
        form.draw_field("model", choices={name: name for name in names})
    named = template.selectbox(
        "Chat template",
        [OWN, *TEMPLATES, WRITTEN],
        format_func=lambda name: TITLES.get(name, name),
        key=f"{key}-template",
        disabled=dataset.kind == "text",
    )
    with length:
        form.draw_field("max_length", label="max_length", key=f"{key}-length")
    text = "" if named == OWN else named
    if named == WRITTEN:
        text = _write_template(key)
        if not text.strip():
            return None
    if dataset.kind != "text":  # plain text has no separate answer
        label = "Compute the loss on answers only"
        form.draw_field("completion_only_loss", label=label, key=f"{key}-only")
    row = int(st.session_state.get(row_key(dataset), 0))
    return form.parse(fingerprint=dataset.fingerprint, kind=dataset.kind, chat_template=text, row=row)


def _write_template(key: str) -> str:
    """Draw an editor for a custom template, with an example while it is empty."""
    text = st.text_area("Jinja over messages", key=f"{key}-jinja", height=140)
    if not text.strip():
        st.caption("Write a template, for example:")
        st.code(TEMPLATES["chatml"], "jinja2", wrap_lines=True)
    return text


def row_key(dataset: Dataset) -> str:
    """Return the session key of the displayed row."""
    return f"rendering-{dataset.dataset_id}-row"


def plot_lengths(counts: Sequence[int], edges: Sequence[float], max_length: int) -> go.Figure:
    """Plot a histogram of `counts` between `edges` (one more); bars beyond `max_length` are red."""
    figure = build_empty_figure("Length of the rows", "Rows", 260)
    centres = (np.asarray(edges[:-1]) + np.asarray(edges[1:])) / 2
    colors = [BAD if begin >= max_length else VALIDATION for begin in edges[:-1]]
    figure.add_bar(
        x=centres,
        y=list(counts),
        width=np.diff(edges),
        marker={"color": colors, "line_width": 0},
        customdata=np.column_stack([np.ceil(edges[:-1]), np.floor(edges[1:])]),
        hovertemplate="%{customdata[0]:,} to %{customdata[1]:,} tokens: %{y:,} rows<extra></extra>",
    )
    figure.update_layout(showlegend=False, bargap=0.05)
    figure.update_xaxes(title="Tokens of a row", rangemode="tozero", tickformat=",")
    if max_length < edges[-1]:
        figure.add_vline(
            x=max_length, line={"color": BAD, "dash": "dash", "width": 1.5},
            annotation={"text": f"max_length {max_length:,}", "font": {"color": BAD}},
        )  # fmt: skip
    return figure


MAX_LOST_SHARE = 0.01  # maximum acceptable share of trained tokens cut off


def show_rendering(dataset: Dataset) -> None:
    """Draw the tab of one data set."""
    asked = choose_rendering(dataset)
    if asked is None:
        return
    with show_errors(), st.spinner("Tokenizing the rows …", show_time=True):
        answer = dataset_queries.render_row(asked)
        _show_checks(answer, asked.completion_only_loss)
        answers = answer.checks is not None  # plain text has neither answers nor a template
        facts = _format_figures(answer.set)
        st.html(meters.render_facts(facts if answers else facts[:-1]))
        _show_row(dataset, answer.row)
        _show_lengths(answer.set)
        if answers:
            with st.expander("The template", icon=":material/code:"):
                st.code(answer.template, "jinja2", wrap_lines=True)


def _show_checks(answer: Rendering, answers_alone: bool) -> None:
    """Draw one sentence that confirms the loss mask, or one for each problem with it."""
    checks = answer.checks
    if checks is None:
        st.caption("Plain text: the loss is computed on every token except the first.")
        return
    n = checks.counted
    wrong = [
        (checks.unlocated, "the template does not separate the answer from the prompt"),
        (checks.leaking if answers_alone else 0, "the loss covers the user's turns"),
        (checks.missed, "a part of the answer is not trained"),
        (checks.unclosed, "no end-of-answer token is trained, so the model would not learn to stop"),
    ]
    if not any(count for count, _ in wrong):
        what = "answers and their end tokens only" if answers_alone else "prompts and answers"
        _draw_verified(f"The loss covers {what}, checked on {plural(n, 'row')}.", answer.set)
    for count, what in wrong:
        if count:
            st.error(f"In {count:,} of {plural(n, 'row')} {what}.", icon=":material/error:")


def _draw_verified(sentence: str, whole: RenderedSet) -> None:
    """Draw the confirmation, in green only if few trained tokens are cut off, because those are never
    learned.
    """
    lost, trained = whole.lost_tokens, whole.trained_tokens
    if lost <= MAX_LOST_SHARE * trained:
        st.success(sentence, icon=":material/verified:")
        return
    st.warning(
        f"{sentence} But {display.format_share(lost, trained)} of the tokens to train on are cut off at "
        f"{whole.max_length:,} tokens and never learned. Raise max_length, or shorten the rows.",
        icon=":material/content_cut:",
    )


def _format_figures(whole: RenderedSet) -> list[tuple[str, str, str]]:
    """Format the figures of the set; the last one is about answers."""
    rows, of = whole.counted, whole.of
    about = f"of {of:,} rows" if rows == of else f"counted on {rows:,} of {of:,} rows"
    untrained = sum(whole.untrained.values())
    why = "; ".join(f"{count:,}: {reason}" for reason, count in whole.untrained.items())
    lost = display.format_share(whole.lost_tokens, whole.trained_tokens)
    return [
        ("Tokens", display.format_count(whole.tokens), about),
        (
            "Trained on",
            display.format_share(whole.trained_tokens, whole.tokens),
            f"{display.format_count(whole.trained_tokens)} tokens",
        ),
        ("Rows without a trained token", f"{untrained:,}", why or "every row has some"),
        (
            "Rows cut",
            f"{whole.cut_rows:,}",
            f"at {whole.max_length:,} tokens; the longest has {whole.longest:,}"
            + describe_full_length(whole.keeping_all),
        ),
        (
            "Answers cut",
            f"{whole.shortened_answers:,}",
            f"{lost} of all trained tokens; the median one loses {whole.median_lost_share:.0%} of its own"
            if whole.shortened_answers
            else "no answer loses a token",
        ),
    ]


def _show_row(dataset: Dataset, row: RenderedRow) -> None:
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.markdown("**Model input**")
            st.number_input(
                "Row",
                0,
                dataset.row_count - 1,
                key=row_key(dataset),
                width=140,
                help=f"Rows are counted from 0 to {dataset.row_count - 1:,}.",
            )
        st.html(render_row(row))


def _show_lengths(whole: RenderedSet) -> None:
    st.plotly_chart(
        plot_lengths(whole.lengths.counts, whole.lengths.edges, whole.max_length),
        key="rendering-lengths",
        config=PLOT,
        alt="Rows by their length in tokens, and where max_length cuts them",
    )
