"""What a preview warns of or refuses, from facts alone: level, field, what is wrong, what to do.

An error refuses the launch; a warning is something that an expert may want. Thresholds stand here, named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.data.masks import Checks
from engine.tuning.methods import METHODS
from store.config import METHOD_TITLES, TrainConfig

TRUNCATED_SHARE = 0.02  # of the rows; the 99th percentile as limit cuts 1%
WRONG_SHARE = 0.1  # of the rows that were looked at; single odd rows are left out and counted
FEW_STEPS = 20
# Ranks of the LoRA papers and of Biderman et al. 2024, who match full fine-tuning at 256.
RANKS = (2, 256)
# Twice beyond the 16 to 32 rows a step that published recipes for tuning take.
ROWS_A_STEP = (8, 64)
# Times the epochs that suit this many rows (3 below 2,000, 2 below 20,000, else 1); the pilot's validation
# loss turned up between 4 and 8 epochs of a small set.
MANY_EPOCHS = 2.0
FEW_JUDGED = 30  # rows; fewer give an interval too wide to see a small gain

Problem = dict[str, str]


@dataclass(frozen=True)
class Facts:
    """What is known of a run before it starts; `config` is resolved. Memory in GiB."""

    config: TrainConfig
    kind: str
    device: str
    fast_bf16: bool
    own_template: bool
    rows: dict[str, int]
    leaks: dict[str, Any]  # engine.data.leakage.within
    counted: int
    truncated: int
    lost_tokens: int
    reasons: dict[str, int]  # rows without a trained token, of those counted
    unjudged: bool  # no validation row has a trained token
    checks: Checks | None  # of the trained tokens; None for plain text
    max_length: int
    positions: int | None
    steps: int
    memory_low: float
    memory_high: float
    available: float
    device_total: float


def find(facts: Facts) -> list[Problem]:
    """Every problem, errors first."""
    found = [*_rows(facts), *_mask(facts), *_method(facts), *_device(facts), *_judging(facts), *_leaks(facts)]
    return sorted(found, key=lambda problem: problem["level"])


def _problem(level: str, field: str, message: str, fix: str) -> Problem:
    return {"level": level, "field": field, "message": message, "fix": fix}


def _rows(f: Facts) -> list[Problem]:
    found = []
    untrained = sum(f.reasons.values())
    why = "; ".join(f"{count:,}: {reason}" for reason, count in f.reasons.items())
    if untrained and untrained == f.counted:
        found.append(_problem(
            "error", "dataset", f"No row has a token to train on ({why}).",
            "Look at how the columns of the data set were read, or raise max_length.",
        ))  # fmt: skip
    elif untrained:
        found.append(_problem(
            "warning", "dataset",
            f"{untrained:,} of {f.counted:,} rows have no token to train on and will be left out ({why}).",
            "Look at these rows, or raise max_length.",
        ))  # fmt: skip
    if f.unjudged:
        found.append(_problem(
            "error", "dataset", "No validation row has a token to train on, so no step could be judged.",
            "Raise max_length or validation_size, or look at how the columns of the data set were read.",
        ))  # fmt: skip
    if f.config.max_length and f.positions and f.config.max_length > f.positions:
        found.append(_problem(
            "error", "max_length",
            f"max_length is {f.config.max_length:,}, and the model has {f.positions:,} positions.",
            f"Set it to {f.positions} or less, or leave it out.",
        ))  # fmt: skip
    if f.truncated > TRUNCATED_SHARE * f.counted:
        found.append(_problem(
            "warning", "max_length",
            f"{f.truncated:,} of {f.counted:,} rows are longer than {f.max_length:,} tokens; cutting them"
            f" loses {f.lost_tokens:,} trained tokens.",
            "Raise max_length, or split long rows.",
        ))  # fmt: skip
    if not f.own_template and f.kind != "text":
        found.append(_problem(
            "warning", "model",
            "The model has no chat template: conversations are written under plain headings (### User:,"
            " ### Assistant:), and the tuned model must be asked in the same way.",
            "Choose the instruction-tuned variant of the model, or go on.",
        ))  # fmt: skip
    return found


def _mask(f: Facts) -> list[Problem]:
    """The gate: the loss must fall on what the config says. `gate_override` opens it, with a reason."""
    if f.checks is None:
        return []
    c, n, wrong = f.checks, f.checks.counted, []
    if c.unlocated > WRONG_SHARE * n:
        wrong.append((
            f"In {c.unlocated:,} of {n:,} rows the chat template does not tell the answer from the prompt.",
            "Choose a model whose template renders every turn the same way in any conversation.",
        ))  # fmt: skip
    if f.config.completion_only_loss and c.leaking:
        wrong.append((
            f"In {c.leaking:,} of {n:,} rows the loss would fall on what the user said, though it is to be"
            " taken on answers alone.",
            "Choose another model, or switch completion_only_loss off if that is what you want.",
        ))  # fmt: skip
    if c.missed > WRONG_SHARE * n:
        wrong.append((
            f"In {c.missed:,} of {n:,} rows a part of the answer would not be trained.",
            "Choose a model whose template leaves answers as they are.",
        ))  # fmt: skip
    if c.unclosed > n / 2:
        wrong.append((
            f"In {c.unclosed:,} of {n:,} rows no token closes the answer: the model would not learn to stop.",
            "Use a model whose template closes each turn, such as with <|im_end|>.",
        ))  # fmt: skip
    level = "warning" if f.config.gate_override.strip() else "error"
    told = " Or go on, and say why in gate_override." if level == "error" else " It is launched all the same."
    return [_problem(level, "gate_override", message, fix + told) for message, fix in wrong]


def _method(f: Facts) -> list[Problem]:
    config, found = f.config, []
    low, high = METHODS[config.method].rates
    rate = config.learning_rate or 0.0
    if not low <= rate <= high:
        effect = "learns next to nothing" if rate < low else "often diverges or forgets"
        found.append(_problem(
            "warning", "learning_rate",
            f"A learning rate of {rate:g} is outside the {low:g} to {high:g} in which"
            f" {METHOD_TITLES[config.method]} is known to work; it {effect}.",
            "Leave it out for the default of the method.",
        ))  # fmt: skip
    found += [*_rank(config), *_epochs(f)]
    effective = config.per_device_train_batch_size * config.gradient_accumulation_steps
    fewest, most = ROWS_A_STEP
    if not fewest <= effective <= most and effective <= f.rows["train"]:
        effect = (
            "its gradient is noisy"
            if effective < fewest
            else "it takes few steps, and each learns little more"
        )
        found.append(_problem(
            "warning", "gradient_accumulation_steps",
            f"A step takes {effective:,} row{'s' * (effective != 1)}, outside the {fewest} to {most} in which"
            f" tuning is known to work; {effect}.",
            "Set gradient_accumulation_steps so that a step takes 16 to 32 rows.",
        ))  # fmt: skip
    if effective > f.rows["train"]:
        found.append(_problem(
            "warning", "per_device_train_batch_size",
            f"A step takes {effective:,} rows ({config.per_device_train_batch_size} ×"
            f" {config.gradient_accumulation_steps}), and there are {f.rows['train']:,} to train on.",
            "Lower per_device_train_batch_size or gradient_accumulation_steps.",
        ))  # fmt: skip
    if f.steps < FEW_STEPS:
        found.append(_problem(
            "warning", "num_train_epochs",
            f"The run has {f.steps} optimiser step{'s' * (f.steps != 1)}; that is too few to learn much.",
            "Take more epochs or rows, or a smaller batch.",
        ))  # fmt: skip
    return found


def _rank(config: TrainConfig) -> list[Problem]:
    low, high = RANKS
    r = config.r or low
    if config.method not in ("lora", "qlora") or low <= r <= high:
        return []
    effect = "adds memory and time, no quality" if r > high else "leaves little room to learn"
    return [_problem(
        "warning", "r",
        f"A rank of {r} is outside the {low} to {high} in which {METHOD_TITLES[config.method]} is known to"
        f" work; it {effect}.",
        "Take 16, or 64 to 256 for a large data set.",
    )]  # fmt: skip


def _epochs(f: Facts) -> list[Problem]:
    """Many passes over few rows are what overfitting is made of."""
    usual = f.config.model_copy(update={"num_train_epochs": None}).resolved(f.rows["train"]).num_train_epochs
    epochs, limit = f.config.num_train_epochs or 0.0, MANY_EPOCHS * (usual or 1.0)
    if epochs <= limit or f.config.max_steps:
        return []
    return [_problem(
        "warning", "num_train_epochs",
        f"{epochs:g} epochs over {f.rows['train']:,} rows are more than the {limit:g} up to which such a set"
        " is known to gain; the model begins to learn rows by heart.",
        f"Take {usual:g}, or leave early_stopping on.",
    )]  # fmt: skip


def _device(f: Facts) -> list[Problem]:
    config, found = f.config, []
    cpu = f.device == "cpu"
    if cpu and METHODS[config.method].quantised:
        found.append(_problem(
            "warning", "method", "4-bit training on a CPU is about 2.5 times slower than LoRA.",
            "Use LoRA unless memory is short.",
        ))  # fmt: skip
    if cpu and config.optim == "paged_adamw_8bit":
        found.append(_problem(
            "warning", "optim", "8-bit AdamW is about 17 times slower than the fused one on a CPU.",
            "Use adamw_torch_fused.",
        ))  # fmt: skip
    if config.dtype == "bfloat16" and not f.fast_bf16:
        found.append(_problem(
            "warning", "dtype", "This device has no fast bfloat16 arithmetic.", "Set dtype to auto."
        ))  # fmt: skip
    if f.memory_high > f.available:
        never = f.memory_low > f.device_total
        found.append(_problem(
            "error" if never else "warning", "per_device_train_batch_size",
            f"The run needs {f.memory_low:.1f} to {f.memory_high:.1f} GiB; the device has"
            f" {f.device_total:.1f} GiB, of which {f.available:.1f} are free.",
            "Lower per_device_train_batch_size or max_length, switch gradient_checkpointing on, or use a"
            " method with less memory.",
        ))  # fmt: skip
    return found


def _leaks(f: Facts) -> list[Problem]:
    """Held-out rows that training repeats: they make the judgement too kind."""
    held = f.rows["validation"] + f.rows["test"]
    exact, near, prompts = f.leaks["exact"], f.leaks["near"], f.leaks["same_prompt"]
    found = []
    if exact:
        found.append(_problem(
            "warning", "dataset",
            f"{exact:,} of {held:,} held-out rows stand in the training rows too, word for word.",
            "Clean the data set of its duplicates.",
        ))  # fmt: skip
    if near:
        found.append(_problem(
            "warning", "dataset",
            f"{near:,} of {held:,} held-out rows have a near duplicate in training. More than half of the"
            " rows hang together, as rows made from one template do, and could not be kept on one side.",
            "Look at the near duplicates; clean the data set of them, or read the verdict with that in mind.",
        ))  # fmt: skip
    if prompts:
        found.append(_problem(
            "warning", "dataset",
            f"{prompts:,} of {held:,} held-out rows have a prompt that is trained on with another answer.",
            "Split by group if a column tells such rows apart; measure the duplicates of the data set, and"
            " rows with one prompt are kept on one side unless too many share it.",
        ))  # fmt: skip
    return found


def _judging(f: Facts) -> list[Problem]:
    judged, field = ("test", "test_size") if f.rows["test"] else ("validation", "validation_size")
    found = []
    if judged == "validation":
        found.append(_problem(
            "warning", "test_size",
            "There are no test rows: the verdict rests on the validation rows, which also choose the best"
            " step.",
            "Set test_size above 0.",
        ))  # fmt: skip
    if f.rows[judged] < FEW_JUDGED:
        found.append(_problem(
            "warning", field,
            f"{f.rows[judged]} {judged} rows are few: only a large gain will show.",
            f"Raise {field}, or import more rows.",
        ))  # fmt: skip
    return found
