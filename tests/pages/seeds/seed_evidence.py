"""What probes of a run say, judged by the real diagnostics from rows with known changes."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.evaluation.training_curve.run_curve import VerdictConfig
from engine.evaluation.verdicts import forgetting as forgetting_diagnostics
from engine.evaluation.verdicts import membership_inference as membership_diagnostics
from engine.evaluation.verdicts.membership_inference import PairedScores
from store.core.job_folder import JobDir
from store.evaluation.forgetting_schemas import Forgetting, Membership
from tests.unit.probe_rows import choices, requests, table, texts

BASE = table(texts(0, noise=0), choices(), texts(0, noise=0, probe="own_samples", n=40), requests((20, 1)))
LOST = 200  # questions for each nat on prose


def forgetting(rise: float, config: dict[str, Any]) -> Forgetting:
    """The loss on prose rose by `rise`; with it questions were lost and the distance from the base grew."""
    rate, epochs = config["learning_rate"], config["num_train_epochs"]
    return _forgetting(rise, rate, epochs)


def _tuned(rise: float) -> pa.Table:
    moved = texts(1.2 * rise, probe="own_samples", n=40, seed=3)
    lost = choices(round(LOST * max(0.0, rise)), 4)
    return table(texts(rise), lost, moved, requests((20 - round(40 * rise), 2)))


def write_probes(folder: JobDir, rise: float) -> None:
    """The items behind it, as a run leaves them."""
    both = [("base", BASE), ("tuned", _tuned(rise))]
    tables = [t.append_column("model", pa.array([name] * t.num_rows)) for name, t in both]
    pq.write_table(pa.concat_tables(tables), folder.probes)
    asked = BASE.filter(pc.equal(BASE["probe"], "choices"))
    count = asked.num_rows
    items = {
        "probe": asked["probe"],
        "item": asked["item"],
        "category": asked["category"],
        "text": [f"What is {i} + {i}?" for i in range(count)],
        "options": [[str(2 * i), str(2 * i + 1), str(2 * i + 2), str(2 * i + 3)] for i in range(count)],
        "right": pa.array([0] * count, pa.int32()),
    }
    pq.write_table(pa.table(items), folder.probe_items)


def write_requests(folder: JobDir) -> None:
    """What was asked, and said."""
    count, no = 28, "I'm sorry, but I can't help with that."
    rows = [
        {
            "pair": pair, "category": "fraud", "harmful": harmful, "text": f"Request {pair} <b>&</b> *x*",
            "base": no if harmful and pair < 20 else "Here is how.", "tuned": "card_arrival",
            "base_refused": harmful and pair < 20, "tuned_refused": False,
        }
        for pair in range(count)
        for harmful in (True, False)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder.requests)


def write_metric(folder: JobDir, steps: list[int]) -> None:
    """Tokens right of each validation row, more at each step, and answers at two of them."""
    rows = [
        {"step": s, "row_id": i, "loss_sum": 20.0, "tokens": 10, "correct": min(10, 3 + i % 4 + s // 20)}
        for s in steps
        for i in range(50)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder.validations)
    answer_scores = [
        {"step": s, "row_id": i, "metric": "eval/token_f1", "score": None if i == 3 else (i % 5) / 5}
        for s in (steps[1], steps[-1])
        for i in range(16)
    ]
    pq.write_table(pa.Table.from_pylist(answer_scores), folder.live_answers)


def write_course(folder: JobDir, rise: float, steps: list[int], last: int, *, base: bool) -> None:
    """The few items that were measured while it trained, at each step; with `base`, as step 0 too."""
    base_parts = [BASE.filter(pc.equal(BASE["probe"], name)) for name in ("prose", "choices")]
    light = set(base_parts[0]["item"].to_pylist()[:8]) | set(base_parts[1]["item"].to_pylist()[:96])
    tables = [(0, BASE)] if base else []
    tables += [(step, _tuned(rise * step / last)) for step in steps]
    kept = [
        table.filter(pc.is_in(table["item"], pa.array(sorted(light)))).append_column(
            "step", pa.array([step] * len(light))
        )
        for step, table in tables
    ]
    pq.write_table(pa.concat_tables(kept), folder.live_probes)


@cache
def _forgetting(rise: float, rate: float, epochs: float) -> Forgetting:
    tuned = _tuned(rise)
    settings: VerdictConfig = {"learning_rate": rate, "num_train_epochs": epochs}
    return forgetting_diagnostics.assess_forgetting(BASE, tuned, config=settings)


@cache
def membership(gap: float, rows: int = 150) -> Membership:
    """Of as many training and held-out rows, the first of which became easier by `gap` nats a token."""
    random = np.random.default_rng(5)
    level = random.normal(2.4, 0.5, (2, rows))
    change = random.normal(0.5, 0.15, (2, rows)) + np.array([[gap], [0.0]])
    least = 1.5 + random.normal(0, 0.2, (2, rows))  # the worst tokens of a row cost that much more
    members, others = (
        PairedScores(
            base={"loss": base, "min_k": -base - worst},
            tuned={"loss": base - fell, "min_k": -base - worst + 0.8 * fell},
        )
        for base, fell, worst in zip(level, change, least, strict=True)
    )
    return membership_diagnostics.assess_membership(members, others)
