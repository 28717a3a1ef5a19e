"""How often runs that differ only in their seed are called different: 12 of one setting, taken as two.

Every way of taking `k` of them as one setting and `k` others as another is a comparison without a
difference (there are many; DRAWS of them are tried, by seed). They are not independent: 12 models alone
determine how many are called different. So that share is compared with the most that it is in 95 of 100
draws of 12 normal numbers under a test that has exactly its level.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from bench.verdicts.trials import Trials
from engine.evaluation.comparison import run_comparison as seeds
from engine.evaluation.statistics.intervals import ratio_interval

RUNS, DRAWS, LEVEL = 12, 2000, 0.05
SETTING: dict[str, Any] = {
    "method": "lora",
    "learning_rate": 1e-3,
    "max_train_rows": 64,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "max_eval_rows": 200,
    "evaluations": 1,
    "early_stopping": False,
    "load_best_model_at_end": False,
    "sample_prompts": 0,
    "probes": False,
}


def claims(trials: Trials) -> Iterator[tuple[str, bool, str]]:
    """Yield the claims that must hold for comparisons without a difference."""
    dataset = trials.data("Python functions", {"builtin": "python"})
    seed_runs = [trials.run(f"seed {seed}", dataset=dataset, seed=seed, **SETTING) for seed in range(RUNS)]
    read = [trials.row_losses(run) for run in seed_runs]
    losses, tokens = np.array([losses for losses, _ in read]), read[0][1]
    pairs = [ratio_interval(a - b, tokens) for a, b in combinations(losses, 2)]
    by_rows = float(np.mean([pair.above or pair.below for pair in pairs]))
    seed_spread = seeds.estimate_seed_spread([losses], tokens)
    assert seed_spread is not None
    about = (
        f"seeds move the loss by {seed_spread.deviation:.4f} nats a token; by rows alone {by_rows:.0%} differ"
    )
    rng = np.random.default_rng(0)
    for k in (2, 3):
        drawn = np.array([rng.permutation(RUNS)[: 2 * k] for _ in range(DRAWS)])
        called = np.mean([_different(losses[chosen], tokens) for chosen in drawn])
        most = _most(drawn[:300], rng)
        words = f"{called:.1%} of {DRAWS:,} draws, up to {most:.1%} allowed; {about}"
        yield f"{k} seeds against {k} are called different in about 1 of 20 or fewer", called <= most, words


def _different(losses: np.ndarray, tokens: np.ndarray) -> bool:
    first, second = np.split(losses, 2)
    seed_spread = seeds.estimate_seed_spread([first, second], tokens)
    assert seed_spread is not None
    interval = seeds.compare_settings(first, second, tokens, seed_spread)
    return interval.above or interval.below


def _most(drawn: np.ndarray, rng: np.random.Generator, times: int = 1000) -> float:
    """Return the 95th percentile of the share called different among these draws from 12 normal numbers."""
    values = rng.standard_normal((times, RUNS))[:, drawn]  # [times, draws, 2 k]
    first, second = np.split(values, 2, axis=-1)
    p = stats.ttest_ind(first, second, axis=-1).pvalue
    return float(np.quantile((p < LEVEL).mean(axis=1), 0.95))
