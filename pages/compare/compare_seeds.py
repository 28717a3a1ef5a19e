"""Settings that were run with several seeds: which are better by more than what their seeds do.

Of two runs of one setting nearly always one is surely the better model on the same rows, and that is luck. So
they are never called different; settings are compared by their repetitions
(`engine.diagnostics.comparison.seed_spread`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from engine.diagnostics import phrasing
from engine.diagnostics.comparison import seed_spread
from engine.diagnostics.comparison.alike import apart, gain_of
from engine.diagnostics.comparison.comparison import RunDifference, pairs
from pages.run_parts import run_reads
from pages.shared import quantities
from pages.shared.session import act, may, plain
from store.contract.errors import QueryError
from store.contract.states import ALIVE
from store.documents.tables.run import Run

Runs = list[Run]
Losses = list[NDArray[np.float64]]  # of each setting, [runs, rows]


def differences(groups: Sequence[Runs], names: dict[str, str]) -> list[RunDifference]:
    """Each setting against the first one, which has the lowest loss, as sure as rows and seeds allow."""
    best, *others = groups
    comparable = [group for group in others if not apart(best[0], group[0])]
    losses, tokens, missing = _losses([best, *comparable])
    by_seed = None if missing else seed_spread.spread(losses, tokens)
    comparisons = []
    for group in others:
        pair = (_title(best, names), _title(group, names))
        reason = apart(best[0], group[0]) or missing
        if not reason and by_seed is None:
            reason = "of neither of these settings there is a second seed"
        if reason or by_seed is None:
            comparisons.append(RunDifference(*pair, None, reason))
            continue
        rows = losses[1 + comparable.index(group)]
        interval = seed_spread.difference(
            losses[0], rows, tokens, by_seed, confidence=1 - 0.05 / pairs(len(groups))
        )
        comparisons.append(RunDifference(*pair, interval, unit=gain_of(best[0])["unit"]))
    return comparisons


def _title(group: Runs, names: dict[str, str]) -> str:
    name = names[group[0]["run_id"]]
    return name if len(group) == 1 else f"{name} ({len(group)} seeds)"


def draw_seeds(groups: Sequence[Runs], names: dict[str, str]) -> None:
    """What the seed alone does where it is known; where it isn't, the way to know it."""
    several = [group for group in groups if len(group) > 1]
    for group in several:
        st.markdown(f":material/casino: {plain(_of_seeds(group, names))}")
    if several:
        st.caption("Intervals count what the seeds do, as pooled over the settings that were repeated.")
    elif len(groups) > 1:
        st.caption(
            "One run of each: this tells these models apart. Whether their settings differ by more than luck,"
            " another seed of each would say."
        )
        _offer(groups)


def _of_seeds(group: Runs, names: dict[str, str]) -> str:
    names_said = ", ".join(names[run["run_id"]] for run in group[:-1]) + f" and {names[group[-1]['run_id']]}"
    losses, tokens, missing = _losses([group])
    by_seed = None if missing else seed_spread.spread(losses, tokens)
    if by_seed is None:
        return f"{names_said} differ in nothing but their seed, but {missing or 'there is no loss'}."
    means = losses[0].sum(axis=1) / tokens.sum()
    unit = gain_of(group[0])["unit"]
    width = phrasing.number(float(np.ptp(means)), 3)
    between = f"lie {width} {unit} apart on {phrasing.plural(len(tokens), 'held-out row')}"
    return f"{names_said} differ in nothing but their seed and {between}: that is luck, not a better setting."


def _offer(groups: Sequence[Runs]) -> None:
    """One click that runs each again with the next seed."""
    runs = [group[0] for group in groups]
    if any(run["status"] in ALIVE for run in runs):
        return
    seconds = [run["facts"].get("run_seconds") for run in runs]
    took = f", about {quantities.span(sum(filter(None, seconds)))}" if all(seconds) else ""
    if may("work") and st.button(
        f"Repeat each with another seed{took}", icon=":material/casino:", key="compare-repeat"
    ):
        launched = [act("launch", again(run)) for run in runs]
        if all(launched):
            link = ",".join(
                [run["run_id"] for run in runs] + [answer["run_id"] for answer in launched if answer]
            )
            st.switch_page("pages/compare/compare.py", query_params={"runs": link})


def again(run: Run) -> dict[str, Any]:
    """The config of a run with the next seed."""
    seed = int(run["config"].get("seed") or 0) + 1
    return run["config"] | {"seed": seed, "name": f"{run['name'][:100]}, seed {seed}"}


def _losses(groups: Sequence[Runs]) -> tuple[Losses, NDArray[np.float64], str]:
    """Summed losses of the rows that all these runs held out, by setting, and the rows' tokens; or why there
    are none."""
    first = groups[0][0]
    split = gain_of(first)["split"]
    none = np.zeros(0)
    try:
        tables = [
            run_reads.shared_rows(first["run_id"], run["run_id"], split) for group in groups for run in group
        ]
    except QueryError:
        return [], none, "the losses of single rows of one of them are not there"
    if not all(all(table["same_tokens"].to_pylist()) for table in tables):
        return [], none, "they count the tokens of the same rows differently"
    ids = [table["row_id"].to_numpy() for table in tables]
    shared = functools.reduce(np.intersect1d, ids)
    if not len(shared):
        return [], none, "they held out no row in common"
    rows = np.array(
        [
            table["second_loss"].to_numpy()[np.isin(own, shared)]
            for table, own in zip(tables, ids, strict=True)
        ]
    )
    if not np.isfinite(rows).all():
        return [], none, "a loss is not a number"
    tokens = tables[0]["tokens"].to_numpy()[np.isin(ids[0], shared)].astype(np.float64)
    return np.split(rows, np.cumsum([len(group) for group in groups])[:-1]), tokens, ""
