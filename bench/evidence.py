"""How well the suite separates a model from guessing, and the speed of measuring it.

    python bench/evidence.py [SECTION ...] [--model FOLDER] [--dtype bfloat16|float32] [--rounds 3] [--json]

`suite`: accuracy of the model on the suite's items, overall and by category, by both rules, and its loss
on the suite's prose. `samples`: time to generate its own samples. `sample`: time of the sample
experiment's evidence, with an engine of its own: probes during training, and everything afterwards.
`throughput`: the same items with lm-evaluation-harness' own Hugging Face backend (`pip install
'tunebench[bench]'`), with the same model object and tokenizer; the contenders alternate in one process,
each tokenises again, and the ratio is to the fastest of its batch sizes. Accuracies are computed from each
side's log-probabilities by the same two lines. In fp32 they must be equal to the last digit. In bf16 the
sums of equal texts differ by rounding with the batching of rows, in the backend too, so there the items
with different choices are counted instead.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # set before torch is loaded, as in workers

import numpy as np
import torch

from bench.report import Figure, Section, Skipped, as_json
from bench.verdicts.trials import Trials
from engine.evaluation.probes import base_samples, multiple_choice
from engine.evaluation.probes.multiple_choice import ChoiceScores
from engine.evaluation.probes.suite_texts import Suite, load_suite
from engine.evaluation.statistics.intervals import ratio_interval, wilson_interval
from engine.models.bundled import ensure_bundled_model
from engine.models.loading import load_model, load_tokenizer
from engine.models.losses import compute_row_losses
from engine.models.tokenization.rendering import render
from store.core.home import Home
from store.training.train_config import BUNDLED_MODEL, SAMPLE_DATASET, TrainConfig, build_sample_experiment

TIMES = 2.0  # minimum ratio of items per second to the harness
SAMPLES_SECONDS = 30.0
EVIDENCE_SECONDS = 180.0  # for the sample experiment
BATCH_SIZES = (16, 64)  # for the harness

Answers = list[np.ndarray]  # log-probabilities of each item's options


class Bench:
    """The model, its tokenizer and the suite, created on first use."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.home = Home(folder / "home").create()
        self.options = options
        self.suite: Suite = load_suite()

    @cached_property
    def source(self) -> str:
        return str(self.options.model or ensure_bundled_model(BUNDLED_MODEL, self.home))

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.source)

    @cached_property
    def model(self) -> Any:
        config = TrainConfig.parse({"dataset": "none", "dtype": self.options.dtype})
        return load_model(config, self.source, "cpu", getattr(torch, self.options.dtype)).eval()

    def ours(self) -> ChoiceScores:
        """Score the items as a probe does."""
        return multiple_choice.score_items(
            self.model, multiple_choice.tokenise_items(self.tokenizer, self.suite.items), "cpu"
        )


def suite(bench: Bench) -> list[Figure]:
    """Measure accuracies with their intervals, and the loss on prose."""
    asked = bench.ours()
    categories = np.array([item.category for item in asked.items])
    groups = {"all": np.ones(len(categories), bool)}
    groups |= {name: categories == name for name in bench.suite.categories}
    figures = []
    for name, chosen in groups.items():
        right, count = int(asked.correct[chosen].sum()), int(chosen.sum())
        interval = wilson_interval(right, count)
        text = f"{name}: accuracy ({interval.low:.3f} to {interval.high:.3f}, n {count})"
        figures.append(Figure(text, interval.value, digits=3))
        by_byte = float(asked.correct_per_byte[chosen].mean())
        figures.append(Figure(f"{name}: accuracy by byte", by_byte, digits=3))
    passages = bench.suite.passages
    rows = render(bench.tokenizer, range(len(passages)), [passage.text for passage in passages])
    losses = compute_row_losses(bench.model, rows, batch_size=8, device="cpu")
    span = ratio_interval(losses.loss_sum, losses.tokens)
    text = f"prose: loss ({span.low:.3f} to {span.high:.3f}, {len(rows)} passages)"
    figures.append(Figure(text, losses.loss, "nats", digits=3))
    figures.append(Figure("prose: tokens", float(len(rows.ids))))
    return figures


def samples(bench: Bench) -> list[Figure]:
    """Generate the model's own samples and measure them."""
    began = time.perf_counter()
    rows = base_samples.generate_samples(bench.model, bench.tokenizer, base_samples.SamplePlan(bench.suite))
    seconds = time.perf_counter() - began
    losses = compute_row_losses(bench.model, rows, batch_size=16, device="cpu")
    return [
        Figure(f"{len(rows)} samples, {losses.tokens.sum():,} tokens", seconds, "s", SAMPLES_SECONDS, "≤", 1),
        Figure("their loss: an estimate of the model's entropy", losses.loss, "nats", digits=3),
    ]


def sample(bench: Bench) -> list[Figure]:
    """Measure the seconds of a sample experiment run other than training, with a new and with a known base
    model.
    """
    trials = Trials(bench.home.path)
    try:
        trials.data(SAMPLE_DATASET, {"builtin": "python"})
        config = build_sample_experiment().model_dump(exclude={"name"}, exclude_unset=True)
        figures = []
        for name in ("first on its base", "second on its base"):
            run = trials.run(name, **config)
            took, trained = run.facts["run_seconds"], run.facts["train_seconds"]
            asked = trials.judged_seconds(run) + run.facts.get("probe_seconds", 0.0)
            title = f"{name}: evidence of a run of {took:.0f} s, {trained:.0f} of them training"
            figures.append(Figure(title, asked, "s", EVIDENCE_SECONDS, "≤"))
        return figures
    finally:
        trials.close()


def throughput(bench: Bench) -> list[Figure]:
    """Measure the items per second of both, alternately, and whether their results agree."""
    contenders: dict[str, Callable[[], Answers]] = {"Tunebench": lambda: list(bench.ours().scores)}
    contenders |= {f"lm-eval, batch size {size}": _harness(bench, size) for size in BATCH_SIZES}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    answers: dict[str, Answers] = {}
    for _ in range(bench.options.rounds + 1):  # the first is a warm-up
        for name, ask in contenders.items():
            began = time.perf_counter()
            answers[name] = ask()
            seconds[name].append(time.perf_counter() - began)
    count = len(bench.suite.items)
    typical = {name: statistics.median(durations[1:]) for name, durations in seconds.items()}
    figures = [Figure(f"{name}: items a second", count / typical[name], digits=1) for name in contenders]
    mine, *theirs = contenders
    fastest = min(theirs, key=lambda name: typical[name])
    ratios = [b / a for a, b in zip(seconds[mine][1:], seconds[fastest][1:], strict=True)]
    figures.append(Figure(f"times as fast as {fastest}", statistics.median(ratios), "times", TIMES, digits=2))
    for name in contenders:
        figures += [
            Figure(f"{name}: accuracy", _accuracy(bench, answers[name], False), digits=6),
            Figure(f"{name}: accuracy by byte", _accuracy(bench, answers[name], True), digits=6),
        ]
    return figures + _differences(bench, answers, mine, fastest)


def _differences(bench: Bench, answers: dict[str, Answers], mine: str, other: str) -> list[Figure]:
    pairs = list(zip(answers[mine], answers[other], strict=True))
    otherwise = float(sum(a.argmax() != b.argmax() for a, b in pairs))
    apart = max(float(np.abs(a - b).max()) for a, b in pairs)
    limit = 0.0 if bench.options.dtype == "float32" else None
    among = float(sum(a.argmax() != b.argmax() for a, b in _between_batch_sizes(answers)))
    return [
        Figure(f"items chosen otherwise than {other}", otherwise, "", limit, "≤"),
        Figure("items that lm-eval itself chooses otherwise by batch size", among),
        Figure("largest difference of a log-probability", apart, "nats", digits=5),
    ]


def _between_batch_sizes(answers: dict[str, Answers]) -> list[tuple[np.ndarray, np.ndarray]]:
    first, other = (answers[f"lm-eval, batch size {size}"] for size in BATCH_SIZES)
    return list(zip(first, other, strict=True))


def _accuracy(bench: Bench, answers: Answers, by_byte: bool) -> float:
    """Return the share of items whose correct option has the highest sum, or the highest per byte."""
    right = 0
    for item, each in zip(bench.suite.items, answers, strict=True):
        sizes = [len(option.encode()) if by_byte else 1 for option in item.options]
        right += int(np.argmax(each / np.array(sizes)) == item.right)
    return right / len(bench.suite.items)


def _harness(bench: Bench, batch_size: int) -> Callable[[], Answers]:
    """Return a function that scores the items with lm-evaluation-harness' HFLM, as its multiple_choice tasks
    do.
    """
    try:
        from lm_eval.api.instance import Instance
        from lm_eval.models.huggingface import HFLM
    except ImportError as error:
        raise Skipped(f"lm-evaluation-harness is not installed ({error})") from error
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    model = HFLM(
        pretrained=bench.model,
        tokenizer=bench.tokenizer,
        batch_size=batch_size,
        device="cpu",
        backend="causal",
    )

    def ask() -> Answers:
        requests = [
            Instance(request_type="loglikelihood", doc={}, arguments=(item.prompt, option), idx=place)
            for item in bench.suite.items
            for place, option in enumerate(item.continuations)
        ]
        loglikelihoods = iter(model.loglikelihood(requests, disable_tqdm=True))
        return [np.array([next(loglikelihoods)[0] for _ in item.options]) for item in bench.suite.items]

    return ask


SECTIONS: dict[str, tuple[str, Callable[[Bench], list[Figure]]]] = {
    "suite": ("The suite", suite),
    "samples": ("The model's own samples", samples),
    "sample": ("All evidence of the sample experiment", sample),
    "throughput": ("Items a second against lm-evaluation-harness", throughput),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)}; all of them")
    parser.add_argument("--model", type=Path, help="a model's folder; the bundled model")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    unknown = [name for name in options.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"there is no section {unknown[0]}; there is {', '.join(SECTIONS)}")
    sections = []
    with tempfile.TemporaryDirectory(prefix="tunebench-bench-") as folder:
        bench = Bench(Path(folder), options)
        for name in options.sections or SECTIONS:
            title, measure = SECTIONS[name]
            try:
                section = Section(title, measure(bench))
            except Skipped as why:
                section = Section(title, [], str(why))
            sections.append(section)
            if not options.json:
                section.show()
    if options.json:
        print(as_json(sections))
    return 1 if any(figure.missed for section in sections for figure in section.figures) else 0


if __name__ == "__main__":
    sys.exit(main())
