"""Closed rounds of tens of thousands of ratings in a store, for the benches of screens and command line.

There are many models, of which each prompt has responses of a few, and many raters. Responses, strengths
and ratings are drawn by seed; the raters' preference for longer responses is known.
"""

from __future__ import annotations

import datetime
import json

import numpy as np
import pyarrow as pa

from engine.rating.analysis.davidson import compute_probabilities
from store.core.home import Home
from store.core.rating_schemas import RatingProtocol, Round, RoundDetails, RoundSystem
from store.db.database import Database
from store.rating import rounds

MODELS, RATERS, ITEMS = 59, 124, 12_500
LABELS = ("billing", "delivery", "returns", "other")
AT = datetime.datetime(2026, 1, 5, 9)
TASTE = 0.4  # log-odds per unit of the logarithm of the length


def make(home: Home, votes: int, protocol: RatingProtocol = "pairwise", round_id: str = "large") -> None:
    """Create a closed round with this number of ratings. Pairwise: each shows two of all models; other
    protocols: all of four.
    """
    rng = np.random.default_rng(0)
    models = MODELS if protocol == "pairwise" else 4
    words = np.array(["".join(rng.choice(list("abcdefghij \n*"), n)) for n in rng.integers(4, 12, 2_000)])
    lengths = np.exp(rng.normal(4, 0.6, (ITEMS, models))).astype(np.int64)
    item, rater = np.divmod(rng.choice(ITEMS * RATERS, votes, replace=False), RATERS)  # each pair once
    systems_of = (
        _pairs(rng, votes, models) if protocol == "pairwise" else np.tile(np.arange(models), (votes, 1))
    )
    levels = rng.normal(0, 0.8, models)
    seen = np.take_along_axis(levels + TASTE * np.log(lengths)[item], systems_of, axis=1)
    answers = _answers(rng, protocol, seen)
    asked = np.zeros((ITEMS, models), bool)
    asked[item[:, None], systems_of] = True
    texts = [
        [" ".join(rng.choice(words, lengths[row, model] // 8 + 1)) if asked[row, model] else None
         for model in range(models)]
        for row in range(ITEMS)
    ]  # fmt: skip
    if protocol == "label":
        texts = [[str(label) for label in rng.choice(LABELS, models)] for _ in range(ITEMS)]
    rated = pa.table({
        "task_id": [f"{round_id}.{vote}" for vote in range(votes)], "item_id": item,
        "person_id": [f"p{each}" for each in rater], "person_name": [f"Rater {each}" for each in rater],
        "systems": systems_of.tolist(), "place": np.arange(votes), "answer": answers,
        "seconds": rng.exponential(9, votes) + 2,
        "rated_at": [AT + datetime.timedelta(seconds=v) for v in range(votes)],
    })  # fmt: skip
    items = pa.table({
        "item_id": pa.array(range(ITEMS), pa.int32()), "row_id": pa.nulls(ITEMS, pa.int64()),
        "prompt": [json.dumps([{"role": "user", "content": f"Question {row}?"}]) for row in range(ITEMS)],
        "reference": pa.nulls(ITEMS, pa.string()), "answers": texts, "named": [False] * ITEMS,
        "check": pa.nulls(ITEMS, pa.string()), "expected": pa.nulls(ITEMS, pa.string()),
        "weight": [1.0] * ITEMS,
    })  # fmt: skip
    database = Database(home.database, [home.datasets])
    with database.transaction() as tx:
        rounds.insert(tx, _round(round_id, protocol, models), items)
        with tx.table("made_ratings", rated):
            tx.execute(
                "INSERT INTO rating_task BY NAME SELECT task_id, ? AS round_id, item_id, person_id,"
                " person_name, systems, 'first' AS purpose, NULL AS repeat_of, place, rated_at AS given_at"
                " FROM made_ratings",
                [round_id],
            )
            tx.execute(
                "INSERT INTO rating BY NAME SELECT task_id, 1 AS revision, ? AS round_id, answer,"
                " '' AS comment, seconds, rated_at FROM made_ratings",
                [round_id],
            )
    database.close()


def _pairs(rng: np.random.Generator, votes: int, models: int) -> np.ndarray:
    left = rng.integers(0, models, votes)
    return np.column_stack([left, (left + rng.integers(1, models, votes)) % models])


def _answers(rng: np.random.Generator, protocol: RatingProtocol, seen: np.ndarray) -> list[str]:
    """Return ratings as JSON, from the strengths of the models as perceived in each rating [votes, shown]."""
    votes = len(seen)
    if protocol == "pairwise":
        shares = compute_probabilities(seen[:, 0] - seen[:, 1], np.full(votes, -0.5))
        outcome = (rng.random((votes, 1)) > shares.cumsum(axis=1)[:, :2]).sum(axis=1)
        return [f'{{"choice": "{("A", "B", "tie")[each]}"}}' for each in outcome]
    if protocol == "rank":
        ranks = (-seen - rng.gumbel(0, 1, seen.shape)).argsort(axis=1).argsort(axis=1) + 1
        return [json.dumps({"ranks": row}) for row in ranks.tolist()]
    return [json.dumps({"label": str(label), "note": ""}) for label in rng.choice(LABELS, votes)]


def _round(round_id: str, protocol: RatingProtocol, models: int) -> Round:
    details = RoundDetails(
        rows=ITEMS, drawn=ITEMS, named=0, left_out=0, empty=0, same=0, gold=0,
        notices=[],
    )  # fmt: skip
    systems = [
        RoundSystem(name=f"Model {place} of many", evaluation_id=None, run_id=None, model="", checkpoint="")
        for place in range(models)
    ]
    return Round(
        round_id=round_id, name=f"Many {protocol}", notes="", protocol=protocol,
        config={"overlap": 1, "labels": list(LABELS)}, systems=systems, state="closed",
        dataset_id=None, item_count=ITEMS, details=details, created_by="bench",
        created_by_name="Bench", created_at=AT, closed_at=AT, closed_by_name="Bench",
    )  # fmt: skip
