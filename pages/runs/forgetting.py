"""The Forgetting tab of a run: how much it forgot, in which categories, the questions behind it, and
refusals.
"""

from __future__ import annotations

import streamlit as st

from engine.evaluation.verdicts import paired_measurements
from pages.runs import forgetting_charts
from pages.runs.checkpoint_curves import draw_checkpoint_curves
from pages.shared import brand, display, run_queries
from pages.shared.charts import PLOT
from pages.shared.layout import INTERPOLATION, LINK
from pages.shared.run_results import INKS, get_sign
from pages.shared.session import escape_markdown, show_errors
from store.core import formatting
from store.core.figure_schemas import Estimate
from store.core.job_kinds import ALIVE
from store.evaluation.forgetting_schemas import ChoiceForgetting, Divergence, Forgetting, RequestFlips
from store.evaluation.scored_rows import ProbeChange
from store.evaluation.verdict_schemas import ProbeQuestion, RefusalRow
from store.runs.schemas import Run

STATES = {  # state -> colour and icon
    "weaker": ("red", ":material/gpp_bad:"),
    "safer": ("green", ":material/gpp_good:"),
    "stricter": ("orange", ":material/block:"),
    "silent": ("orange", ":material/gpp_maybe:"),
    "same": ("gray", ":material/shield:"),
}
REQUEST_KINDS = {"changed": "Changed", "harmful": "To be refused", "harmless": "Harmless"}
TITLES = {
    "harmful": "Refused (should refuse)",
    "harmless": "Refused (should answer)",
}


def draw_refusals(run: Run, forgetting: Forgetting) -> None:
    """Draw the change of refusals: state, shares before and after, and the answers."""
    asked = forgetting.requests
    st.markdown("**Refusals**")
    if not asked:
        st.caption("Not measured in this run. Clone the run to measure it.")
        return
    color, icon = STATES[asked.state]
    st.markdown(f":{color}[{icon}] {escape_markdown(asked.sentences[0])}")
    with st.grid(2, min_column_width=230):
        _draw_share(TITLES["harmful"], asked.harmful, "harmful")
        _draw_share(TITLES["harmless"], asked.harmless, "harmless")
    st.caption(
        "A refusal is detected by how the answer begins, as in the rows of data sets."
        " 95% intervals of the change are paired (Tango), the test is McNemar's. Answers are greedy and cut"
        " after 32 tokens."
    )
    _draw_answers(run.run_id)


def _draw_share(title: str, kind: RequestFlips, name: str) -> None:
    before, after = kind.before.value, kind.after.value
    counts = [round(share * kind.n) for share in (before, after)]
    better = kind.won > kind.lost if name == "harmful" else kind.lost > kind.won
    sign = 0 if kind.p >= 0.05 else 1 if better else -1
    with st.container(border=True, height="stretch"):
        st.metric(
            title,
            f"{counts[0]} → {counts[1]} of {kind.n}",
            f"{display.format_estimate(kind.change, scale=100)} points",
            delta_color=INKS[sign],
            delta_arrow="off",
        )
        bounds = formatting.format_interval(*display.scale_bounds(kind.after, 100), 0)
        note = (
            f"after: {formatting.format_number(100 * after, 0)}% ({bounds}%). {kind.lost} no longer refused,"
        )
        st.caption(f"{note} {kind.won} newly refused, {display.format_p_value(kind.p)}.")


def _draw_answers(run_id: str) -> None:
    rows = run_queries.list_probe_requests(run_id)
    changed = [row for row in rows if row.base_refused != row.tuned_refused]
    with st.expander("Responses", icon=":material/forum:"):
        only = st.segmented_control(
            "Which requests", list(REQUEST_KINDS), default="harmful", key="refusals-only",
            format_func=REQUEST_KINDS.__getitem__, label_visibility="collapsed",
        )  # fmt: skip
        only = only or "harmful"
        listed = changed if only == "changed" else [r for r in rows if r.harmful == (only == "harmful")]
        if not listed:
            st.caption("None.")
            return
        st.dataframe(
            [_build_answer_row(row, only) for row in listed],
            hide_index=True,
            row_height=64,
            column_config={
                "Request": st.column_config.TextColumn(width="medium"),
                "Base": st.column_config.TextColumn(width="large"),
                "Tuned": st.column_config.TextColumn(width="large"),
            },
            alt=f"Requests and answers: {REQUEST_KINDS[only]}",
        )
        st.caption(f"{formatting.plural(len(listed), 'request')} of {len(rows)}.")


def _build_answer_row(row: RefusalRow, only: str) -> dict[str, str]:
    line = {"Request": row.text}
    if only == "changed":
        line["Should be"] = "refused" if row.harmful else "answered"
    marks = {True: "refused", False: "answered"}
    line["Before → after"] = f"{marks[row.base_refused]} → {marks[row.tuned_refused]}"
    line["Base"] = row.base or "(nothing)"
    line["Tuned"] = row.tuned or "(nothing)"
    return line


CHANGE_KINDS: dict[ProbeChange, str] = {
    "lost": "Right before, wrong after",
    "won": "Wrong before, right after",
    "wrong": "Wrong both times",
    "": "All",
}
PAGE = 10
TEXT_COLORS = {"light": brand.INK, "dark": brand.PAPER}


def draw_forgetting(run_id: str) -> None:
    """Draw the tab of one run."""
    with show_errors():
        run = run_queries.read_current_run(run_id)
        forgetting = run.verdict.forgetting if run.verdict else None
        if not forgetting:
            st.caption(_explain_no_figures(run))
            draw_checkpoint_curves(run, None)
            return
        state = display.FORGETTING[forgetting.state]
        st.subheader(f":{state.color}[{state.icon}] {escape_markdown(forgetting.headline)}", anchor=False)
        if forgetting.sentences:
            st.markdown("\n".join(f"- {escape_markdown(sentence)}" for sentence in forgetting.sentences))
        if run.status == "finished" and st.button(
            "Interpolate with the base model",
            icon=":material/linear_scale:",
            key="forgetting-mix",
            help="Scores models between base and tuned to choose how much of the change to keep. No"
            " training.",
        ):
            st.switch_page("pages/runs/run.py", query_params={"run": run_id, LINK: INTERPOLATION})
        _draw_numbers(forgetting)
        chosen = _choose_probe(forgetting.choices)
        left, right = st.columns(2, gap="large")
        for choices in chosen:
            with left:
                _draw_categories(choices)
            with right:
                st.markdown("**Answer changes**")
                ink = TEXT_COLORS["dark" if st.context.theme.type == "dark" else "light"]
                figure = forgetting_charts.plot_flips(choices, ink)
                alt = f"{choices.lost} answers lost and {choices.won} won of {choices.n}"
                st.plotly_chart(figure, key="forgetting-flips", config={"displayModeBar": False}, alt=alt)
                st.caption(_describe_test(choices))
        draw_checkpoint_curves(run, forgetting)
        draw_refusals(run, forgetting)
        if forgetting.choices:
            _draw_questions(run_id)
        _draw_weights(run)


def _draw_categories(choices: ChoiceForgetting) -> None:
    """Draw the change of each category; a single one would repeat the numbers above."""
    parts, unit = choices.categories, paired_measurements.format_item_name(choices.probe)
    if paired_measurements.is_users_probe(choices.probe) and len(parts) < 2:
        st.markdown(
            f"**{escape_markdown(paired_measurements.format_probe_title(choices.probe))}** has no categories."
        )
        st.caption(f"Its {formatting.plural(choices.n, unit)} count as one.")
        return
    kind = {"row": "label", "item": "task"}.get(unit, "category")
    st.markdown(f"**{unit.capitalize()}s by {kind}**, the most forgotten first")
    figure = forgetting_charts.plot_categories(parts)
    alt = "Change of accuracy by category with intervals"
    st.plotly_chart(figure, key="forgetting-categories", config=PLOT, alt=alt)
    st.caption(
        f"95% intervals over the {unit}s of each {kind}; red is a significant loss, Holm-corrected for"
        f" {len(parts)}."
    )


def _explain_no_figures(run: Run) -> str:
    if run.status in ALIVE:
        return "Forgetting is measured when training ends, with the verdict."
    if run.config.get("task") == "classification":
        return "Not measured: a model with a classification head can't answer general questions."
    if run.config.get("probes") is False:
        return "Not measured: probes were switched off for this run. Clone it with probes on to measure it."
    return "Not measured in this run. Clone the run to measure it."


def _draw_numbers(forgetting: Forgetting) -> None:
    parts = [*forgetting.texts, *forgetting.choices, *forgetting.divergence]
    with st.grid(max(1, min(4, len(parts))), min_column_width=210):
        for text in forgetting.texts:
            rows = formatting.plural(text.n, paired_measurements.format_item_name(text.probe))
            _draw_number(
                f"Loss on {paired_measurements.format_probe_title(text.probe)}",
                display.format_transition(text.before, text.after, 3),
                display.format_estimate(text.change),
                _get_change_sign(text.change, rises=False),
                f"{rows}, {(text.tokens or 0):,} tokens",
            )
        for choices in forgetting.choices:
            before, after = (
                f"{100 * share.value:.1f}" if share else "–" for share in (choices.before, choices.after)
            )
            _draw_number(
                f"Accuracy on {paired_measurements.format_probe_title(choices.probe)} (%)",
                f"{before} → {after}",
                f"{display.format_estimate(choices.change, scale=100)} points",
                _get_change_sign(choices.change, rises=True),
                formatting.plural(choices.n, paired_measurements.format_item_name(choices.probe)),
            )
        for part in forgetting.divergence:
            if part.kl:
                task, low, high = part.prompts == "task", part.kl.low, part.kl.high
                bounds = "" if low is None or high is None else f"{formatting.format_interval(low, high)} "
                _draw_number(
                    f"KL to the base, {'the task' if task else 'general texts'}",
                    display.format_number(part.kl.value),
                    f"{bounds}nats a token",
                    0,
                    _describe_basis(part, part.kl.n, task),
                )


def _describe_basis(part: Divergence, n: int, task: bool) -> str:
    whose = "answers to the task's prompts" if task else "texts"
    basis = f"on {formatting.plural(n, 'sample')} of the base model's own {whose}"
    if first := part.first_choice:
        basis += (
            f"; the same token first at {display.format_estimate(first, scale=100, sign=False)}% of places"
        )
    return basis


def _draw_number(label: str, value: str, delta: str, sign: int, basis: str) -> None:
    with st.container(border=True, height="stretch"):
        st.metric(label, value, delta, delta_color=INKS[sign], delta_arrow="off")
        st.caption(basis)


def _choose_probe(choices: list[ChoiceForgetting]) -> list[ChoiceForgetting]:
    """Choose the probe whose answers are drawn: general questions, data sets with labels, or tasks."""
    if len(choices) < 2:
        return choices
    by_name = {part.probe: part for part in choices}
    chosen = st.segmented_control(
        "Answers to",
        list(by_name),
        default=choices[0].probe,
        format_func=lambda probe: (
            "Questions"
            if probe == paired_measurements.CHOICES
            else paired_measurements.format_probe_title(probe)
        ),
        key="forgetting-choices",
        required=True,
    )
    return [by_name[chosen or choices[0].probe]]


def _get_change_sign(change: Estimate | None, *, rises: bool) -> int:
    """Return 1 if significantly better, -1 if significantly worse, 0 if inconclusive.

    rises: higher is better.
    """
    sign = get_sign(change)
    return sign if rises else -sign


def _describe_test(choices: ChoiceForgetting) -> str:
    significance = display.format_p_value(1.0 if choices.p is None else choices.p)
    chance = f"McNemar's test of {choices.lost:,} lost against {choices.won:,} won: {significance}."
    if choices.detectable is None:
        return chance
    return f"{chance} A change under {100 * choices.detectable:.1f} points can't be seen."


def _draw_weights(run: Run) -> None:
    """Draw how much each weight matrix has changed."""
    weights = run.verdict.weights if run.verdict else None
    if not weights:
        return
    st.markdown("**Weight changes**")
    if weights.relative is not None:
        figure = forgetting_charts.plot_weight_changes(run_queries.list_weight_changes(run.run_id))
        alt = "Change of each matrix in per cent of its norm, by layer and module"
        st.plotly_chart(figure, key="forgetting-weights", config={"displayModeBar": False}, alt=alt)
        moved = f"{100 * weights.relative:.2g}% of their norm"
        sentence = f"All {weights.matrices:,} matrices together by {moved}."
        if weights.strongest:
            sentence += (
                f" Of the {weights.strongest:,} strongest directions of {weights.spectra:,} matrices"
                f" {weights.intruders:,} are new (intruder dimensions)."
            )
        st.caption(sentence)
    for note in weights.notes:
        st.caption(escape_markdown(note))


def _draw_questions(run_id: str) -> None:
    st.markdown("**Questions**")
    only = st.segmented_control(
        "Which", list(CHANGE_KINDS), default="lost", key="forgetting-only",
        format_func=CHANGE_KINDS.__getitem__,
        label_visibility="collapsed",
    )  # fmt: skip
    only = "lost" if only is None else only
    page = st.session_state.get("forgetting-page", 1)
    total, rows = run_queries.list_probe_questions(run_id, only, PAGE, PAGE * (page - 1))
    if not total:
        st.caption("None.")
        return
    st.dataframe(
        [_build_question_row(row) for row in rows],
        hide_index=True,
        column_config={"Question": st.column_config.TextColumn(width="large")},
        alt=f"Questions: {CHANGE_KINDS[only]}",
    )
    pages = -(-total // PAGE)
    if pages > 1:
        st.pagination(pages, key="forgetting-page")
    st.caption(f"{formatting.plural(total, 'question')}; those first whose right answer lost most.")


def _build_question_row(row: ProbeQuestion) -> dict[str, str]:
    options = row.options
    return {
        "Question": row.text,
        "Right": options[row.right],
        "Base model": "–" if row.base is None else options[row.base],
        "Tuned model": "–" if row.tuned is None else options[row.tuned],
        "Category": forgetting_charts.format_category(
            row.category or paired_measurements.format_probe_title(row.probe)
        ),
    }
