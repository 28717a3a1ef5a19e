"""Where a run gained and where it lost: the gain on each named slice of its data set, on held-out rows alone.

With several slices the intervals are widened (Bonferroni), so that looking at many makes no false finding.
"""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from engine.diagnostics.statistics.statistics import Interval, ratio_interval
from pages.data.rows import explore_reads
from pages.run_parts import run_reads
from pages.shared import reads, wording
from pages.shared.session import client, current_person, guarded, kept_for, plain
from store.contract.errors import NotFoundError
from store.documents.tables.dataset import Dataset, SliceRow
from store.documents.tables.run import Run
from store.queries.rows import row_losses

ERROR_RATE = 0.05


def draw_slices(run_id: str) -> None:
    """The tab of one run."""
    with guarded():
        run = run_reads.run(run_id)
        dataset = _dataset(run)
        gain = run["verdict"] and run["verdict"]["gain"]
        if dataset is None or not gain:
            lack = (
                "The run has no verdict yet." if dataset else "The data set that it was trained on is gone."
            )
            st.caption(f"There is nothing to compare slices on. {lack}")
            return
        slices = _slices(dataset["dataset_id"])
        if not slices:
            st.caption(
                "The data set has no slices. Filter its rows and save the filter as a slice: then the gain on"
                " these rows stands here."
            )
            st.page_link(
                "pages/data/data.py",
                label="Filter its rows",
                icon=":material/filter_alt:",
                query_params={"dataset": dataset["dataset_id"]},
            )
            return
        confidence = 1 - ERROR_RATE / len(slices)
        whole = {"Slice": "All held-out rows", "Gain ↑ (95% interval)": wording.estimate(gain)}
        rows = [whole | {"Held-out rows": gain["n"], "": _word(gain["low"], gain["high"])}]
        rows += [
            _row(run, dataset["dataset_id"], named_slice, gain["split"], confidence) for named_slice in slices
        ]
        st.dataframe(rows, hide_index=True, alt="Gain by slice")
        wider = f", widened for {len(slices)} slices (Bonferroni)" if len(slices) > 1 else ""
        st.caption(f"{gain['unit'].capitalize()}, base minus tuned; intervals over rows in pairs{wider}.")


def _slices(dataset_id: str) -> list[SliceRow]:
    return reads.slices(dataset_id, current_person()["person_id"])


def _dataset(run: Run) -> Dataset | None:
    """The data set of the run, where it still has the rows that the run was trained on."""
    try:
        dataset = run_reads.dataset(run["dataset_id"])
    except NotFoundError:
        return None
    return dataset if dataset["fingerprint"] == run["data_fingerprint"] else None


def _row(run: Run, dataset_id: str, named_slice: SliceRow, split: str, confidence: float) -> dict[str, Any]:
    interval = gain_on(run["run_id"], dataset_id, split, json.dumps(named_slice["filter"]), confidence)
    line: dict[str, Any] = {"Slice": plain(named_slice["name"])}
    if interval is None:
        return line | {"Gain ↑ (95% interval)": "–", "Held-out rows": 0, "": "no held-out row is in it"}
    gain = interval.to_dict()
    return line | {
        "Gain ↑ (95% interval)": wording.estimate(gain),
        "Held-out rows": interval.n,
        "": _word(interval.low, interval.high),
    }


def _word(low: float | None, high: float | None) -> str:
    """What the interval says."""
    if low is None or high is None:
        return "one row tells nothing"
    return "better" if low > 0 else "worse" if high < 0 else "can't be told from noise"


@kept_for(600, most=256)
def gain_on(run_id: str, dataset_id: str, split: str, where: str, confidence: float) -> Interval | None:
    """The gain on the held-out rows that a filter (as JSON) means, None where there is none."""
    table = row_losses.sliced(
        client(), run_id, split, explore_reads.rows(dataset_id), explore_reads.parsed(where)
    )
    if not table.num_rows:
        return None
    columns = {name: table[name].to_numpy() for name in ("base_loss", "tuned_loss", "tokens")}
    return ratio_interval(
        columns["base_loss"] - columns["tuned_loss"], columns["tokens"], confidence=confidence
    )
