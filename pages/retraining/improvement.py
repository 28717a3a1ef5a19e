"""One improvement: its steps while it is active, what became of the new rows, and what a person has to do."""

from __future__ import annotations

import streamlit as st

from pages.retraining import retraining_queries
from pages.retraining.decision import draw_decision
from pages.retraining.steps import (
    ImprovementContext,
    build_steps,
    draw_chain,
    find_round_id,
    get_current_state,
    list_job_ids,
)
from pages.shared import cached_queries, display, palette
from pages.shared.meters import STYLE
from pages.shared.session import (
    escape_markdown,
    has_right,
    live,
    redraw,
    send_command,
    show_errors,
    watch_engine,
)
from store.core.errors import NotFoundError
from store.core.formatting import plural
from store.core.model_schemas import ModelSummary
from store.data.schemas import Dataset
from store.retraining import text as improvement_text
from store.retraining.schemas import (
    AT_WORK,
    RESUMED,
    GatheredRows,
    Improvement,
    ImprovementFacts,
    RepeatedRow,
)
from store.retraining.text import (
    describe_draw,
    describe_leakage,
    describe_redaction,
    describe_reuse,
    is_all_random,
)

CHOSEN_ROWS = (
    "People chose which answers to correct or label, so the new rows show whether the model learned "
    "them, not how it does on all requests."
)
PICKED_ROWS = (
    "The new rows were selected, not sampled at random from requests. They show whether the model "
    "learned them, not how it does on all requests."
)
EARLIER_ROWS = (
    "The held-out new rows were sampled at random from requests, but not all of the earlier held-out "
    "rows were. A metric on all of them does not estimate quality on all requests."
)
EXCERPT = 200  # characters, as for skipped rows
DRAWN = 10  # maximum repeated rows drawn
MISSING = "deleted"
BAR = """<style>
.tb-fate {display: flex; height: 12px; border-radius: 6px; overflow: hidden; gap: 2px; margin: .3rem 0 .4rem}
.tb-fate div {height: 100%; min-width: 3px}
.tb-keys {display: flex; flex-wrap: wrap; gap: .15rem 1.3rem; font-size: .88rem}
.tb-keys i {display: inline-block; width: .7rem; height: .7rem; border-radius: 3px; margin-right: .45rem}
</style>"""


def draw_fate(improvement: Improvement) -> None:
    """Draw how the requested rows were used, as a bar and in words, and each reason for exclusion."""
    rows = improvement.facts.get("rows")
    if rows is None:
        return
    if improvement.state == "waiting":  # no rows are used for training yet
        _draw_excluded_rows(rows)
        return
    st.html(STYLE + BAR + render_bar(rows))
    for note in list_training_notes(rows):
        st.caption(note)
    _draw_excluded_rows(rows)
    _draw_repeated_rows(rows, improvement.facts)
    _draw_reused_rows(rows)
    if rows.held_out_random:
        st.caption(f"The held-out new rows were {describe_draw(rows)}.")
        if not is_all_random(rows):
            st.warning(EARLIER_ROWS, icon=":material/info:")
    else:
        sources = {source.source for source in improvement.config.rows}
        st.warning(CHOSEN_ROWS if sources == {"feedback"} else PICKED_ROWS, icon=":material/info:")


def _draw_excluded_rows(rows: GatheredRows) -> None:
    """Draw each reason for exclusion with its count."""
    if rows.left_out:
        with st.expander(
            f"Why {plural(count_excluded_rows(rows), 'row')} were left out", icon=":material/block:"
        ):
            for reason, count in sorted(rows.left_out.items(), key=lambda line: -line[1]):
                st.markdown(f"- **{count:,}** {escape_markdown(reason)}")


def _draw_repeated_rows(rows: GatheredRows, facts: ImprovementFacts) -> None:
    """Draw rows that repeat a held-out row, side by side with it, and possible remaining leakage."""
    dataset_id, checks = facts.get("rows_dataset_id"), facts["gate"].checks if "gate" in facts else []
    if sentence := describe_leakage(rows, checks[0] if checks else None):
        st.caption(f":material/content_copy: {sentence}")
    repeating = rows.repeating or []
    if not repeating or dataset_id is None:
        return
    repeats = rows.repeats or 0
    with st.expander(f"{plural(repeats, 'row')} and the rows they repeat", icon=":material/compare:"):
        with show_errors():
            for row in repeating[:DRAWN]:
                _draw_row_pair(row, dataset_id)
        if repeats > DRAWN:
            st.caption(f"Showing the first {DRAWN}.")


def _draw_row_pair(row: RepeatedRow, dataset_id: str) -> None:
    """Draw the beginnings of an excluded row and of the held-out row it repeats."""
    skipped = cached_queries.find_skipped_row(dataset_id, row.line)
    new = MISSING if skipped is None else skipped.excerpt
    other = next(
        (each for each in cached_queries.list_datasets() if each.fingerprint == row.fingerprint), None
    )
    judging, place = MISSING, f"Row {row.row_id:,}"
    if other is not None:
        judging = cached_queries.read_dataset_row(other.dataset_id, row.row_id)[0]["text"]
        judging = judging if len(judging) <= EXCERPT else f"{judging[: EXCERPT - 1]}…"
        place = f"Row {row.row_id:,} of {other.name} (held out)"
    with st.container(border=True):
        st.caption(escape_markdown(row.reason.capitalize()))
        for column, title, text in zip(st.columns(2), ("Left out", place), (new, judging), strict=True):
            with column:
                st.markdown(f"**{escape_markdown(title)}**")
                st.markdown(escape_markdown(text))


def _draw_reused_rows(rows: GatheredRows) -> None:
    """Draw how many held-out rows of earlier improvements are used again, and why others are not."""
    if sentence := describe_reuse(rows):
        st.caption(f":material/history: {sentence}")
    left = rows.again.left_out if rows.again is not None else {}
    if left:
        some = plural(sum(left.values()), "earlier row")
        with st.expander(f"Why {some} are no longer held out", icon=":material/history_off:"):
            for reason, count in left.items():
                st.markdown(f"- **{count:,}** {escape_markdown(reason)}")


def list_training_notes(rows: GatheredRows) -> list[str]:
    """List notes about the rows used for training."""
    lines = [sentence] if (sentence := describe_redaction(rows)) else []
    if rows.only_train:
        ask = "asks" if rows.only_train == 1 else "ask"
        lines.append(
            f"{plural(rows.only_train, 'row')} used for training {ask} the same as an old training row, "
            "and can't be held out."
        )
    if rows.corrects:
        lines.append(f"{plural(rows.corrects, 'old row')} replaced by a corrected answer.")
    return lines


def count_excluded_rows(rows: GatheredRows) -> int:
    """Return the number of excluded rows."""
    return sum(rows.left_out.values())


def render_bar(rows: GatheredRows) -> str:
    """Render the bar and its legend."""
    parts = (
        (rows.train, "for training", palette.TRAIN),
        (rows.held_out, "held out for evaluation", palette.VALIDATION),
        (count_excluded_rows(rows), "left out", palette.BASE),
    )
    cells = "".join(f"<div style='flex: {n}; background: {color}'></div>" for n, _, color in parts if n)
    keys = "".join(
        f"<span><i style='background: {color}'></i><b>{n:,}</b> {words}</span>"
        for n, words, color in parts
        if n or words == "for training"
    )
    return (
        f"<div class='tb-name'>How {plural(rows.asked, 'row')} were used</div><div class='tb-fate' "
        f"aria-hidden='true'>{cells}</div><div class='tb-keys'>{keys}</div>"
    )


BADGES = {
    "labelling": "orange",
    "deciding": "orange",
    "promoted": "green",
    "declined": "gray",
    "stopped": "gray",
    "waiting": "orange",
    "failed": "red",
}


def draw_improvement(model: ModelSummary, improvement: Improvement) -> None:
    """Draw one improvement; it refreshes while it is active."""
    with st.container(border=True, key="improvement"):
        _draw_head(model, improvement)
        moves = improvement.state in AT_WORK and improvement.state != "deciding"
        live("2s" if moves else None)(_draw_chain)(model, improvement.improvement_id, improvement.state)
        if improvement.state in RESUMED:
            _draw_failure(improvement)
        draw_fate(improvement)
    if "gate" in improvement.facts and improvement.state != "measuring":  # else measured again
        draw_decision(model, improvement)


def format_badge(improvement: Improvement) -> str:
    """Format the state as a badge."""
    state = improvement.state
    return f":{BADGES.get(state, 'blue')}-badge[{improvement_text.STATES[state].title}]"


def _draw_head(model: ModelSummary, improvement: Improvement) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"#### {escape_markdown(improvement.name)}", width="stretch")
        st.markdown(format_badge(improvement), width="content")
        stops = improvement.state in (*AT_WORK, *RESUMED) and improvement.state != "deciding"
        if stops and has_right("work"):
            _draw_stop(improvement)
    who = "the schedule" if improvement.scheduled else improvement.begun_by_name
    holder = improvement.facts.get("holder")
    whose = f"in place of {holder} as {improvement.alias}" if holder else f"for {improvement.alias}"
    moved = improvement_text.describe_moved_alias(improvement)
    st.caption(
        escape_markdown(
            f"Started by {who} {display.format_ago(improvement.begun_at)}, {whose}. {moved}".strip()
        )
    )


def _draw_stop(improvement: Improvement) -> None:
    label = "Stop improvement" if improvement.state in RESUMED else "Stop"
    with st.popover(label, icon=":material/stop_circle:", key="improve-stop"):
        st.markdown(
            "Everything it has made so far is kept: rows, data, run and version. You can start a "
            "new improvement at any time."
        )
        if st.button("Stop this improvement", type="primary", key="improve-stop-sure"):
            body = {"improvement": improvement.improvement_id}
            if send_command("stop_improvement", body, "Improvement stopped.") is not None:
                st.rerun()


def _draw_chain(model: ModelSummary, improvement_id: str, drawn: str) -> None:
    with show_errors():
        watch_engine()
        improvement = retraining_queries.read_improvement(improvement_id)
        if improvement.state != drawn:
            redraw()
        draw_chain(build_steps(improvement, read_context(model, improvement)))


def read_context(model: ModelSummary, improvement: Improvement) -> ImprovementContext:
    """Read the items an improvement refers to, if they still exist."""
    facts = improvement.facts
    listed = retraining_queries.list_jobs_by_id(list_job_ids(improvement))
    round_id, round = find_round_id(improvement), None
    if round_id:
        try:
            round = retraining_queries.read_round(round_id)
        except NotFoundError:
            round = None
    return ImprovementContext(
        model.name,
        round,
        _find_dataset(facts.get("rows_dataset_id")),
        _find_dataset(facts.get("dataset_id")),
        {job.job_id: job for job in listed},
    )


def _find_dataset(dataset_id: str | None) -> Dataset | None:
    try:
        return cached_queries.read_dataset(dataset_id) if dataset_id else None
    except NotFoundError:
        return None


def _draw_failure(improvement: Improvement) -> None:
    """Draw why it failed or waits, what to do, and a button that resumes it from that step."""
    trouble = improvement.trouble
    message = (
        trouble["message"]
        if trouble
        else "It failed without an error message. See the engine log (`logs/engine.log`)."
    )
    fix = f"  \n{escape_markdown(trouble['fix'])}" if trouble and trouble.get("fix") else ""
    if improvement.state == "waiting":
        st.warning(f"{escape_markdown(message)}{fix}", icon=":material/hourglass_empty:")
    else:
        st.error(f"{escape_markdown(message)}{fix}", icon=":material/error:")
    if not has_right("work"):
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Resume", type="primary", icon=":material/resume:", key="improve-resume"):
            body = {"improvement": improvement.improvement_id}
            if send_command("resume_improvement", body, "Improvement resumed.") is not None:
                st.rerun()
        if improvement.state == "failed" and "rows" in improvement.facts:
            title = improvement_text.STATES[get_current_state(improvement)].step
            st.caption(f"Steps before “{title}” are kept and not repeated.", width="content")
