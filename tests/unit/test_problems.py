"""A run without fault has no problem; `FACTS` are those of such a run."""

from __future__ import annotations

from engine.data.masks import Checks
from engine.tuning import problems
from store.config import TrainConfig

FACTS = problems.Facts(
    config=TrainConfig(dataset="d").resolved(2_000),
    kind="chat",
    device="cpu",
    fast_bf16=True,
    own_template=True,
    rows={"train": 2_000, "validation": 200, "test": 200},
    counted=2_000,
    truncated=0,
    lost_tokens=0,
    reasons={},
    unjudged=False,
    checks=Checks(200, 0, 0, 0, 0),
    max_length=128,
    positions=2_048,
    steps=250,
    memory_low=1.0,
    memory_high=2.0,
    available=8.0,
    device_total=16.0,
)


def test_a_run_without_fault_has_no_problem() -> None:
    assert problems.find(FACTS) == []
