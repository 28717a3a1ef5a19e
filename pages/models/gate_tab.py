"""Whether the version passes the gate of an alias, what is missing to tell, and the promotion."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from engine.diagnostics import phrasing
from pages.models import model_reads
from pages.models.gate_form import draw_form
from pages.shared.progress_bar import progress_block
from pages.shared.session import act, client, guarded, live, may, plain, redraw
from store.config.shipping.registry_config import ALIASES
from store.contract.states import ALIVE
from store.documents.shipping.gate import CheckReport, GateReport
from store.documents.shipping.version import ModelLine, ModelVersion
from store.http.client import Client
from store.queries import jobs

ANSWERS = {
    "passed": (":green-badge[:material/check: Passed]", "green"),
    "failed": (":red-badge[:material/close: Failed]", "red"),
    "cant_tell": (":orange-badge[:material/help: Can't be told]", "orange"),
}
OWN = "One of your own"
WAITING = "gate-evidence"  # in the session state: jobs that were queued from here


def draw_gate(_: Client, model: ModelLine, version: ModelVersion) -> None:
    """The checks of one alias, and what may be done next."""
    reference = f"{model['name']}@{version['version']}"
    alias = _alias(model)
    if not alias:
        return
    _draw_waiting()
    report = model_reads.report(reference, alias)
    st.markdown(f"{ANSWERS[report['answer']][0]} {plain(report['sentence'])}")
    if report["holder"]:
        st.caption(f"{plain(report['holder'])} is {alias} now; checks against it are paired by row.")
    for check in report["checks"]:
        _draw_check(check)
    if report["checks"]:
        st.caption(
            "A check with an interval passes where the whole of it is on the good side of the limit, so one"
            " that is truly beyond it passes in at most 5 of 100 cases. All checks have to pass, which"
            " makes it only harder: nothing is corrected for their number."
        )
    if may("work"):
        _draw_actions(model, version, report)
    if may("govern"):
        with st.expander(f"What a version has to pass before it is {alias}", icon=":material/rule:"):
            draw_form(model, alias)


def _alias(model: ModelLine) -> str:
    """Which alias is meant; empty where a new one is not named yet."""
    own = [
        alias_now["alias"]
        for alias_now in model_reads.aliases(model["model_id"])
        if alias_now["alias"] not in ALIASES
    ]
    choices = [*ALIASES[::-1], *own, OWN]
    chosen = st.segmented_control(
        "Alias", choices, default=choices[0], key="gate-alias", label_visibility="collapsed"
    )
    if chosen != OWN:
        return chosen or choices[0]
    typed = st.text_input(
        "Name of the alias", key="gate-own-alias", placeholder="canary", max_chars=32,
        help="Small letters, digits, dashes and underscores.",
    )  # fmt: skip
    return (typed or "").strip()


def _draw_check(check: CheckReport) -> None:
    with st.container(border=True, gap="xsmall", key=None):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plain(check['title'])}**", width="stretch")
            st.markdown(ANSWERS[check["answer"]][0], width="content")
        st.markdown(plain(check["sentence"]))
        if "command" in check and not check.get("gather"):
            st.code(check["command"], language=None)
        if check["evaluations"]:
            with st.container(horizontal=True, gap="small"):
                for place, evaluation_id in enumerate(check["evaluations"]):
                    label = "Its evaluation" if place == 0 else f"That of {check['other'] or 'the other'}"
                    st.page_link(
                        "pages/evaluations/evaluations.py",
                        label=plain(label),
                        query_params={"evaluation": evaluation_id},
                    )


# -- what may be done -------------------------------------------------------------------------------


def _draw_actions(model: ModelLine, version: ModelVersion, report: GateReport) -> None:
    alias, reference = report["alias"], report["reference"]
    standing = {
        alias_now["alias"]: alias_now["version"] for alias_now in model_reads.aliases(model["model_id"])
    }
    if standing.get(alias) == version["version"]:
        st.markdown(f":material/verified: {plain(reference)} is {alias}.")
        return
    missing = [check for check in report["checks"] if check.get("gather")]
    if missing:
        count = phrasing.plural(len(missing), "check")
        if st.button("Evaluate what is missing", icon=":material/fact_check:", type="primary", key="gather"):
            answer = act("gather_gate_evidence", {"version": reference, "alias": alias})
            if answer is not None:
                st.session_state[WAITING] = answer["job_ids"]
                st.rerun()
        verb = "needs" if len(missing) == 1 else "need"
        st.caption(f"Queues the evaluations that {count} {verb}, both models on the same rows.")
    seen = {"version": standing.get(alias)}
    if report["answer"] == "passed":
        _draw_promote(reference, alias, seen)
    elif may("govern"):
        with st.expander("Promote it all the same", icon=":material/gavel:"):
            st.markdown("The gate is not passed. As an admin you may override it; your reason is kept.")
            _draw_promote(reference, alias, seen, override=True)


def _draw_promote(reference: str, alias: str, seen: dict[str, int | None], override: bool = False) -> None:
    key = "override" if override else "promote"
    reason = st.text_area(
        "Why", key=f"{key}-reason", height=80, max_chars=2_000,
        placeholder="Better on the golden set, and faster.",
    )  # fmt: skip
    kind: Literal["primary", "secondary"] = "secondary" if override else "primary"
    label = f"Make it {alias}{' though it does not pass' if override else ''}"
    if st.button(label, type=kind, icon=":material/verified:", key=f"{key}-go"):
        body = {
            "version": reference,
            "alias": alias,
            "reason": (reason or "").strip(),
            "override": override,
            "seen": seen,
        }
        if act("promote", body, f"{reference} is {alias} now.") is not None:
            st.rerun()


def _draw_waiting() -> None:
    """Evaluations that were queued from here, until they have ended."""
    if waiting := st.session_state.get(WAITING):
        _live_waiting(tuple(waiting))


@live("1s")
def _live_waiting(job_ids: tuple[str, ...]) -> None:
    with guarded():
        listed = jobs.with_ids(client(), job_ids)
        alive = [job for job in listed if job["status"] in ALIVE]
        if not alive:
            st.session_state.pop(WAITING, None)
            st.cache_data.clear()
            redraw()
        for job in alive:
            st.markdown(plain(job["title"]))
            st.html(progress_block(job))
