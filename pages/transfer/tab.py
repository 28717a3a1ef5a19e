"""The Transfer tab: options, summary sentence, matrix, predictors of transfer, excluded rows, and
sequences of runs.

The selection is kept in the link. Only finished runs of one base model are offered together, because losses
of another tokenizer are not comparable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import streamlit as st

from engine.transfer import text as words
from engine.transfer.effects import TransferMeasure
from pages.shared import display, run_queries
from pages.shared.charts import PLOT, build_empty_figure, shorten_name
from pages.shared.job_progress import show_live
from pages.shared.model_form import ModelForm
from pages.shared.palette import BASE, get_run_color
from pages.shared.session import escape_markdown, has_right, send_command
from pages.transfer import matrix
from pages.transfer import matrix as points
from pages.transfer.matrix import PredictorPair, TransferMatrix, TransferRequest
from store.core import formatting
from store.core.formatting import plural
from store.core.schemas import Job
from store.data.schemas import Dataset
from store.runs.schemas import Run
from store.transfer.config import MAX_DATASETS, MAX_RUNS, TransferConfig

ABOUT_SETS = (
    "\n**Data sets:** 1 − cosine similarity of the mean embeddings, with its 95% CI over rows; n: rows of"
    " the smaller\ndata set.\n"
)
ABOUT_RUNS = (
    "\n**Runs:** cosine similarity of their weight changes over all matrices; small print: range of 95% of"
    " the layers, n\nlayers. Each matrix is hashed to 4,096 numbers, which changes the overall cosine by"
    " less than 0.01. Runs that\ncontinue an earlier run's merged model count with their own part only.\n"
)
EXCLUDED_ROWS_NOTE = (
    "\nRows used for training or validation of a run, and rows with the same question, are excluded. Near"
    " duplicates\nof its rows are kept and counted: a gain on them is partly memorization.\n"
)
MIN_SCATTER_PAIRS = 3  # minimum number of pairs for a plot
UNITS = {"relative": "Gain (% of the base model's loss)", "right": "Gain (points of exact match)"}


def draw_predictors(of: TransferMatrix) -> None:
    """Plot distance of the data and similarity of weight changes against measured transfer."""
    st.subheader("Transfer predictors", anchor=False)
    left, right = st.columns(2, gap="medium")
    with left:
        _draw_predictor(
            of,
            points.pair_by_data(of),
            "Data distance",
            "data distance",
            "1 − cosine similarity of mean embeddings",
        )
    with right:
        _draw_predictor(
            of,
            points.pair_by_weights(of),
            "Weight change similarity",
            "weight change similarity",
            "Cosine similarity of weight changes",
        )
    st.caption(
        "Each point is a run on a data set that it was not trained on; hollow: not significant. ρ:"
        " Spearman's rank correlation. Points that share a run or a data set are not independent, so the"
        " interval is likely too narrow."
    )
    with st.expander("Distances", icon=":material/straighten:"):
        _draw_matrices(of)


def _draw_predictor(
    of: TransferMatrix, pairs: Sequence[PredictorPair], title: str, what: str, axis: str
) -> None:
    correlation = points.compute_correlation(pairs)
    st.markdown(f"**{title}.** {escape_markdown(words.describe_correlation(correlation, what))}")
    if len(pairs) >= MIN_SCATTER_PAIRS:
        st.plotly_chart(
            plot_predictor(pairs, axis, UNITS[of.measure]),
            key=f"transfer-{what.split()[0]}",
            config=PLOT,
            alt=f"{title} against measured transfer, {plural(len(pairs), 'pair')}",
        )


def plot_predictor(pairs: Sequence[PredictorPair], x_title: str, y_title: str) -> go.Figure:
    """Plot a predictor against measured transfer with its interval; 0 is the base model."""
    figure = build_empty_figure("", y_title, 320, x_title=x_title)
    figure.add_hline(y=0, line={"dash": "dash", "color": BASE, "width": 1.4})
    y = [100 * pair.figure.value for pair in pairs]
    ends = [(p.figure.value, p.figure.low, p.figure.high) for p in pairs]
    reach = [
        [0 if high is None else abs(100 * (high - value)) for value, _, high in ends],
        [0 if low is None else abs(100 * (low - value)) for value, low, _ in ends],
    ]
    bars = {"type": "data", "symmetric": False, "array": reach[0], "arrayminus": reach[1]}
    inks = [get_run_color(pair.number) for pair in pairs]
    figure.add_trace(
        go.Scatter(
            x=[pair.x for pair in pairs],
            y=y,
            mode="markers",
            error_y={**bars, "width": 0, "thickness": 1.3, "color": "rgba(127,140,146,0.7)"},
            marker={
                "size": 11,
                "color": inks,
                "symbol": ["circle" if pair.sure else "circle-open" for pair in pairs],
                "line": {"width": 2, "color": inks},
            },
            hovertext=[_format_hover(pair) for pair in pairs],
            hovertemplate="%{hovertext}<extra></extra>",
            showlegend=False,
            name="Cells",
        )
    )
    figure.update_layout(hovermode="closest", margin={"t": 12, "b": 48})
    figure.update_xaxes(showgrid=True)
    return figure


def _format_hover(pair: PredictorPair) -> str:
    low, high = display.scale_bounds(pair.figure, 100)
    value = formatting.format_number(100 * pair.figure.value, formatting.compute_decimals(low, high, 1))
    return (
        f"{shorten_name(pair.label, 60)}<br>{value} ({formatting.format_interval(low, high)}), n"
        f" {pair.figure.n:,}"
        f"<br>predictor {formatting.format_number(pair.x, 3)}"
    )


def _draw_matrices(of: TransferMatrix) -> None:
    sets = {dataset.fingerprint: dataset.name for dataset in of.sets}
    for run in of.runs:
        sets.setdefault(run.data_fingerprint or "", run.dataset_name)
    distances, weights = of.measured.distances, of.measured.weights
    if len(sets) > 1 and distances:
        st.markdown(ABOUT_SETS)
        st.html(matrix.render_pair_table(sets, distances, "Data set distances"))
    runs = {run.run_id: f"#{run.number} {run.name}" for run in of.runs}
    if len(runs) > 1 and weights:
        st.markdown(ABOUT_RUNS)
        st.html(matrix.render_pair_table(runs, weights, "Weight change similarities"))


def draw_list(of: TransferMatrix) -> None:
    """Draw every cell as a row, with the contents of its tooltip, for sorting and screen readers."""
    with st.expander("All cells", icon=":material/list:"):
        st.dataframe(
            [points.build_row(cell, of.measure) for cell in of.cells.values()],
            hide_index=True,
            alt="Transfer by run and data set",
        )


def draw_excluded(of: TransferMatrix) -> None:
    """Draw the check for rows that a run had seen."""
    lines = points.list_excluded(of)
    if not lines:
        if of.cells:
            st.caption(
                ":material/verified: No overlap: no sampled row was seen in training, repeats a training"
                " question, or is a near duplicate of a training row."
            )
        return
    away = sum(line["Excluded: seen in training"] + line["Excluded: same question"] for line in lines)
    near = sum(line["Near duplicates (kept)"] for line in lines)
    title = f"{plural(away, 'row')} excluded, {plural(near, 'near duplicate')} kept"
    with st.expander(title, icon=":material/content_copy:"):
        st.markdown(EXCLUDED_ROWS_NOTE)
        st.dataframe(lines, hide_index=True, alt="Excluded rows by run and data set")


def draw_sequences(of: TransferMatrix) -> None:
    """Draw the backward transfer of runs that continue one another."""
    if not of.measured.sequences:
        return
    names = {run.run_id: f"#{run.number} {run.name}" for run in of.runs}
    st.subheader("Backward transfer", anchor=False)
    for chain in of.measured.sequences:
        chain_text = " → ".join(escape_markdown(names.get(run_id, run_id)) for run_id in chain.runs)
        backward = chain.transfer
        st.markdown(
            f"{chain_text}  \n"
            f"{escape_markdown(words.describe_backward_transfer(backward) if backward else chain.reason)}"
        )
        if not backward:
            continue
        for task in backward.tasks:
            low, high = display.scale_bounds(task, 100)
            value = formatting.format_number(100 * task.value, formatting.compute_decimals(low, high, 1))
            interval = formatting.format_interval(low, high)
            st.caption(
                f"{escape_markdown(task.name)}: {value} points ({interval}), n {plural(task.n, 'row')}"
            )


MEASURES = {"relative": "Loss", "right": "Exact match"}
LEGEND = {
    "relative": "Each cell: improvement over the base model on the data set, in % of the base model's loss",
    "right": "Each cell: change in exact match over the base model on the data set, in points",
}
READING = (
    "with its 95% CI over rows; hover for details. Blue: better, orange: worse, grey: not significant."
    " Outlined: the run's own data; dashed: data of a run that it continues. The interval does not cover"
    " variation between training seeds, which may be larger."
)
ABOUT = (
    "\nEvaluates each run on held-out rows of all selected data sets, compared with its base model, to"
    " show where training\non one data set improves others, degrades them, or has no significant effect.\n"
)


def draw_page() -> None:
    """Draw the tab of the comparison."""
    st.title("Transfer", anchor=False)
    draw_transfer()


def draw_transfer() -> None:
    """Draw the tab below its title."""
    every, sets = matrix.list_finished_runs(), run_queries.list_all_datasets()
    if not every or not sets:
        _draw_empty("No finished runs yet." if not every else "No data sets yet.")
        return
    runs, chosen, config, measure = _draw_choices(every, sets)
    if config is None:
        st.caption("Select at least one run and one data set.")
        return
    measured = matrix.read_transfer(
        tuple(config.runs), tuple(config.datasets), tuple(sorted(config.asked.items()))
    )
    of = matrix.build_matrix(runs, chosen, measured, measure)
    if of.cells or of.reasons:
        _draw_summary(of)
    _draw_measuring(of, config)
    theme = st.context.theme.type or "light"
    st.html(matrix.render_matrix(of, str(st.get_option(f"theme.{theme}.backgroundColor") or "Canvas")))
    st.caption(escape_markdown(_format_legend(of)))
    if of.cells:
        draw_list(of)
        draw_excluded(of)
        draw_sequences(of)
        if of.off:
            draw_predictors(of)


def _draw_choices(
    every: list[Run], sets: list[Dataset]
) -> tuple[list[Run], list[Dataset], TransferConfig | None, TransferMeasure]:
    """Draw the options; return runs, data sets, the config (None if incomplete), and the measure."""
    before: TransferRequest = matrix.read_newest_request() or {"runs": [], "datasets": []}
    mine, others = _choose_model_runs(every, before["runs"])
    by_id = {run.run_id: run for run in mine}
    names = {dataset.dataset_id: dataset for dataset in sets}
    form = ModelForm(TransferConfig, "", before)
    picked = form.draw_field(
        "runs",
        choices={i: f"#{run.number} {run.name} ({run.dataset_name})" for i, run in by_id.items()},
        label=f"Runs (up to {MAX_RUNS})",
        key="matrix-runs",  # link parameter `runs` belongs to another tab
        present=[i for i in before["runs"] if i in by_id] or matrix.choose_default_runs(mine),
        linked=True,
    )
    columns = st.columns([4, 2, 2, 2], gap="small")
    with columns[0]:
        to = _draw_datasets(form, names, [by_id[i] for i in picked], before)
    with columns[1]:
        form.draw_field("part", linked=True)
    with columns[2]:
        form.draw_field("max_rows", key="rows", linked=True)
    with columns[3]:
        measure = _draw_measure()
    if others:
        st.caption(
            f"{plural(others, 'run')} with other base models not listed: their losses are based on different"
            " tokens."
        )
    if not picked or not to:
        return [], [], None, measure
    rows = sorted((by_id[i] for i in picked), key=lambda run: run.number)
    return rows, matrix.sort_datasets([names[i] for i in to], rows), form.parse(), measure


def _draw_measure() -> TransferMeasure:
    chosen = st.segmented_control(
        "Metric",
        list(MEASURES),
        default="relative",
        key="figure",
        format_func=MEASURES.__getitem__,
        bind="query-params",
    )
    return "right" if chosen == "right" else "relative"


def _draw_datasets(
    form: ModelForm[TransferConfig], names: Mapping[str, Dataset], runs: list[Run], before: TransferRequest
) -> list[str]:
    """Draw the choice of the data sets, by default those of the newest matrix if it has these runs."""
    of_before = {run.run_id for run in runs} <= set(before["runs"])
    asked_before = [i for i in before["datasets"] if i in names] if of_before else []
    chosen: list[str] = form.draw_field(
        "datasets",
        choices={i: dataset.name for i, dataset in names.items()},
        label=f"Evaluation data sets (up to {MAX_DATASETS})",
        key="sets",
        present=asked_before or matrix.choose_default_datasets(runs, list(names.values())),
        linked=True,
    )
    return chosen


def _choose_model_runs(every: list[Run], before: list[str]) -> tuple[list[Run], int]:
    """Return the runs of one base model and the number of others; the choice is drawn if there are
    several.

    The default is the base model of the runs in the newest matrix.
    """
    counts: dict[str, int] = {}
    for run in every:
        counts[run.model] = counts.get(run.model, 0) + 1
    chosen = next((run.model for run in every if run.run_id in before), next(iter(counts)))
    if len(counts) > 1:
        chosen = st.selectbox(
            "Base model",
            list(counts),
            list(counts).index(chosen),
            key="model",
            width=320,
            bind="query-params",
            format_func=lambda model: model.rstrip("/").rsplit("/", 1)[-1],
        )
    kept = [run for run in every if run.model == chosen]
    return kept, len(every) - len(kept)


def _draw_summary(of: TransferMatrix) -> None:
    """Draw the summary sentence."""
    cells = list(of.cells.values())
    if not cells:
        st.subheader(":gray[:material/help:] None of these cells could be evaluated", anchor=False)
        return
    sure = [cell for cell in of.off if cell["sure"]]
    costs = any(cell["figure"].value < 0 for cell in sure)
    icon = ":gray[:material/help:]" if not sure else ":orange[:material/swap_horiz:]"
    if sure and not costs:
        icon = ":blue[:material/trending_up:]"
    st.markdown(f"##### {icon} {escape_markdown(words.describe_matrix(cells, of.measure))}")


def _draw_measuring(of: TransferMatrix, config: TransferConfig) -> None:
    """Draw the active job, or the button that starts it."""
    if alive := matrix.list_unfinished():
        with st.container(border=True):
            show_live(alive[0].job_id, "matrix", alive[0].title)
        return
    ended = matrix.find_failed_job()
    missing = of.measured.missing(config.runs, config.datasets)
    failed = [key for key in of.reasons if key in of.measured.cells]
    if missing and ended:
        _draw_bad_end(ended)
    if missing:
        pressed = has_right("work") and st.button(
            f"Evaluate {plural(len(missing), 'cell')}",
            type="primary",
            icon=":material/play_arrow:",
            key="transfer-go",
        )
        of_base = sum(("", dataset.dataset_id) not in of.measured.cells for dataset in of.sets)
        st.caption(_estimate_duration(len(missing) + of_base, config))
    elif failed:
        pressed = has_right("work") and st.button(
            f"Retry {plural(len(failed), 'cell')}", icon=":material/refresh:", key="transfer-again"
        )
    else:
        return
    if pressed and send_command("transfer", config.document(), "Transfer matrix queued.") is not None:
        st.rerun()


def _estimate_duration(cells: int, config: TransferConfig) -> str:
    pace = matrix.estimate_seconds_per_cell(config.max_rows)
    if pace is None:
        return (
            "An estimate of the duration is available after the first evaluation. Cells are never"
            " evaluated twice."
        )
    seconds, cells_timed = pace
    whole, each = display.format_duration(seconds * cells), display.format_duration(seconds)
    return (
        f"Estimated duration: {whole}, including the base model ({plural(cells_timed, 'cell')} took {each}"
        " each). Cells are never evaluated twice."
    )


def _draw_bad_end(job: Job) -> None:
    kept = "Completed cells are saved. Evaluate again to continue."
    if job.status == "cancelled":
        st.info(f"The last evaluation was cancelled. {kept}", icon=":material/info:")
        return
    error = job.error
    message = (error and error["message"]) or "The evaluation process ended without a result."
    fix = f" {error['fix']}" if error and error.get("fix") else ""
    st.error(f"{escape_markdown(message + fix)} {kept}", icon=":material/error:")


def _format_legend(of: TransferMatrix) -> str:
    count = len(of.cells)
    if not count:
        return f"{LEGEND[of.measure]}."
    stars = f"Stars: p < 0.05, 0.01, 0.001, Holm-corrected over {plural(count, 'cell')}."
    return f"{LEGEND[of.measure]}, {READING} {stars}"


def _draw_empty(sentence: str) -> None:
    with st.container(border=True, horizontal_alignment="left"):
        st.subheader("No transfer matrix yet", anchor=False)
        st.markdown(f"{escape_markdown(sentence)} {ABOUT}")
        if has_right("work") and st.button(
            "Launch a run", type="primary", icon=":material/rocket_launch:", key="transfer-launch"
        ):
            st.switch_page("pages/training/launch.py")
