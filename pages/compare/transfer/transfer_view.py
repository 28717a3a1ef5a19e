"""Every run on every data set: what is asked, the sentence, the matrix, and what stands beside it.

The choice is in the link. Only finished runs of one base model are offered together: losses of another
model's tokens are other losses.
"""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from engine.diagnostics.phrasing import plural
from engine.diagnostics.transfer import transfer_words as words
from engine.diagnostics.transfer.transfer import TransferMeasure
from pages.compare.transfer import transfer_points, transfer_reads, transfer_table
from pages.compare.transfer.transfer_beside import draw_left_out, draw_list, draw_predictors, draw_sequences
from pages.compare.transfer.transfer_points import JudgedMatrix
from pages.compare.transfer.transfer_reads import AskedTransfer
from pages.run_parts import run_reads
from pages.shared import quantities
from pages.shared.progress_bar import show_live
from pages.shared.session import act, may, plain
from store.config.judging.transfer_config import MOST_DATASETS, MOST_RUNS, TransferConfig
from store.documents.tables.dataset import Dataset
from store.documents.tables.job import Job
from store.documents.tables.run import Run

MEASURES = {"relative": "Loss", "right": "Answers right"}
PARTS = {"test": "Test", "validation": "Validation"}
LEGEND = {
    "relative": "Each cell: by how many per cent of the base model's loss the run is better on that data set",
    "right": "Each cell: how many points more answers than the base model's are exactly right",
}
READING = (
    "with its 95% interval over rows; more on hovering. Blue helps, orange costs, grey can't be told"
    " from noise. Outlined: the run's own data; dashed: of a run that it went on from. Another seed of the"
    " same training may differ by more than the rows do."
)
ABOUT = """
Runs are trained on one data set and judged on it. Here each is asked for the held-out rows of other data sets
too, beside its base model: what helps, what costs, and what can't be told from noise.
"""


def draw_transfer() -> None:
    """All of the tab below its title."""
    every, sets = transfer_reads.finished_runs(), run_reads.datasets()
    if not every or not sets:
        _draw_nothing("No run has finished yet." if not every else "There is no data set.")
        return
    runs, chosen, config, measure = _choices(every, sets)
    if config is None:
        st.caption("Choose at least one run and one data set.")
        return
    measured = transfer_reads.measured_transfer(
        tuple(config.runs), tuple(config.datasets), tuple(sorted(config.asked.items()))
    )
    of = transfer_points.matrix(runs, chosen, measured, measure)
    if of.cells or of.reasons:
        _draw_lead(of)
    _draw_measuring(of, config)
    theme = st.context.theme.type or "light"
    st.html(transfer_table.table(of, str(st.get_option(f"theme.{theme}.backgroundColor") or "Canvas")))
    st.caption(plain(_legend(of)))
    if of.cells:
        draw_list(of)
        draw_left_out(of)
        draw_sequences(of)
        if of.off:
            draw_predictors(of)


def _choices(
    every: list[Run], sets: list[Dataset]
) -> tuple[list[Run], list[Dataset], TransferConfig | None, TransferMeasure]:
    """Runs, data sets, the whole question (None where it is incomplete), and which figure is drawn."""
    before: AskedTransfer = transfer_reads.newest() or {"runs": [], "datasets": []}
    mine, others = _of_model(every, before["runs"])
    by_id = {run["run_id"]: run for run in mine}
    names = {dataset["dataset_id"]: dataset for dataset in sets}
    picked = st.multiselect(
        f"Runs, at most {MOST_RUNS}",
        list(by_id),
        default=[i for i in before["runs"] if i in by_id] or transfer_points.start_runs(mine),
        key="matrix-runs",  # `runs` are in the link those of the other tab
        format_func=lambda i: f"#{by_id[i]['number']} {by_id[i]['name']} ({by_id[i]['dataset_name']})",
        max_selections=MOST_RUNS,
        bind="query-params",
    )
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        to = _pick_sets(names, [by_id[i] for i in picked], before)
        part = _choice("Held-out rows", PARTS, "part", before.get("part", ""))
        most = _most_rows(before)
        figure = _choice("Figure", MEASURES, "figure")
        measure: TransferMeasure = "right" if figure == "right" else "relative"
    if others:
        st.caption(
            f"{plural(others, 'run')} of other base models can't stand here: their losses count other tokens."
        )
    if not picked or not to:
        return [], [], None, measure
    asked = {"runs": picked, "datasets": to, "part": part, "max_rows": most}
    rows = sorted((by_id[i] for i in picked), key=lambda run: run["number"])
    columns = transfer_points.in_order([names[i] for i in to], rows)
    return rows, columns, TransferConfig.parse(asked), measure


def _pick_sets(names: Mapping[str, Dataset], runs: list[Run], before: AskedTransfer) -> list[str]:
    """The data sets to judge the runs on, by id; at first those of the newest matrix, for its own runs."""
    of_before = {run["run_id"] for run in runs} <= set(before["runs"])
    asked_before = [i for i in before["datasets"] if i in names] if of_before else []
    return st.multiselect(
        f"Data sets to judge them on, at most {MOST_DATASETS}",
        list(names),
        default=asked_before or transfer_points.start_sets(runs, list(names.values())),
        key="sets",
        format_func=lambda i: names[i]["name"],
        max_selections=MOST_DATASETS,
        bind="query-params",
    )


def _most_rows(before: AskedTransfer) -> int:
    most = st.number_input(
        "At most",
        2,
        None,
        before.get("max_rows") or 100,
        50,
        key="rows",
        width=120,
        help="Rows of each data set, drawn at random",
        bind="query-params",
    )
    return int(most)


def _of_model(every: list[Run], before: list[str]) -> tuple[list[Run], int]:
    """The runs of one base model, at first that of the runs in the newest matrix, and how many are of others;
    a choice only where there are several."""
    counts: dict[str, int] = {}
    for run in every:
        counts[run["model"]] = counts.get(run["model"], 0) + 1
    chosen = next((run["model"] for run in every if run["run_id"] in before), next(iter(counts)))
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
    kept = [run for run in every if run["model"] == chosen]
    return kept, len(every) - len(kept)


def _choice(label: str, options: dict[str, str], key: str, first: str = "") -> str:
    usual = first if first in options else next(iter(options))
    chosen = st.segmented_control(
        label, list(options), default=usual, key=key, format_func=options.__getitem__, bind="query-params"
    )
    return chosen or usual


def _draw_lead(of: JudgedMatrix) -> None:
    """What a reader in a hurry takes with them."""
    cells = list(of.cells.values())
    if not cells:
        st.subheader(":gray[:material/help:] Nothing of this could be measured", anchor=False)
        return
    sure = [cell for cell in of.off if cell["sure"]]
    costs = any(cell["figure"]["value"] < 0 for cell in sure)
    icon = ":gray[:material/help:]" if not sure else ":orange[:material/swap_horiz:]"
    if sure and not costs:
        icon = ":blue[:material/trending_up:]"
    st.markdown(f"##### {icon} {plain(words.lead(cells, of.measure))}")


def _draw_measuring(of: JudgedMatrix, config: TransferConfig) -> None:
    """The job that measures, or the button that starts it."""
    if alive := transfer_reads.unfinished():
        with st.container(border=True):
            show_live(alive[0]["job_id"], "matrix", alive[0]["title"])
        return
    ended = transfer_reads.bad_end()
    missing = of.measured.missing(config.runs, config.datasets)
    failed = [key for key in of.reasons if key in of.measured.cells]
    if missing and ended:
        _draw_bad_end(ended)
    if missing:
        pressed = may("work") and st.button(
            f"Measure {plural(len(missing), 'cell')}",
            type="primary",
            icon=":material/play_arrow:",
            key="transfer-go",
        )
        st.caption(_estimate(len(missing) + _bases(of), config))
    elif failed:
        pressed = may("work") and st.button(
            f"Try {plural(len(failed), 'cell')} again", icon=":material/refresh:", key="transfer-again"
        )
    else:
        return
    if pressed and act("transfer", config.document(), "The matrix is queued.") is not None:
        st.rerun()


def _bases(of: JudgedMatrix) -> int:
    """The cells of the base model that are missing too."""
    return sum(("", dataset["dataset_id"]) not in of.measured.cells for dataset in of.sets)


def _estimate(cells: int, config: TransferConfig) -> str:
    pace = transfer_reads.seconds_a_cell(config.max_rows)
    if pace is None:
        return "How long it takes shows once the first cell is measured. A cell is never measured twice."
    seconds, cells_timed = pace
    whole, each = quantities.span(seconds * cells), quantities.span(seconds)
    return (
        f"About {whole} with the base model's cells, as {plural(cells_timed, 'cell')} took {each} each."
        " A cell is never measured twice."
    )


def _draw_bad_end(job: Job) -> None:
    kept = "What was measured until then is kept: measure again to go on."
    if job["status"] == "cancelled":
        st.info(f"The last matrix was cancelled. {kept}", icon=":material/info:")
        return
    error = job["error"]
    message = (error and error["message"]) or "The process that measured ended without a result."
    fix = f" {error['fix']}" if error and error.get("fix") else ""
    st.error(f"{plain(message + fix)} {kept}", icon=":material/error:")


def _legend(of: JudgedMatrix) -> str:
    count = len(of.cells)
    if not count:
        return f"{LEGEND[of.measure]}."
    stars = f"Stars: p < 0.05, 0.01, 0.001 after Holm over {plural(count, 'cell')}."
    return f"{LEGEND[of.measure]}, {READING} {stars}"


def _draw_nothing(sentence: str) -> None:
    with st.container(border=True, horizontal_alignment="left"):
        st.subheader("No matrix to draw yet", anchor=False)
        st.markdown(f"{plain(sentence)} {ABOUT}")
        if may("work") and st.button(
            "Launch a run", type="primary", icon=":material/rocket_launch:", key="transfer-launch"
        ):
            st.switch_page("pages/launch/launch.py")
