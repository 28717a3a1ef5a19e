"""Check the evidence of runs whose truth is known (SmolLM2-135M-Instruct); exits with 1 if a claim fails.

    python bench/acceptance.py [SECTION …] [--home DIR] [--trec FILE]

overfit     32 rows, 10 epochs: reported as overfitting, with its best step within one evaluation of that of
            a run on the same rows with other, more and closer validations.
membership  after 1, 2, 4 and 10 epochs on those rows: the area under the base model is one half, and it
            rises (over six draws of rows), and it rises with the gap between held-out and training rows.
identity    every method that keeps the base model in place forgets nothing, untrained and disabled.
trec        two epochs on 480 questions of TREC: a significant gain, a significant loss on prose, and a
            verdict on both.
mitigation  replay and a tenth of the learning rate each forget less than the run of `trec`.
rates       LoRA forgets less than full fine-tuning at one learning rate and more at another.
seeds       runs that differ only in their seed are not called different more often than 1 in 20.

Runs go through an engine like a user's, and stay in the home folder (a new one by default): view them
there with `tunebench up`. `trec`, `mitigation` and `rates` need the training file of the TREC question
classification set as JSON lines of text and coarse.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from scipy import stats

from bench.verdicts import seeds, untrained
from bench.verdicts.trials import Run, Trials, with_interval
from store.core.errors import TunebenchError
from store.core.figure_schemas import Estimate

Claim = tuple[str, bool, str]  # claim, whether it holds, the figures

SMALL = {
    "method": "full",
    "learning_rate": 1e-4,
    "max_train_rows": 32,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "early_stopping": False,
    "max_eval_rows": 100,
    "sample_prompts": 3,
}
STEPS = 4  # steps of an epoch of SMALL
EPOCHS = 10
DRAWS = 6  # draws of training rows for the base model's area: one draw of 32 rows is far from one half
TREC = {
    "max_train_rows": 480,
    "max_eval_rows": 150,
    "num_train_epochs": 2,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "early_stopping": False,
    "sample_prompts": 3,
}
HIGH, LOW = 1e-3, 1e-4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="all where none is named")
    parser.add_argument("--home", type=Path, help="a home folder to keep the runs in, and to go on with")
    parser.add_argument("--trec", type=Path, help="the TREC file")
    given = parser.parse_args()
    folder = given.home or Path(tempfile.mkdtemp(prefix="acceptance-"))
    trials = Trials(folder, given.trec)
    failed = 0
    try:
        for name in given.sections or SECTIONS:
            print(f"\n{name}")
            for claim, holds, figures in SECTIONS[name](trials):
                failed += not holds
                print(f"  {'holds ' if holds else 'FAILS '} {claim}: {figures}", flush=True)
    except TunebenchError as error:
        raise SystemExit(f"{error} {error.fix or ''}") from error
    finally:
        trials.close()
        if not given.home:
            shutil.rmtree(folder, ignore_errors=True)
    return int(failed > 0)


def small(trials: Trials, epochs: int, name: str = "", **changes: Any) -> Run:
    """Return a run on 32 rows of the standard library's documentation."""
    dataset = trials.data("Python functions", {"builtin": "python"})
    config = SMALL | {"num_train_epochs": epochs, "evaluations": epochs} | changes
    return trials.run(name or f"32 rows, {epochs} epochs", dataset=dataset, **config)


def overfit(trials: Trials) -> Iterator[Claim]:
    overfitting = small(trials, EPOCHS).verdict.overfitting
    since, best = overfitting.since_step, overfitting.best_step
    yield (
        "called overfitting",
        overfitting.state == "overfits",
        f"since step {since}, {overfitting.stage}",
    )
    closer = small(
        trials,
        EPOCHS,
        "32 rows, closer look",
        evaluations=20,
        max_eval_rows=300,
        probes=False,
        sample_prompts=0,
    )
    truth = closer.verdict.overfitting.best_step
    words = f"step {best} of 100 rows, step {truth} of 300 rows at twice as many validations"
    yield "best step within one evaluation", abs(best - truth) <= STEPS, words


def membership(trials: Trials) -> Iterator[Claim]:
    by_epochs = []
    for epochs in (1, 2, 4, EPOCHS):
        run = small(trials, epochs, load_best_model_at_end=False, name=f"32 rows, last of {epochs}")
        verdict = run.verdict
        scores = verdict.membership.scores["loss"]
        by_epochs.append((verdict.overfitting.gap[-1].gap.value, scores.auc, scores.placebo))
    drawn = [small(trials, 1, f"32 rows, draw {seed}", split_seed=seed) for seed in range(1, DRAWS)]
    areas = [by_epochs[0][2].value]
    areas += [run.verdict.membership.scores["loss"].placebo.value for run in drawn]
    mean, half = np.mean(areas), stats.sem(areas) * stats.t.ppf(0.975, DRAWS - 1)
    words = f"{mean:.2f} ({mean - half:.2f} to {mean + half:.2f}, {DRAWS} draws of 32 rows)"
    yield "one half under the base", abs(mean - 0.5) <= half, words
    ordered = sorted(by_epochs, key=lambda row: row[0])
    risen = [auc.value for _, auc, _ in ordered]
    words = "; ".join(f"gap {gap:.2f}: {with_interval(auc, 2)}" for gap, auc, _ in ordered)
    rises = risen == sorted(risen) and ordered[-1][1].low > ordered[0][1].high
    yield "rises with the gap", rises, words


def identity(trials: Trials) -> Iterator[Claim]:
    small(trials, 1)  # so that the home folder has the model
    for title, off, on in untrained.changes(trials.home):
        words = f"{off:+.6f} nats a token; left on {on:+.6f}"
        yield f"{title}, untrained and switched off, forgets nothing", abs(off) <= 1e-4, words


def asked(trials: Trials, name: str, **changes: Any) -> Run:
    """Return a run on TREC."""
    return trials.run(name, dataset=trials.trec(), **TREC, **changes)


def parent(trials: Trials) -> Run:
    return asked(trials, "TREC, LoRA 1e-3", method="lora", learning_rate=HIGH)


def forgotten(run: Run) -> Estimate:
    """Return the change of the loss on prose, in nats per token."""
    texts = run.verdict.forgetting.texts
    return next(text for text in texts if text.probe == "prose").change


def trec(trials: Trials) -> Iterator[Claim]:
    run = parent(trials)
    verdict, lost = run.verdict, forgotten(run)
    gain = verdict.gain
    yield "a sure gain", verdict.state == "learned" and gain.low > 0, with_interval(gain)
    yield "a sure loss on prose", lost.low > 0, with_interval(lost)
    headlines = verdict.headline, verdict.forgetting.headline
    both = verdict.state == "learned" and verdict.forgetting.state in ("some", "much")
    yield "the verdict says both", both, " / ".join(headlines)


def mitigation(trials: Trials) -> Iterator[Claim]:
    first = parent(trials)
    others = {
        "replay of a quarter": asked(
            trials, "TREC, LoRA 1e-3, replay", method="lora", learning_rate=HIGH, replay_share=0.25
        ),
        "a tenth of the learning rate": asked(trials, "TREC, LoRA 1e-4", method="lora", learning_rate=LOW),
    }
    for title, run in others.items():
        less = trials.forgets_more(run, first)
        yield (
            f"{title} forgets less",
            less.below,
            f"{with_interval(less)}, gain {with_interval(run.verdict.gain)}",
        )
        front = trials.front([first, run])
        words = ", ".join(f"{name}: {status}" for name, status in front.items())
        yield f"{title}: neither of the two is better in both", set(front.values()) == {"front"}, words


def rates(trials: Trials) -> Iterator[Claim]:
    high, low = parent(trials), asked(trials, "TREC, LoRA 1e-4", method="lora", learning_rate=LOW)
    full = asked(trials, "TREC, full 1e-4", method="full", learning_rate=LOW)
    less, more = trials.forgets_more(low, full), trials.forgets_more(high, full)
    yield "LoRA at 1e-4 forgets less than full at 1e-4", less.below, with_interval(less)
    yield "LoRA at 1e-3 forgets more than full at 1e-4", more.above, with_interval(more)


SECTIONS: dict[str, Callable[[Trials], Iterator[Claim]]] = {
    "overfit": overfit,
    "membership": membership,
    "identity": identity,
    "trec": trec,
    "mitigation": mitigation,
    "rates": rates,
    "seeds": seeds.claims,
}

if __name__ == "__main__":
    sys.exit(main())
