"""Statistics of ratings, checked with raters of known noise, bias and reliability, and against packages.

python bench/rating.py [--only TOPIC …] [--share 1.0] [--skip-packages]

Prints a table of nominal and observed rates, then our figures beside those of the packages, and the
seconds that both take. Exits with 1 if a rate is off or a figure differs. `--share 0.1` uses a tenth of
the draws, for a first look: the bands are meant for all of them. `bench/truth.py --write` stores these
rates with all others.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from bench import truth
from bench.made.rating_round import Round
from bench.made.voted import arena
from engine.rating.analysis.comparisons import Comparisons, PairOutcome
from engine.rating.analysis.krippendorff_alpha import compute_alpha
from engine.rating.analysis.model_comparison import compute_always_valid_interval
from engine.rating.analysis.rater_reliability import fit_dawid_skene
from engine.rating.analysis.strengths import estimate_strengths

FOLDER = "bench.ratings"
SIX = Round((1.5, 1.0, 0.6, 0.3, 0.2, 0.0), items=1_000, raters=6, apart=3, of_item=0.0)


class Peer(NamedTuple):
    """A comparison with another package: the largest difference, the allowed one, and the seconds of both."""

    figure: str
    package: str
    difference: float
    allowed: float
    seconds: float
    their_seconds: float


def _timed(make: Callable[[], object]) -> tuple[object, float]:
    start = perf_counter()
    made = make()
    return made, perf_counter() - start


def _round(nu: float = 0.6) -> Comparisons:
    rng = np.random.default_rng(0)
    return Round(SIX.strengths, nu=nu, items=1_000, raters=6, apart=3, of_item=0.0).draw(rng, SIX.people(rng))


def peers() -> Iterator[Peer]:
    """Yield the comparison of each figure with a package; 1,000 resamples where there are any."""
    import choix
    import evalica
    import krippendorff

    rated = _round()
    mine, seconds = _timed(lambda: estimate_strengths(rated))
    values = np.array([at.value for at in mine.strengths])
    left, right = ([rated.systems[place] for place in side] for side in (rated.left, rated.right))
    winners = [
        (evalica.Winner.X, evalica.Winner.Y, evalica.Winner.Draw)[outcome] for outcome in rated.outcome
    ]
    options = {"tie_weight": 1.0, "tolerance": 1e-12, "limit": 10_000}
    newman, theirs = _timed(lambda: evalica.newman(left, right, winners, **options))
    logs = np.log(newman.scores[list(rated.systems)].to_numpy())
    apart = _most(values, logs - logs.mean())
    yield Peer("strengths of 3,000 ratings (ours with intervals)", "evalica", apart, 1e-4, seconds, theirs)
    yield Peer("nu, twice Newman's v", "evalica", abs(mine.ties.value - 2 * newman.v), 1e-4, seconds, theirs)

    yield _half_wins()

    decided = rated.take(rated.outcome < PairOutcome.TIE)
    won = np.where(decided.outcome == PairOutcome.LEFT, decided.left, decided.right).tolist()
    lost = np.where(decided.outcome == PairOutcome.LEFT, decided.right, decided.left).tolist()
    mine, seconds = _timed(lambda: estimate_strengths(decided))
    logs, theirs = _timed(lambda: choix.opt_pairwise(6, list(zip(won, lost, strict=True)), alpha=1e-5))
    values = np.array([at.value for at in mine.strengths])
    yield Peer("strengths without ties", "choix", _most(values, logs - logs.mean()), 1e-3, seconds, theirs)

    table = np.random.default_rng(0).integers(1, 6, (4, 300)).astype(float)
    table[1:] = np.where(np.random.default_rng(1).random((3, 300)) < 0.6, table[0], table[1:])
    table[np.random.default_rng(2).random(table.shape) < 0.3] = np.nan
    rater, item = np.nonzero(np.isfinite(table))
    for level in ("nominal", "ordinal", "interval"):
        mine, seconds = _timed(lambda level=level: compute_alpha(table[rater, item], item, level=level))
        value, theirs = _timed(
            lambda level=level: krippendorff.alpha(reliability_data=table, level_of_measurement=level)
        )
        yield Peer(f"alpha, {level}, 4 raters of 300 items", "krippendorff", abs(mine.interval.value - value),
                   1e-9, seconds, theirs)  # fmt: skip
    yield _dawid_skene()


def _half_wins() -> Peer:
    """Compare Bradley-Terry strengths with ties as half a win for each side. These are shrunk by about the
    same factor for all models; after rescaling they equal ours.
    """
    import evalica

    votes = arena(8_931)
    mine, seconds = _timed(lambda: estimate_strengths(votes))
    left, right = ([votes.systems[place] for place in side] for side in (votes.left, votes.right))
    winners = [(evalica.Winner.X, evalica.Winner.Y, evalica.Winner.Draw)[each] for each in votes.outcome]
    options = {"tie_weight": 0.5, "tolerance": 1e-12, "limit": 10_000}
    fitted, theirs = _timed(lambda: evalica.bradley_terry(left, right, winners, **options))
    logs = np.log(fitted.scores[list(votes.systems)].to_numpy())
    logs -= logs.mean()
    values = np.array([at.value for at in mine.strengths])
    scale = (logs @ values) / (logs @ logs)
    return Peer("strengths of 59 models, 8,931 votes, ties as half a win, scaled", "evalica",
                _most(values / scale, logs), 0.01, seconds, theirs)  # fmt: skip


def _dawid_skene() -> Peer:
    """Compare Dawid and Skene's posterior, without smoothing, as crowd-kit has none."""
    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    rng = np.random.default_rng(3)
    right, answers = rng.integers(0, 3, 200), []
    for unit, rater in np.ndindex(200, 4):
        sure = rng.random() < (0.9, 0.8, 0.7, 0.5)[rater]
        answers.append((unit, rater, int(right[unit]) if sure else int(rng.integers(0, 3))))
    unit, rater, label = (np.array(column) for column in zip(*answers, strict=True))
    (_, mine), seconds = _timed(lambda: fit_dawid_skene(label, unit, rater, 3, smoothing=0.0, right=0.0))
    frame = pd.DataFrame({"task": unit, "worker": rater, "label": label})
    fitted, theirs = _timed(lambda: DawidSkene(n_iter=2_000, tol=1e-12).fit(frame))
    posterior = fitted.probas_.sort_index()[[0, 1, 2]].to_numpy()
    return Peer("Dawid and Skene's posterior, 200 items, 4 raters", "crowd-kit", _most(mine, posterior), 1e-3,
                seconds, theirs)  # fmt: skip


def _most(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max())


def speeds() -> Iterator[tuple[str, float]]:
    """Yield the seconds of computations that users wait for."""
    rated = _round()
    yield "6 systems, 3,000 ratings, 1,000 resamples", _timed(lambda: estimate_strengths(rated))[1]
    votes = arena(50_000)
    yield "59 models, 50,000 votes, 1,000 resamples", _timed(lambda: estimate_strengths(votes))[1]
    held = {"covariates": ["length"], "position": True}
    yield "the same, length and side held equal", _timed(lambda: estimate_strengths(rated, **held))[1]
    scores = np.random.default_rng(0).choice([1.0, 0.0, -1.0], 10_000)
    yield "a peek at 10,000 items", _timed(lambda: compute_always_valid_interval(scores))[1]


def packages() -> int:
    """Print the tables; return the number of figures that differ."""
    print("| figure | package | differs by | ours, s | theirs, s | |\n|---|---|---|---|---|---|")
    off = 0
    for peer in peers():
        differs = not peer.difference <= peer.allowed or math.isnan(peer.difference)
        off += differs
        print(f"| {peer.figure} | {peer.package} | {peer.difference:.1e} | {peer.seconds:.3f} | "
              f"{peer.their_seconds:.3f} | {'**off**' if differs else 'holds'} |", flush=True)  # fmt: skip
    print("\n| what | s |\n|---|---|")
    for name, seconds in speeds():
        print(f"| {name} | {seconds:.3f} |")
    return off


def main() -> int:
    """Print the tables; return 1 if anything is off."""
    topics = [*truth.modules(FOLDER)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=topics, default=topics)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--skip-packages", action="store_true")
    options = parser.parse_args()
    off = truth.table(options.only, options.share) if options.only else 0
    if not options.skip_packages:
        print()
        off += packages()
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
