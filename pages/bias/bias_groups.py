"""How far apart are the groups? Figures of an evaluation's scored rows by a column of the data."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from engine.diagnostics import phrasing
from pages.bias import bias_charts, bias_reads
from pages.bias.bias_form import start
from pages.bias.bias_view import draw_unfinished, sign
from pages.shared.session import guarded, may, plain
from store.documents.evaluations.evaluation import EvaluationLine
from store.documents.shipping.bias import BiasFigure, named
from store.documents.shipping.bias_details import ComparedGroups, GroupRates, GroupTable

RATES = {
    "score": "Score",
    "selection": "Gets the positive label",
    "true_positive": "True-positive rate",
    "false_positive": "False-positive rate",
}
SURE = "With 95% intervals; those of the largest gap hold for all pairs of groups at once."
COLUMNS = "label, a column of the file as source.NAME, or a signal that was measured of the data"
EMPTY = (
    "Are all groups served alike? Choose a column of the data: each group's rates come with their intervals,"
    " and groups of fewer than 30 rows are named, not judged."
)


def draw_groups(evaluation_id: str, others: Sequence[EvaluationLine]) -> None:
    """The section of one evaluation. others: those on the same data."""
    with guarded():
        alive = draw_unfinished(
            bias_reads.unfinished(evaluation_id=evaluation_id), evaluation_id=evaluation_id
        )
        listed = bias_reads.listed(evaluation_id=evaluation_id)
        if listed:
            check = bias_reads.check(listed[0]["job_id"])
            report = check["report"]
            st.markdown(f"{sign(report)} **{plain(report['sentence'])}**")
            for compared in check["details"]["groups"]:
                _draw_compared(compared, report["figures"])
        if not alive and may("work"):
            _draw_form(evaluation_id, others, first=not listed)


def _draw_form(evaluation_id: str, others: Sequence[EvaluationLine], *, first: bool) -> None:
    if first:
        st.caption(EMPTY)
    own = f"bias-groups-{evaluation_id}"
    with st.grid(3, min_column_width=210):
        column = st.text_input("Group rows by", "label", key=f"{own}-column", help=COLUMNS)
        positive = st.text_input(
            "Label that counts as positive",
            key=f"{own}-positive",
            help="For rates; leave it empty for the score alone",
        )
        names = {other["evaluation_id"]: other["name"] for other in others}
        against = st.selectbox(
            "Against", ["", *names], format_func=lambda name: names.get(name, "nothing"), key=f"{own}-against"
        )
    if st.button("Compare groups", icon=":material/balance:", key=f"{own}-start"):
        groups = {
            "evaluation": evaluation_id,
            "against": against or "",
            "column": (column or "").strip(),
            "positive": (positive or "").strip(),
        }
        start({"builtin": False, "groups": [groups]})


def _draw_compared(compared: ComparedGroups, figures: Sequence[BiasFigure]) -> None:
    table = compared["tuned"]
    gaps = [
        figure
        for figure in figures
        if figure["kind"] == "group_gap" and figure["probe"].startswith(f"{table['column']} in ")
    ]
    lines = [_gap_line(figure, compared["against"]) for figure in gaps]
    st.dataframe(lines, hide_index=True, alt="The largest gap between groups, by rate")
    st.dataframe(
        [_line(group, table) for group in table["groups"]], hide_index=True, alt=f"Rates by {table['column']}"
    )
    st.caption(plain(_words(table, compared)))


def _gap_line(figure: BiasFigure, against: str | None) -> dict[str, str | int]:
    """The gap of one rate; beside another evaluation, where there is one."""
    line: dict[str, str | int] = {
        "Largest gap": named(figure["measure"], "").capitalize(),
        "This evaluation": bias_charts.amount(figure, "tuned"),
    }
    if against:
        line |= {against: bias_charts.amount(figure, "base"), "Change": bias_charts.amount(figure, "change")}
    return line | {"n": figure["tuned"]["n"]}


def _line(group: GroupRates, table: GroupTable) -> dict[str, str | int]:
    line: dict[str, str | int] = {table["column"]: group["group"], "n": group["n"]}
    for rate, title in RATES.items():
        if rate in group["rates"]:
            level = group["rates"][rate]
            text = (
                bias_charts.percent(level["estimate"])
                if level["estimate"]
                else f"too few rows ({level['n']})"
            )
            line[title] = text
    return line


def _words(table: GroupTable, compared: ComparedGroups) -> str:
    parts = [f"Score: {table['metric'].removeprefix('eval/')}. {SURE}"]
    if ratio := table["selection_ratio"]:
        parts.append(f"Demographic parity ratio {bias_charts.percent(ratio)}.")
    if table["hidden"]:
        names = ", ".join(f"{name} ({count})" for name, count in list(table["hidden"].items())[:12])
        more = len(table["hidden"]) - 12
        tail = f" and {more} more" if more > 0 else ""
        count = phrasing.plural(len(table["hidden"]), "group")
        parts.append(f"{count} of fewer than 30 rows can't be judged: {names}{tail}.")
    parts += [
        f"{phrasing.plural(count, 'row')} left out: {why}." for why, count in compared["left_out"].items()
    ]
    return " ".join(parts)
