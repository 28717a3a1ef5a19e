"""A run's bundle: the file that it leaves as, and, of a run from a bundle, which figures came back."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import streamlit as st

from engine.diagnostics import phrasing
from engine.diagnostics.comparison.beside_original import LOSS_TOLERANCE
from pages.shared import quantities, reads
from pages.shared.progress_bar import show_bad_end, show_live
from pages.shared.session import act, live, plain
from store.contract.errors import NotFoundError
from store.contract.states import ALIVE
from store.documents.figures.estimate import Estimate
from store.documents.runs.bundle import (
    BesideOriginal,
    BundleResult,
    OpenedBundle,
    ReproducedFigure,
    Reproduction,
)
from store.documents.tables.run import Run
from store.words import bundle_words

CAME = {
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
        answer = act("bundle", {"run": run_id, "with_rows": with_rows})
        if answer is not None:
            st.session_state[job_key] = answer["job_id"]
    if st.session_state.get(job_key):
        _draw_made(st.session_state[job_key])


def _draw_made(job_id: str) -> None:
    job = reads.job(job_id)
    if job["status"] in ALIVE:
        live("1s")(show_live)(job_id, "bundle")
    elif job["status"] == "finished":
        _download(cast(BundleResult, job["result"]))  # of a finished job of this kind
    else:
        show_bad_end(job, "bundle")


def _download(result: BundleResult) -> None:
    path = Path(result["path"])
    for notice in result["notices"]:
        st.caption(plain(notice))
    if not path.is_file():
        st.warning("The file is not there any more. Make it again.", icon=":material/warning:")
        return
    if fingerprint := result.get("seal"):
        st.caption(
            "Fingerprint of the bundle: compare it with whoever gets the file, who sees it when opening it."
        )
        st.code(fingerprint, language=None)
    st.download_button(
        f"Download the bundle ({quantities.size(result['bytes'])})",
        data=path.read_bytes,
        file_name=path.name,
        icon=":material/download:",
        type="primary",
        key="run-bundle-download",
    )


def draw_reproduced(run: Run) -> None:
    """From which bundle a run was launched, and whether its figures came back."""
    source = run["facts"].get("reproduces")
    if source is None:
        return
    st.markdown(
        f"Launched from the bundle **{plain(source['bundle'])}** of the run {plain(source['run_name'])}"
        f" :gray[({plain(source['run_id'])})]"
    )
    _draw_origin(source["opened_by"])
    try:
        job = reads.job(source["compared_by"])
    except NotFoundError:
        return
    if job["status"] == "finished":
        result = cast(Reproduction, job["result"])  # of a finished job of this kind
        _draw_figures(result)
        if beside := result.get("beside"):
            _draw_beside(beside)
    elif run["status"] in ALIVE:
        st.caption("Its figures are held against the bundle's once it has ended.")


def _draw_origin(job_id: str) -> None:
    """The bundle's fingerprint, and whether it is the run of this home that it says."""
    try:
        opened = cast(OpenedBundle, reads.job(job_id)["result"])  # of a finished job of this kind
    except NotFoundError:
        return
    original = opened.get("original")
    if original and original["differences"]:
        st.error(plain(bundle_words.origin(opened)), icon=":material/gpp_bad:")
        st.dataframe(
            [
                {"Field": row["field"], "In the bundle": row["bundle"], "In this home": row["here"]}
                for row in original["differences"]
            ],
            hide_index=True,
            key="bundle-differences",
            alt="Fields of the bundle that differ from the run of this home",
        )
    elif words := bundle_words.origin(opened):
        st.caption(plain(words))
    if words := bundle_words.fingerprint(opened):
        st.caption(plain(words))


def _draw_beside(beside: BesideOriginal) -> None:
    """What is the same as in the original run, and what differs."""
    differs = any(line["same"] is False for line in beside["lines"])
    with st.expander(plain(beside["sentence"]), icon=":material/difference:", expanded=differs):
        rows = [
            "| " + " | ".join(plain(cell) or "–" for cell in cells) + " |"
            for line in sorted(beside["lines"], key=lambda line: line["same"] is not False)
            for cells in [
                [line["what"], line["first"], line["second"], bundle_words.SAME[line["same"]], line["detail"]]
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
            f"| {plain(_title(figure))} | {_words(figure['first'])} | {_words(figure['second'])} |"
            f" {CAME[figure['came']]} |"
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
                plain(f"Differs: {difference['what']} was {difference['first']}, here {difference['here']}.")
            )


def _title(figure: ReproducedFigure) -> str:
    return f"{figure['title'][:1].upper()}{figure['title'][1:]}, {figure['unit']}"


def _words(estimate: Estimate | None) -> str:
    return "–" if estimate is None else phrasing.measured(estimate)
