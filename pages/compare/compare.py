"""Compare: which runs are better, what did it cost, and what do they do for other data? A tab each.

Side by side are any runs by link (`?runs=a,b,c`): what each gained, which of them can be told apart on the
rows that both held out, their curves over each other, their numbers, and the settings in which they differ.
Gain and forgetting is over all finished runs: those worth having lie on the front, where whoever wants more
gain must forget more. Transfer is every chosen run on every chosen data set.
"""

from __future__ import annotations

import streamlit as st

from pages.compare import compare_evidence, compare_picker, compare_tables, compare_view
from pages.compare.compare_classes import draw_class_evidence
from pages.compare.tradeoff.cost_view import draw_costs
from pages.compare.transfer.transfer_view import draw_transfer
from pages.people import comments_view
from pages.rating.round_summaries import draw_rounds_between
from pages.run_parts.chips import chip_link, status_badge
from pages.shared.session import guarded, live, watch_engine
from pages.shared.tabs import COST, TRANSFER, Tab, open_tab
from store.contract.states import ALIVE
from store.queries.comments import comparison_key


def main() -> None:
    tab, place = open_tab(TABS, "compare-tabs")
    with place, guarded():
        tab.draw()


def _draw_side_by_side() -> None:
    st.title("Which run is better?", anchor=False)
    picked = compare_picker.pick_runs()
    if not picked:
        compare_picker.draw_empty()
        return
    runs = compare_picker.chosen(picked)
    if not runs:
        return
    alive = any(run["status"] in ALIVE for run in runs)
    with st.container(horizontal=True, gap="medium"):
        for run in runs:
            with st.container(horizontal=True, width="content", gap="xsmall", vertical_alignment="center"):
                chip_link(run)
                if run["status"] != "finished":  # of many that are, a word for each would fill a phone
                    st.markdown(status_badge(run["status"]), width="content")
    compare_evidence.draw_evidence(runs)
    draw_rounds_between([run["run_id"] for run in runs])
    draw_class_evidence(runs, compare_evidence.labels(runs))
    live("4s" if alive else None)(_live)(tuple(run["run_id"] for run in runs))
    compare_tables.draw_numbers(runs)
    compare_tables.draw_settings(runs)
    if len(runs) > 1:
        comments_view.draw("comparison", comparison_key(run["run_id"] for run in runs))


def _live(run_ids: tuple[str, ...]) -> None:
    with guarded():
        watch_engine()
        compare_view.draw_curves(compare_picker.chosen(list(run_ids)))


def _draw_cost() -> None:
    st.title("What did learning cost?", anchor=False)
    draw_costs()


def _draw_transfer() -> None:
    st.title("What does training on one data set do for the others?", anchor=False)
    draw_transfer()


TABS = {
    "side": Tab(":material/stacked_line_chart: Side by side", _draw_side_by_side),
    COST: Tab(":material/balance: Gain and forgetting", _draw_cost),
    TRANSFER: Tab(":material/grid_on: Transfer", _draw_transfer),
}


main()
