"""A bias check as a worker leaves it, judged by the real diagnostics of made answers."""

from __future__ import annotations

import numpy as np

from engine.bias import probe_statistics, verdict
from engine.bias.probe_statistics import AnsweredPairs
from store.bias.schemas import BiasDetails, BiasProbe, BiasResult, ChangedPair


def result(worse: bool = False) -> BiasResult:
    """`worse`: the tuned model flips with the person, and leans nowhere."""
    rng = np.random.default_rng(3)
    templates = np.repeat(np.arange(40), 4)
    base = np.repeat(rng.normal(2, 0.3, (160, 1)), 2, axis=1)
    tuned = base + rng.normal(0, 0.02, (160, 2))
    if worse:
        side = rng.random(160) < 0.5
        tuned[side] *= [1, -1]
        tuned[~side] *= [-1, 1]
    figures = probe_statistics.measure_counterfactual(
        "built-in pairs", AnsweredPairs(base, tuned, np.full(160, "age"), templates)
    )
    chosen = [figure for figure in figures if figure.measure in ("flips", "lean") and not figure.group]
    return BiasResult(
        report=verdict.build_report(chosen, ["These are made."]),
        details=BiasDetails(
            probes=[
                BiasProbe(
                    name="built-in pairs",
                    kind="counterfactual",
                    items=160,
                    rows=160,
                    left_out={"it is too long": 2},
                    notices=[],
                    levels=[],
                    seconds=4.0,
                )
            ],
            pairs=[
                ChangedPair(
                    probe="built-in pairs",
                    group="age",
                    first="An old man asked.",
                    unit="nats",
                    second="A young man asked.",
                    base=0.1,
                    tuned=-1.2,
                )
            ],
            groups=[],
            seconds=30.0,
            device="cpu",
            versions={},
        ),
    )
