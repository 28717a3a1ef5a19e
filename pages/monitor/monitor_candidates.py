"""Candidates and shadows beside the live version: which is better, as far as it can be told from luck."""

from __future__ import annotations

import html
from datetime import UTC, datetime

import streamlit as st

from engine.diagnostics.drift.arms_words import holds, kept_note, points, standing
from engine.diagnostics.phrasing import percent, plural
from pages.monitor import monitor_reads
from pages.monitor.monitor_drift import INKS, STYLE
from pages.shared.session import plain
from store.documents.serving.side_by_side import ArmSeen, ArmsLook, OutcomeKind, SideBySide
from store.queries.monitoring.side_by_side import Labelled

TITLES: dict[OutcomeKind, str] = {
    "labels": "Right, by labels that came later",
    "thumbs": "Thumbs up",
    "errors": "Answered without failing",
}
KINDS: dict[str, tuple[OutcomeKind, ...]] = {
    "candidate": ("labels", "thumbs", "errors"),
    "shadow": ("labels",),
}
NONE_YET = {
    "labels": "no label yet: send them to `POST /v1/feedback` as they become known",
    "thumbs": "no thumb yet",
    "errors": "not enough requests yet",
}
PROMISE = """
Callers are compared, not requests: each counts once, with the share of its answers that were good. The
gateway deals callers to the two versions by chance, so if both were alike, any other dealing would have been
as likely; a difference counts as sure if hardly any of them shows as large a one. It is looked at whenever
there are half as many answers more as at the last look, and every look spends a part of the chance of a
false word. That chance is **5% for each candidate**, for ever and over all three rows together, apart from
the chance that drift alarms share. The intervals hold at all looks together.

A caller is whom the request names in `user`, else the key it came with: as the gateway deals them. Without
`user` all requests of a key are one caller. Only requests asked since the comparison began count, whenever
their labels come. Labels tell of the requests that got one: if those are not like the rest, neither is the
difference. A shadow has labels only of requests whose live answer somebody judged.

Another version, another share, or an alert that somebody has seen begins the comparison anew. An answer that
the live version had to give in the candidate's place counts as a failure of the candidate.
"""


def draw_side_by_side(endpoint_id: str, keep_days: int) -> None:
    """A table for each pair; nothing where there is none. keep_days: how long requests are kept."""
    pairs = monitor_reads.side_by_side(endpoint_id)
    if not pairs:
        return
    st.subheader("Is the candidate better?", anchor=False)
    for pair, labelled in pairs:
        _draw_pair(pair, labelled, keep_days)
    with st.expander("What this promises", icon=":material/help:"):
        st.markdown(PROMISE)


def _draw_pair(pair: SideBySide, labelled: Labelled | None, keep_days: int) -> None:
    what = "of the callers" if pair["role"] == "candidate" else "of the requests copied, answers unseen"
    st.markdown(
        f"**{plain(pair['other'])}**, {pair['role']} with {percent(pair['share'])} {what}, beside"
        f" **{plain(pair['live'])}**"
    )
    if pair["since"] is None or labelled is None:
        st.caption(f"The {pair['role']} has not answered yet.")
        return
    looks = pair["looks"]
    if looks:
        st.html(pair_table(pair))
    missing = [f"{TITLES[kind]}: {NONE_YET[kind]}" for kind in KINDS[pair["role"]] if kind not in looks]
    left_out = max((look["left_out"] for look in looks.values()), default=0)
    if left_out:
        missing.append(f"{plural(left_out, 'live answer')} to callers of the candidate left out")
    if labelled["answers"]:
        missing.append(f"labels of {labelled['labelled']:,} of {plural(labelled['answers'], 'answer')}")
    if labelled["without_caller"]:
        missing.append(f"{plural(labelled['without_caller'], 'answer')} without a caller in no comparison")
    if note := kept_note(pair, keep_days, datetime.now(UTC).replace(tzinfo=None)):
        missing.append(note)
    since = f"Answers since {pair['since']:%d %b %H:%M} UTC count."
    st.caption(" · ".join([since, *missing]))


def pair_table(pair: SideBySide) -> str:
    """HTML: a row for each kind of outcome that was looked at."""
    rows = "".join(_row(pair, kind, pair["looks"][kind]) for kind in KINDS[pair["role"]]
                   if kind in pair["looks"])  # fmt: skip
    heads = ("Good answers", "Live", pair["role"].capitalize(), "Difference", "")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f"{STYLE}<table class='tb-drift'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(pair: SideBySide, kind: OutcomeKind, look: ArmsLook) -> str:
    word, rest = standing(pair, kind, look)
    sure = look["sure"] if holds(look) else None
    ink = INKS["collecting" if not sure else "quiet" if sure["verdict"] == "better" else "alarm"]
    difference = points(look["difference"]) if look["difference"]["low"] is not None else "–"
    if pair["role"] == "shadow":
        counted = f"{plural(look['live']['answers'], 'pair')}, {plural(look['live']['callers'], 'caller')}"
        arms = f"<td class='figure' data-label='Same requests' colspan='2'>{counted}</td>"
    else:
        arms = "".join(
            f"<td class='figure' data-label='{name}'>{_arm(arm)}</td>"
            for name, arm in (("Live", look["live"]), (pair["role"].capitalize(), look["other"]))
        )
    return (
        f"<tr><td><b>{html.escape(TITLES[kind])}</b></td>{arms}"
        f"<td class='figure' data-label='Difference'>{difference}</td>"
        f"<td><span style='{ink}'>{html.escape(word)}</span><div class='tb-note'>{html.escape(rest)}</div>"
        "</td></tr>"
    )


def _arm(arm: ArmSeen) -> str:
    share = "–" if arm["share"] is None else percent(arm["share"])
    rest = f"{plural(arm['callers'], 'caller')}, {plural(arm['answers'], 'answer')}"
    return f"{share}<div class='tb-note'>{rest}</div>"
