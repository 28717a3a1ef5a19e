"""The list of evaluations, those of one run, and the details of one: figures, classes, slices, paired
comparison and rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import streamlit as st

from engine.evaluation.comparison import row_scores
from engine.evaluation.statistics.classification import list_most_confused
from engine.evaluation.statistics.metric_estimates import aggregate_scores
from pages.evaluation import evaluation_queries
from pages.evaluation.classes import CalibrationData, draw_calibration, draw_confusion, draw_table
from pages.evaluation.form import MODELS, draw_form, format_part
from pages.evaluation.paired_comparison import draw_comparison
from pages.evaluation.results import (
    draw_figures,
    draw_rows,
    draw_slices,
    format_estimate,
    format_metric_title,
)
from pages.people import activity_feed
from pages.people.activity_feed import draw_recent_activity
from pages.shared import cached_queries, display, layout, run_queries
from pages.shared.features import load_page_features
from pages.shared.job_progress import show_active_jobs, show_failed_jobs
from pages.shared.session import escape_markdown, get_client, has_right, send_command, show_error, show_errors
from store.core import formatting
from store.core.documents import parse_document
from store.core.errors import NotFoundError, QueryError
from store.core.figure_schemas import Estimate, Figure
from store.core.job_kinds import ALIVE
from store.evaluation import evaluations
from store.evaluation.schemas import (
    CalibrationBin,
    CalibrationError,
    ClassBreakdown,
    Evaluation,
    EvaluationSummary,
)

AVERAGES = {
    "macro": "Classes weighted equally",
    "weighted": "Weighted by rows per class",
    "micro": "All rows pooled",
}
PARTS = ("precision", "recall", "f1")


def draw_classes(evaluation: Evaluation) -> None:
    """Draw results by class; nothing if the evaluation has no accuracy over labels."""
    own = evaluation.evaluation_id
    figures = {figure.metric: figure for figure in evaluation.figures}
    accuracy = next((f for f in evaluation.figures if f.estimator == "accuracy"), None)
    if accuracy is None or accuracy.value is None or not accuracy.details.get("classes"):
        return
    counts = {"n": accuracy.n, "class_count": len(accuracy.labels)}
    tuned = parse_document(ClassBreakdown, accuracy.details | counts)  # details of the accuracy over labels
    confused = list_most_confused(tuned.confusion)
    st.markdown("**Averages over the classes**")
    try:
        st.dataframe(list_averages(own, accuracy.metric), hide_index=True, alt="Averages over the classes")
        rows = formatting.plural(accuracy.n, "row")
        st.caption(f"{rows}; 95% intervals by 2,000 resamples of the rows, of shares of rows Wilson's.")
    except QueryError:
        st.caption("The file with its scores is missing. Run the evaluation again to restore it.")
    draw_table(tuned)
    calibration = get_calibration(figures)
    left, right = st.columns([3, 2], gap="large")
    with left:
        draw_confusion(tuned, confused, key=f"evaluation-confusion-{own}")
    with right:
        if calibration:
            draw_calibration(calibration, key=f"evaluation-reliability-{own}")
        else:
            st.caption(
                "Answers in words have no probabilities. For calibration evaluate a run of the task Text"
                " classification, with the metric Calibration error."
            )


@st.cache_data(ttl=600, max_entries=64, show_spinner="Working out intervals …")
def list_averages(evaluation_id: str, metric: str) -> list[dict[str, str | int]]:
    """List precision, recall and F1 with intervals, one line per kind of average."""
    evaluation = evaluations.get(get_client(), evaluation_id)
    document = next(figure for figure in evaluation.figures if figure.metric == metric)
    scored = row_scores.read_scores_table(evaluations.scores(get_client(), evaluation_id), document)
    by_row = evaluations.groups(get_client(), evaluation_id)
    groups = None if by_row is None else [by_row.get(row) for row in scored.row_ids.tolist()]
    lines = []
    for way, title in AVERAGES.items():
        line: dict[str, str | int] = {"Average": way.capitalize(), "Counts": title}
        for part in PARTS:
            estimate = aggregate_scores(replace(scored, estimator=f"{part}_{way}"), groups)
            line[f"{'F1' if part == 'f1' else part.capitalize()} ↑"] = display.format_estimate(
                estimate, sign=False
            )
        lines.append(line | {"n": document.n})
    return lines


def get_calibration(figures: Mapping[str, Figure]) -> CalibrationData | None:
    """Build calibration data from the available figures; None without the calibration error."""
    ece, heat = figures.get("eval/ece"), figures.get("eval/temperature")
    if not ece or ece.value is None or not ece.details.get("bins"):
        return None
    return CalibrationData(
        CalibrationError(value=ece.value, null=ece.details["chance"], n=ece.n),
        parse_document(list[CalibrationBin], ece.details["bins"]),
        _get_estimate(figures.get("eval/brier")),
        _get_estimate(heat),
        overconfident=bool(heat and heat.details.get("overconfident")),
    )


def _get_estimate(figure: Figure | None) -> Estimate | None:
    """Return the figure as an estimate, or None if it has no value."""
    if not figure or figure.value is None:
        return None
    return Estimate(value=figure.value, low=figure.low, high=figure.high, n=figure.n)


def draw_delete(evaluation: Evaluation) -> bool:
    """Draw a delete button with confirmation, for members; return whether the evaluation was deleted."""
    if not has_right("work"):
        return False
    own = evaluation.evaluation_id
    with st.popover("Delete", icon=":material/delete:"):
        st.markdown("Its rows, scores and metrics are deleted; the model is kept.")
        pressed = st.button("Delete this evaluation", key=f"evaluation-delete-{own}")
    return pressed and send_command("delete", {"job": own}, "The evaluation is deleted.") is not None


def draw_detail(evaluation: Evaluation) -> None:
    """Draw one evaluation, from its main results to single rows and comments."""
    if maker := activity_feed.describe_creator(evaluation.created_by):
        st.caption(f"Asked for by {escape_markdown(maker)}, {display.format_ago(evaluation.created_at)}")
    if evaluation.notes:
        st.caption(escape_markdown(evaluation.notes))
    draw_figures(evaluation)
    draw_classes(evaluation)
    st.markdown("**Comparison with another evaluation, on the same rows**")
    draw_comparison(evaluation)
    st.markdown("**Slices**: better or worse than on the other rows")
    draw_slices(evaluation)
    own = evaluation.evaluation_id
    for feature in load_page_features().values():
        if feature.draw_evaluation_part:
            feature.draw_evaluation_part(own, evaluation_queries.list_comparable(own))
    st.markdown("**Row by row**")
    draw_rows(evaluation)
    activity_feed.draw_comments("evaluation", own)
    draw_recent_activity("evaluation", own)


HEADLINES = 3  # number of metric columns in the list
MAIN = "First figure"
BAD_ENDS = 5  # maximum number of failures shown
LIVE = 4


def draw_evaluations(run_id: str) -> None:
    """Draw the tab of one run."""
    with show_errors():
        run = run_queries.read_current_run(run_id)
        if run.status in ALIVE:
            st.caption("The model can be evaluated on any data set once the run has ended.")
            return
        listed = evaluation_queries.list_run_evaluations(run_id)
        alive = draw_unfinished(run_id)
        if not listed and not alive:
            st.markdown(
                "No evaluations of this run yet. Select rows and metrics and press **Evaluate**: the model"
                " answers every row, and each metric has a confidence interval. Evaluate the base model on"
                " the same rows to compare the two row by row."
            )
        with st.expander("Evaluate this run", icon=":material/add:", expanded=not listed and not alive):
            draw_form(run)
        if listed:
            _draw_list(listed)
            _draw_chosen(listed)


def draw_unfinished(run_id: str | None) -> bool:
    """Draw active and failed evaluations of a run or of all models; return whether some are active."""
    unfinished = evaluation_queries.list_unfinished(run_id)
    alive = [job.job_id for job in unfinished if job.status in ALIVE]
    if alive:
        show_active_jobs(lambda: evaluation_queries.list_unfinished(run_id), alive, "evaluation", most=LIVE)
    ended = [job for job in unfinished if job.job_id not in alive]
    if ended:  # collapsed, because failures must not hide the results
        newest = ended[-1]
        head = f"{formatting.plural(len(ended), 'evaluation')} without a result; the newest: {newest.title}"
        with st.expander(escape_markdown(head), icon=":material/error:"):
            show_failed_jobs(ended, "evaluation", BAD_ENDS)
    return bool(alive)


def _draw_list(listed: list[Evaluation]) -> None:
    """Draw one line per evaluation, with a column for each of the most common metrics."""
    heads = choose_headline_metrics(listed)
    lines = [_build_summary_row(evaluation, heads) for evaluation in listed]
    st.dataframe(lines, hide_index=True, alt="Evaluations of this run, newest first")
    st.caption(f"{formatting.plural(len(listed), 'evaluation')}, newest first; intervals in brackets.")


def choose_headline_metrics(listed: Sequence[Evaluation | EvaluationSummary]) -> dict[str, str]:
    """Return metric -> column title for the most common metrics with a value."""
    heads: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for evaluation in listed:
        for figure in evaluation.figures:
            if figure.value is not None:
                counts[figure.metric] += 1
                name = format_metric_title(figure.metric, evaluation.config)
                heads.setdefault(figure.metric, f"{name} {display.get_arrow(figure.better)}")
    return {metric: heads[metric] for metric, _ in counts.most_common(HEADLINES)}


def format_main_figure(evaluation: Evaluation | EvaluationSummary) -> str:
    """Format the first figure that has a value, with its name; it exists for any choice of metrics."""
    figure = next((each for each in evaluation.figures if each.value is not None), None)
    if figure is None:
        return "no value"
    return f"{format_estimate(figure)} {format_metric_title(figure.metric, evaluation.config)}"


def build_cells(evaluation: Evaluation | EvaluationSummary, heads: dict[str, str]) -> dict[str, str]:
    """Format each of these metrics with its interval; a dash if it was not measured."""
    figures = {figure.metric: figure for figure in evaluation.figures}
    return {
        head: format_estimate(figures[metric]) if metric in figures else "–" for metric, head in heads.items()
    }


def _build_summary_row(evaluation: Evaluation, heads: dict[str, str]) -> dict[str, str | int]:
    figures = build_cells(evaluation, heads)
    return {
        "Model": MODELS[evaluation.checkpoint],
        MAIN: format_main_figure(evaluation),
        "Data set": evaluation.dataset_name,
        "Rows": format_part(evaluation),
        "n": evaluation.n,
        **figures,
        "Evaluation": evaluation.name,
        "When": display.format_ago(evaluation.created_at),
    }


def _draw_chosen(listed: list[Evaluation]) -> None:
    """Draw the selected evaluation."""
    by_id = {evaluation.evaluation_id: evaluation for evaluation in listed}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Evaluation",
            list(by_id),
            format_func=lambda own: f"{by_id[own].name}, {display.format_ago(by_id[own].created_at)}",
            key="evaluation-shown",
        )
        gone = draw_delete(by_id[chosen])
    if gone:
        st.rerun()
    draw_detail(by_id[chosen])


PAGE = 20
TABLE, LINK = "evaluations-table", "evaluation"


def count_evaluations() -> int:
    """Return the number of finished evaluations."""
    return evaluation_queries.list_evaluations("", "", "", 1, 0)[0]


def draw_list() -> Evaluation | None:
    """Draw filters and one page of the table; return the evaluation selected by link or click."""
    search, dataset_id, model, mine = _draw_filters()
    total, rows = layout.read_page(
        "evaluations-page",
        PAGE,
        lambda offset: evaluation_queries.list_evaluations(search, dataset_id, model, PAGE, offset, mine),
    )
    if not total:
        st.caption("No evaluation matches. Clear the search or choose another filter.")
        return None
    heads = choose_headline_metrics(rows)
    ids = [row.evaluation_id for row in rows]
    st.dataframe(
        [_build_row(row, heads) for row in rows],
        hide_index=True,
        on_select=lambda: _handle_selection(ids),
        selection_mode="single-row",
        key=TABLE,
        column_config={
            "Evaluation": st.column_config.TextColumn(width=150),  # leaves room for the figure on a phone
            MAIN: st.column_config.TextColumn(width=200),
        },
        alt="Evaluations, newest first",
    )
    pages = -(-total // PAGE)
    if pages > 1:
        st.pagination(pages, key="evaluations-page")
    counted = f"{len(rows)} of {formatting.plural(total, 'evaluation')}" if pages > 1 else ""
    counted = counted or formatting.plural(total, "evaluation")
    st.caption(f"{counted}, newest first; 95% intervals in brackets. A click on a line shows it below.")
    asked = st.query_params.get(LINK, "")
    try:
        return evaluation_queries.read_evaluation(asked or ids[0])
    except NotFoundError as error:
        show_error(error)
        return evaluation_queries.read_evaluation(ids[0])


def _draw_filters() -> tuple[str, str, str, str]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        search = st.text_input(
            "Search", key="evaluations-search", type="search", live="300ms", icon=":material/search:",
            placeholder="Search name, notes, data set, model", label_visibility="collapsed",
        )  # fmt: skip
        names = {row.dataset_id: row.name for row in cached_queries.list_datasets()}
        dataset_id = st.selectbox(
            "Data set", ["", *names], format_func=lambda own: names.get(own, "All data sets"),
            key="evaluations-dataset", label_visibility="collapsed",
        )  # fmt: skip
        model = st.selectbox(
            "Model or run", ["", *evaluation_queries.list_models()],
            format_func=lambda name: name or "All models and runs",
            key="evaluations-model", label_visibility="collapsed",
        )  # fmt: skip
        mine = activity_feed.draw_own_items_switch("evaluation", "evaluations_mine")
    return (search or "").strip(), dataset_id or "", model or "", mine


def _handle_selection(ids: list[str]) -> None:
    rows = st.session_state[TABLE]["selection"]["rows"]
    if rows:
        st.query_params[LINK] = ids[rows[0]]
    else:
        st.query_params.pop(LINK, None)


def _build_row(row: EvaluationSummary, heads: dict[str, str]) -> dict[str, str | int]:
    return {
        "Evaluation": row.name,
        MAIN: format_main_figure(row),
        "Model": MODELS[row.checkpoint] if row.run_id else row.model,
        "Of the run": row.run_name or "–",
        "Data set": row.dataset_name,
        "Rows": format_part(row),
        "n": row.n,
        **build_cells(row, heads),
        "When": display.format_ago(row.created_at),
    }
