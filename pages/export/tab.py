"""The Export tab: a model's exports side by side with size, speed, loss and parity with the model."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.export import form
from pages.export.form import ExportedModel, draw_form
from pages.shared import display, run_queries
from pages.shared.job_progress import show_failure, show_live
from pages.shared.session import escape_markdown, has_right, send_command, show_errors
from store.core.documents import parse_document
from store.core.errors import NotFoundError
from store.core.export_schemas import ModelExportRow, ModelVerifyResult
from store.core.figure_schemas import Difference
from store.core.formatting import plural
from store.core.home import Home
from store.core.job_kinds import ALIVE
from store.core.model_schemas import ModelSummary, ModelVersion
from store.core.schemas import Job
from store.export import text as export_text
from store.export.forms import FORMS, get_limits
from store.http.client import Client

TABLE = "exports-table"
STATUS = {
    "passed": display.Status("Passed", "green", ":material/verified:"),
    "untold": display.Status("Inconclusive", "gray", ":material/help:"),
    "warned": display.Status("Warning", "orange", ":material/warning:"),
    "failed": display.Status("Failed", "red", ":material/error:"),
}
MAX_DOWNLOAD = 512 * 2**20  # bytes; larger files are not downloaded by the browser


def draw_table(rows: Sequence[ModelExportRow]) -> ModelExportRow:
    """Draw the table; return the selected row, or else the newest."""
    state = st.dataframe(
        [_build_row(row) for row in rows],
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=TABLE,
        column_config={
            "Format": st.column_config.TextColumn(width=120),
            "Parity": st.column_config.TextColumn(width=90),
            "Size": st.column_config.TextColumn(width=140),
        },
        alt="Exports of this model, newest first",
    )
    st.caption(
        f"{plural(len(rows), 'export')}, newest first; 95% CI over rows in brackets. KL: divergence of"
        " next-token probabilities from the model, in nats a token. Select a row for details."
    )
    picked = state["selection"]["rows"]
    return rows[picked[0]] if picked and picked[0] < len(rows) else rows[0]


def _build_row(row: ModelExportRow) -> dict[str, str]:
    parity = row.parity
    figure = export_text.get_main_figure(row)
    name = f"Change in {export_text.format_metric_name(figure.metric)}" if figure else "Change"
    speed = row.tokens_per_second
    return {
        "Format": format_title(row),
        "Parity": STATUS[row.status].title,
        "Size": (
            f"{display.format_size(row.model_bytes)}, {100 * export_text.compute_size_share(row):.0f}% of"
            " 16-bit"
        ),
        "KL (nats a token)": display.format_estimate(parity.mean_kl, sign=False),
        "Top-1 agreement (%)": display.format_estimate(parity.argmax_agreement, scale=100, sign=False),
        "Identical responses (%)": display.format_estimate(parity.answer_agreement, scale=100, sign=False),
        name: _format_change(figure),
        "Tokens/s": "–" if speed is None else f"{speed:,.0f}",
        "n (rows)": f"{parity.prompts:,}",
    }


def format_title(row: ModelExportRow) -> str:
    """Format the title of the format, for Ollama with that of its GGUF file."""
    form = FORMS[row.form].title
    return f"{form} ({FORMS[row.gguf].title.removeprefix('GGUF ')})" if row.gguf else form


def _format_change(figure: Difference | None) -> str:
    if figure is None or figure.value is None:
        return "–"
    return display.format_estimate(figure, reason=False)


def draw_export(row: ModelExportRow) -> None:
    """Draw the details of one export: parity with reasons, metrics and files."""
    status, parity = STATUS[row.status], row.parity
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(escape_markdown(format_title(row)), anchor=False, width="content")
        st.badge(status.title, icon=status.icon, color=status.color)
    st.markdown(escape_markdown(export_text.describe_export(row)))
    for reason in parity.reasons:
        st.markdown(f"- {escape_markdown(reason)}")
    _draw_rendering(row)
    limits = get_limits(row.form, row.gguf or "gguf-q8_0")
    st.caption(
        f"Loaded by {escape_markdown(parity.engine)} in a separate process. Limits of this format: pass at"
        f" KL ≤ {limits.kl[0]:g} and top-1 agreement ≥ {100 * limits.argmax[0]:.0f}%; fail at KL > "
        f"{limits.kl[1]:g} or top-1 agreement < {100 * limits.argmax[1]:.0f}% ({limits.why}). "
        f"{_describe_longest(row)}"
    )
    _draw_figures(parity.figures)
    for notice in row.notices:
        st.info(escape_markdown(notice), icon=":material/info:")
    _draw_files(row)


def _describe_longest(row: ModelExportRow) -> str:
    long = row.parity.long
    if not long or not long.mean_kl:
        return ""
    words = display.format_estimate(long.mean_kl, sign=False)
    texts = plural(long.prompts, "longest text")
    return f"KL on the {texts} (up to {long.tokens:,} tokens): {words}."


def _draw_rendering(row: ModelExportRow) -> None:
    """Draw an example that both engines render differently, side by side."""
    rendering = row.parity.rendering
    example = rendering.example
    if example is None:
        st.markdown(
            f":green[:material/check:] {plural(rendering.prompts, 'prompt')}: identical rendering and"
            " tokenization."
        )
        return
    expected, present = st.columns(2)
    with expected:
        st.caption(f"Row {example.row_id}: model")
        st.code(example.expected, language=None, wrap_lines=True)
    with present:
        st.caption("Export")
        st.code(example.present, language=None, wrap_lines=True)


def _draw_figures(figures: Sequence[Difference]) -> None:
    if not figures:
        return
    st.markdown("**Evaluation metrics, export minus model**")
    st.dataframe(
        [
            {
                "Metric": (f"{export_text.format_metric_name(each.metric)} {display.get_arrow(each.better)}"),
                "Change": _format_change(each),
                "n (rows)": f"{each.n:,}",
                "Detectable change": display.format_detectable(each.detectable),
            }
            for each in figures
        ],
        hide_index=True,
        key="exports-figures",
        alt="Change in each metric with its confidence interval",
    )
    named = ((export_text.format_metric_name(each.metric), each) for each in figures)
    if reasons := display.describe_missing_intervals(named):
        st.caption(escape_markdown(reasons))


def _draw_files(row: ModelExportRow) -> None:
    home = Home()
    folder = home.path / row.folder
    if not folder.is_dir():
        st.warning(
            f"The folder {escape_markdown(str(folder))} no longer exists. Export the model again.",
            icon=":material/warning:",
        )
        return
    st.caption(f"{plural(len(row.files), 'file')} with SHA256SUMS, {display.format_size(row.bytes)}:")
    st.code(str(folder), language=None)
    if row.hub:
        st.markdown(f"Pushed to {escape_markdown(row.hub)}")
    if row.zip:
        _draw_zip(row.zip)


def _draw_zip(name: str) -> None:
    path = Home().exports / name
    if not path.is_file():
        st.caption("The zip file no longer exists.")
        return
    count = path.stat().st_size
    if count > MAX_DOWNLOAD:
        st.caption(
            f"The zip file is too large to download in the browser ({display.format_size(count)}): "
            f"{escape_markdown(str(path))}"
        )
        return
    st.download_button(
        f"Download zip ({display.format_size(count)})",
        data=path.read_bytes,
        file_name=name,
        icon=":material/download:",
        key="exports-zip",
    )


QUESTION = "Exports"


def draw_exports(run_id: str) -> None:
    """Draw the tab of one run."""
    with show_errors():
        run = run_queries.read_current_run(run_id)
        st.header(QUESTION, anchor=False)
        if run.status in ALIVE:
            st.markdown(f"This run is {run.status}. Its model can be exported once the run has ended.")
            return
        _draw_tab(ExportedModel.of_run(run))


def draw_version_exports(_: Client, __: ModelSummary, version: ModelVersion) -> None:
    """Draw the tab of a version of a registered model."""
    with show_errors():
        st.header(QUESTION, anchor=False)
        run = None
        if version.run_id:
            try:
                run = run_queries.read_current_run(version.run_id)
            except NotFoundError:  # a version may outlive its run
                run = None
        _draw_tab(ExportedModel.of_version(version, run))


def _draw_tab(model: ExportedModel) -> None:
    rows = form.list_exports(model.run_id, model.model_id, model.version)
    jobs = form.list_unfinished(model.subject)
    alive = [job for job in jobs if job.status in ALIVE]
    _draw_summary(model, rows)
    if alive:
        with st.container(border=True):
            show_live(alive[0].job_id, "export", escape_markdown(alive[0].title))
        _draw_waiting(alive[1:])
    newest = max((row.created_at for row in rows), default=None)
    ended = [job for job in jobs if job not in alive and (newest is None or job.created_at > newest)]
    if ended and not alive:
        show_failure(ended[-1], "export")
    if has_right("work"):
        with st.expander("Export model", expanded=not rows and not alive, icon=":material/output:"):
            draw_form(model, rows)
    if not rows:
        return
    row = draw_table(rows)
    with st.container(border=True, key="export-one"):
        draw_export(row)
        _draw_verification(model, row)


def _draw_summary(model: ExportedModel, rows: list[ModelExportRow]) -> None:
    """Draw the recommendation."""
    if not rows:
        st.markdown(
            "No exports yet. Each export is loaded in a separate process, with the engine of its format,"
            " and compared with the evaluated model: prompts, tokens, responses and metrics."
        )
        return
    best = export_text.find_recommended(rows)
    icon = ":green[:material/verified:]" if best else ":gray[:material/help:]"
    st.subheader(
        f"{icon} {escape_markdown(export_text.describe_recommendation(rows, model.forms()))}", anchor=False
    )


def _draw_waiting(jobs: list[Job]) -> None:
    """Draw queued exports, each with a button that cancels it."""
    if not jobs:
        return
    with st.expander(f"{plural(len(jobs), 'more export')} queued", icon=":material/schedule:"):
        for job in jobs:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(escape_markdown(job.title), width="stretch")
                taken = has_right("work") and st.button("Cancel", key=f"export-cancel-{job.job_id}")
                if taken and send_command("cancel", {"job": job.job_id}) is not None:
                    st.rerun()


def _draw_verification(model: ExportedModel, row: ModelExportRow) -> None:
    """Draw the result of verifying the present files again, and the button that does so."""
    jobs = form.list_verifications(row.job_id)
    alive = [job for job in jobs if job.status in ALIVE]
    if alive:
        show_live(alive[0].job_id, "check", escape_markdown(alive[0].title))
    elif jobs and jobs[0].status == "finished":
        _draw_outcome(jobs[0])
    elif jobs:
        show_failure(jobs[0], "check")
    if not has_right("work"):
        return
    with st.container(horizontal=True):
        body = {"export": row.job_id, "subject": model.subject, "checkpoint": row.checkpoint}
        if st.button(
            "Verify again",
            icon=":material/verified:",
            key=f"export-verify-{row.job_id}",
            disabled=bool(alive),
            help="Compares the current files with the model. To verify a copy from elsewhere: tunebench"
            f" model verify FOLDER --against {model.title}",
        ) and (send_command("verify_model", body) is not None):
            st.rerun()
        _draw_delete(row)


def _draw_outcome(job: Job) -> None:
    result = parse_document(ModelVerifyResult, job.result)
    status = STATUS[result.parity.status]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**Verified again**, {display.format_ago(job.ended_at)}:"
            f" {escape_markdown(export_text.describe_verification(result))}"
        )
        st.badge(status.title, icon=status.icon, color=status.color)
    for reason in result.parity.reasons:
        st.markdown(f"- {escape_markdown(reason)}")


def _draw_delete(row: ModelExportRow) -> None:
    with st.popover("Delete", icon=":material/delete:"):
        st.markdown(
            "The files are deleted from this machine. Copies and pushed repositories are not affected."
        )
        if st.button("Delete export", key=f"export-delete-{row.job_id}", type="primary") and (
            send_command("delete_export", {"export": row.job_id}, "Export deleted.") is not None
        ):
            st.rerun()
