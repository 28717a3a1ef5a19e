"""The Compare page, with one tab each for results, curves, cost and transfer to other data sets.

Results: runs are selected by search and kept in the link (`?runs=a,b,c`). The tab shows what each run gained,
which runs differ on their common held-out rows, their numbers, and the settings in which they differ. Curves:
each metric of the same runs. Cost: gain against forgetting over all finished runs; on the Pareto front more
gain costs more forgetting. Transfer: every chosen run on every chosen data set.
"""

from __future__ import annotations

import streamlit as st

from pages.comparison import differences, side_by_side
from pages.comparison.comparison_looks import draw_looks
from pages.comparison.differences import draw_accuracy_comparison
from pages.comparison.run_curves import draw_run_curves
from pages.comparison.run_selection import draw_empty, find_existing_runs, pick_runs
from pages.comparison.tradeoff import draw_costs
from pages.people import activity_feed
from pages.shared.features import add_feature_tabs, list_parts
from pages.shared.layout import COST, Tab, draw_tab_bar
from pages.shared.run_chips import draw_chip_link, format_status_badge
from pages.shared.session import show_errors
from store.people.activity import format_comparison_key


def main() -> None:
    tab, place = draw_tab_bar(add_feature_tabs("comparison", TABS), "compare-tabs")
    with place, show_errors():
        tab.draw()


def _draw_side_by_side() -> None:
    st.title("Compare", anchor=False)
    picked = pick_runs()
    if not picked:
        draw_empty(
            "Select two or more runs to see which is better, and their metrics and settings side by side."
        )
        return
    runs = find_existing_runs(picked)
    if not runs:
        return
    with st.container(horizontal=True, gap="medium"):
        for run in runs:
            with st.container(horizontal=True, width="content", gap="xsmall", vertical_alignment="center"):
                draw_chip_link(run)
                if run.status != "finished":  # a badge for each of many would fill a phone
                    st.markdown(format_status_badge(run.status), width="content")
    differences.draw_gain_comparison(runs)
    draw_looks([run.run_id for run in runs])
    for draw in list_parts(lambda feature: feature.draw_comparison_part):
        draw([run.run_id for run in runs])
    draw_accuracy_comparison(runs, differences.build_run_labels(runs))
    side_by_side.draw_numbers(runs)
    side_by_side.draw_settings(runs)
    if len(runs) > 1:
        activity_feed.draw_comments("comparison", format_comparison_key(run.run_id for run in runs))


def _draw_cost() -> None:
    st.title("Gain and forgetting", anchor=False)
    draw_costs()


TABS = {
    "side": Tab(":material/compare_arrows: Side by side", _draw_side_by_side),
    "curves": Tab(":material/stacked_line_chart: Curves", draw_run_curves),
    COST: Tab(":material/balance: Gain and forgetting", _draw_cost),
}


main()
