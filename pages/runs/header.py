"""The head of a run's page: who it is, what can be done with it, and what it wants its user to know; with
the archive that it leaves as, and, of a run from an archive, which figures came back.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, cast

import streamlit as st

from engine.evaluation.comparison.reproduction import LOSS_TOLERANCE
from pages.people import activity_feed
from pages.people.edit_conflicts import FieldEdit
from pages.shared import cached_queries, display, run_queries
from pages.shared.deployment import register_run
from pages.shared.job_progress import show_failure, show_live
from pages.shared.layout import COST, LINK
from pages.shared.run_chips import describe_changes, draw_chip_link, format_run_dot, format_status_badge
from pages.shared.session import escape_markdown, has_right, live, send_command
from store.archives import archive_text
from store.archives.schemas import (
    BundleResult,
    OpenedBundle,
    OriginalComparison,
    ReproducedFigure,
    Reproduction,
)
from store.core import formatting
from store.core.errors import NotFoundError
from store.core.figure_schemas import Estimate
from store.core.job_kinds import ALIVE, RESUMABLE
from store.runs.schemas import Run
from store.training.methods import METHODS
from store.training.train_config import TASK_TITLES

REPRODUCTION_RESULTS = {
    "same": "the same",
    "within": "within",
    "outside": "**outside**",
    "cant_tell": "can't be told",
}


def draw_bundle(run: Run) -> None:
    """Ask for the bundle of a run that has finished, and hand it over."""
    run_id = run["run_id"]
    job_key = f"bundle-job-{run_id}"
    with_rows = st.checkbox(
        "With the rows",
        value=True,
        key=f"bundle-rows-{run_id}",
        help="Without them whoever runs it again needs the same rows.",
    )
    if st.button(
        "Make a bundle",
        icon=":material/deployed_code_update:",
        key="run-bundle",
        help="Config, rows, split, versions and figures as one file, to be run again anywhere",
    ):
        answer = send_command("bundle", {"run": run_id, "with_rows": with_rows})
        if answer is not None:
            st.session_state[job_key] = answer["job_id"]
    if st.session_state.get(job_key):
        _draw_bundle_result(st.session_state[job_key])


def _draw_bundle_result(job_id: str) -> None:
    job = cached_queries.read_job(job_id)
    if job["status"] in ALIVE:
        live("1s")(show_live)(job_id, "bundle")
    elif job["status"] == "finished":
        _draw_download(cast(BundleResult, job["result"]))  # of a finished job of this kind
    else:
        show_failure(job, "bundle")


def _draw_download(result: BundleResult) -> None:
    path = Path(result["path"])
    for notice in result["notices"]:
        st.caption(escape_markdown(notice))
    if not path.is_file():
        st.warning("The file is not there any more. Make it again.", icon=":material/warning:")
        return
    if fingerprint := result.get("seal"):
        st.caption(
            "Fingerprint of the bundle: compare it with whoever gets the file, who sees it when opening it."
        )
        st.code(fingerprint, language=None)
    st.download_button(
        f"Download the bundle ({display.format_size(result['bytes'])})",
        data=path.read_bytes,
        file_name=path.name,
        icon=":material/download:",
        type="primary",
        key="run-bundle-download",
    )


def draw_reproduction(run: Run) -> None:
    """From which bundle a run was launched, and whether its figures came back."""
    source = run["facts"].get("reproduces")
    if source is None:
        return
    st.markdown(
        f"Launched from the bundle **{escape_markdown(source['bundle'])}** of the run"
        f" {escape_markdown(source['run_name'])}"
        f" :gray[({escape_markdown(source['run_id'])})]"
    )
    _draw_origin(source["opened_by"])
    try:
        job = cached_queries.read_job(source["compared_by"])
    except NotFoundError:
        return
    if job["status"] == "finished":
        result = cast(Reproduction, job["result"])  # of a finished job of this kind
        _draw_figures(result)
        if beside := result.get("beside"):
            _draw_reproduction_comparison(beside)
    elif run["status"] in ALIVE:
        st.caption("Its figures are held against the bundle's once it has ended.")


def _draw_origin(job_id: str) -> None:
    """The bundle's fingerprint, and whether it is the run of this home that it says."""
    try:
        opened = cast(
            OpenedBundle, cached_queries.read_job(job_id)["result"]
        )  # of a finished job of this kind
    except NotFoundError:
        return
    original = opened.get("original")
    if original and original["differences"]:
        st.error(escape_markdown(archive_text.describe_origin(opened)), icon=":material/gpp_bad:")
        st.dataframe(
            [
                {"Field": row["field"], "In the bundle": row["bundle"], "In this home": row["here"]}
                for row in original["differences"]
            ],
            hide_index=True,
            key="bundle-differences",
            alt="Fields of the bundle that differ from the run of this home",
        )
    elif words := archive_text.describe_origin(opened):
        st.caption(escape_markdown(words))
    if words := archive_text.format_fingerprint(opened):
        st.caption(escape_markdown(words))


def _draw_reproduction_comparison(beside: OriginalComparison) -> None:
    """What is the same as in the original run, and what differs."""
    differs = any(line["same"] is False for line in beside["lines"])
    with st.expander(escape_markdown(beside["sentence"]), icon=":material/difference:", expanded=differs):
        rows = [
            "| " + " | ".join(escape_markdown(cell) or "–" for cell in cells) + " |"
            for line in sorted(beside["lines"], key=lambda line: line["same"] is not False)
            for cells in [
                [line["what"], line["first"], line["second"], archive_text.SAME[line["same"]], line["detail"]]
            ]
        ]
        head = "| What | Original run | This run | Same | How far |\n|---|---|---|---|---|\n"
        st.markdown(head + "\n".join(rows))
        st.caption(
            f"Losses of a step are the same up to {LOSS_TOLERANCE:g} nats a token; figures where they surely"
            " differ by less than would matter."
        )


def _draw_figures(result: Reproduction) -> None:
    with st.expander(result["sentence"], icon=":material/compare:", expanded=bool(result["outside"])):
        rows = [
            f"| {escape_markdown(_format_title(figure))} | {_format_estimate(figure['first'])} |"
            f" {_format_estimate(figure['second'])} |"
            f" {REPRODUCTION_RESULTS[figure['came']]} |"
            for figure in sorted(result["figures"], key=lambda figure: figure["came"] != "outside")
        ]
        head = "| Figure | First run | This run | Came back |\n|---|---|---|---|\n"
        st.markdown(head + "\n".join(rows))
        st.caption(
            "The same: to the last digit. Within: it surely differs by less than would matter. Outside:"
            " surely by more. Where the rows say neither, it can't be told."
        )
        for difference in result["differences"]:
            st.caption(
                escape_markdown(
                    f"Differs: {difference['what']} was {difference['first']}, here {difference['here']}."
                )
            )


def _format_title(figure: ReproducedFigure) -> str:
    return f"{figure['title'][:1].upper()}{figure['title'][1:]}, {figure['unit']}"


def _format_estimate(estimate: Estimate | None) -> str:
    return "–" if estimate is None else formatting.format_estimate(estimate)


MAX_REGISTERED = 4


def draw_header(run: Run) -> None:
    """Name, status, facts in a line, and the actions that its state allows."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        with st.container(width="content", gap=None):
            name = f"{format_run_dot(run['number'])} {escape_markdown(run['name'])}"
            st.title(name, anchor=False, width="content")
        _draw_actions(run)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if st.button("All runs", type="tertiary", icon=":material/arrow_back:", key="runs-back"):
            st.switch_page("pages/runs/run.py")
        st.markdown(f"{format_status_badge(run['status'])} {_format_facts(run)}", width="content")
    if run["config"].get("parent"):
        _draw_parent(run)
    draw_reproduction(run)
    _draw_registered(run)
    if run["notes"]:
        st.caption(escape_markdown(run["notes"]))


def _draw_registered(run: Run) -> None:
    """The versions of registered models that it was kept as."""
    registered = run_queries.list_registered_versions(run["run_id"]) if run["status"] == "finished" else []
    if not registered:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown("Registered as", width="content")
        for line in registered[:MAX_REGISTERED]:
            st.page_link(
                "pages/registry/models.py",
                label=escape_markdown(f"{line['name']}@{line['version']}"),
                query_params={"model": line["name"], "version": str(line["version"])},
                width="content",
            )


def _draw_parent(run: Run) -> None:
    """The run that this one changes or was mixed from, where it is still there, and both on one plot."""
    try:
        parent = run_queries.find_run(run["config"]["parent"])
    except NotFoundError:
        return
    alpha = run["facts"].get("alpha")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown("Mixed from" if alpha else "Changes", width="content")
        with st.container(width="content"):
            draw_chip_link(parent)
        difference = f"at α {alpha:g}" if alpha else describe_changes(parent["config"], run["config"])
        st.markdown(escape_markdown(difference), width="content")
        if run["status"] == "finished" and st.button(
            "Beside it on the plot", icon=":material/balance:", type="tertiary", key="run-beside"
        ):
            link = {LINK: COST, "run": run["run_id"], "dataset": run["dataset_name"]}
            st.switch_page("pages/comparison/compare.py", query_params=link)


def _format_facts(run: Run) -> str:
    task = run["config"].get("task", "sft")
    maker = activity_feed.describe_creator(run["created_by"])
    by = f"by {escape_markdown(maker)}, " if maker else ""
    parts = [
        *([TASK_TITLES.get(task, task)] if task != "sft" else []),
        METHODS[run["method"]].title,
        escape_markdown(str(run["model"]).rstrip("/").rsplit("/", 1)[-1]),
        escape_markdown(run["dataset_name"]),
        f"launched {by}{display.format_ago(run['created_at'])}",
    ]
    took = display.format_elapsed(run["started_at"], run["ended_at"])
    if took != "–":
        parts.append(f"took {took}")
    if run["attempt"] > 1:
        parts.append(f"attempt {run['attempt']}")
    return f":gray[{' · '.join(parts)}]"


def _draw_actions(run: Run) -> None:
    run_id, status = run["run_id"], run["status"]
    with st.container(horizontal=True, width="content", gap="small"):
        if status in ALIVE and has_right("work"):
            stopping = bool(run["cancel_requested_at"])
            label = "Stopping" if stopping else "Cancel"
            if st.button(label, icon=":material/stop_circle:", disabled=stopping, key="run-cancel"):
                _send_action("cancel", run_id)
        if status in RESUMABLE and has_right("work"):
            # Where what it failed of can be changed, that is the likelier step, and stands below.
            likely: Literal["primary", "secondary"] = (
                "secondary" if run["error"] and run["error"].get("change") else "primary"
            )
            if st.button("Resume", icon=":material/resume:", type=likely, key="run-resume"):
                _send_action("resume", run_id)
        if has_right("work") and st.button(
            "Clone", icon=":material/content_copy:", key="run-clone", help="Launch with this config"
        ):
            st.switch_page("pages/training/launch.py", query_params={"from": run_id})
        if (
            status == "finished"
            and has_right("work")
            and st.button(
                "Continue training",
                icon=":material/fast_forward:",
                key="run-continue",
                help="Launch a run that goes on from this model",
            )
        ):
            link = {"from": run_id, "change": json.dumps({"init_from": run_id, "init_mode": "stack"})}
            st.switch_page("pages/training/launch.py", query_params=link)
        if (
            status == "finished"
            and has_right("work")
            and st.button(
                "Register as a model",
                icon=":material/deployed_code:",
                key="run-register",
                help="Keep what it left as a version, with aliases and gates",
            )
        ):
            register_run(run_id, run["name"])
        if status == "finished" and st.button(
            "Compare", icon=":material/stacked_line_chart:", key="run-compare"
        ):
            st.switch_page("pages/comparison/compare.py", query_params={"runs": run_id})
        if has_right("work"):
            _draw_more_actions(run)


def _draw_more_actions(run: Run) -> None:
    with st.popover("More", icon=":material/more_horiz:", key="run-more"):
        _draw_edit(run)
        if run["status"] == "finished":
            draw_bundle(run)
        if run["status"] in ALIVE:
            st.caption("Cancel the run before you delete it.")
        elif st.button("Delete", icon=":material/delete:", key="run-delete"):
            _confirm_delete(run)


def _draw_edit(run: Run) -> None:
    edit = FieldEdit(f"run-edit-{run['run_id']}", {"name": run["name"], "notes": run["notes"]})
    with st.form("run-edit", border=False):
        name = st.text_input("Name", edit.seen["name"], max_chars=120, key=edit.widget_key("name"))
        notes = st.text_area(
            "Notes", edit.seen["notes"], max_chars=10_000, height=120, key=edit.widget_key("notes")
        )
        saved = st.form_submit_button("Save", icon=":material/save:")
    typed = {"name": (name or "").strip(), "notes": (notes or "").strip()}
    mine = edit.take_mine({"name": "Name", "notes": "Notes"}, typed)
    if (saved or mine) and edit.save("edit_run", {"run": run["run_id"]}, typed, "Saved"):
        st.rerun()


@st.dialog("Delete this run?")
def _confirm_delete(run: Run) -> None:
    st.markdown(
        f"**{escape_markdown(run['name'])}** goes for good, with its curves, samples,"
        " checkpoints, trained weights, and"
        " what was said of it."
    )
    st.button(
        "Delete for good",
        type="primary",
        icon=":material/delete:",
        key="run-delete-sure",
        on_click=_delete,
        args=(run["run_id"],),
    )


def _delete(run_id: str) -> None:
    if send_command("delete", {"job": run_id}, "Deleted") is not None:
        st.switch_page("pages/overview/overview.py")


def _send_action(command: str, run_id: str) -> None:
    """The page itself shows what came of it; a toast would lie over the buttons."""
    if send_command(command, {"job": run_id}) is not None:
        st.rerun()


def draw_alerts(run: Run) -> None:
    """What the run wants its user to know, the same thing once; what the verdict says stands in its card."""
    seen: dict[str, str] = {}
    for alert in run_queries.list_alerts(run["run_id"]):
        if not (alert["kind"] and run["verdict"]):
            seen[alert["message"]] = alert["level"]
    icons = {"warning": ":orange[:material/warning:]", "info": ":gray[:material/info:]"}
    for message, level in seen.items():
        st.markdown(f"{icons.get(level, icons['info'])} {escape_markdown(message)}")
