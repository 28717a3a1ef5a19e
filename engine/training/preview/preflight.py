"""Preflight checks of a run, from facts alone: level, field, problem, and suggested fix.

An error refuses the launch. A warning is about something that an expert may want, such as a setting outside
the range known to work. Thresholds are named constants of this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from engine.data.canaries import REPEATS, count_canaries
from engine.data.split import leakage_warnings
from engine.data.split.leakage_warnings import make_problem
from engine.models.memory_advice import advise_change
from engine.models.tokenization.tokenized_rows import MaskCheckCounts
from engine.models.weight_files import FULLY_CHECKED, GIB, WeightCheck
from store.core.formatting import percent
from store.core.row_schemas import LeakedRows, PartRows, SplitMethod
from store.core.training_schemas import Problem
from store.data.cleaning_text import format_some_values
from store.data.schemas import UndecidedColumn
from store.training.methods import METHOD_FIELDS, METHODS
from store.training.setting_conflicts import list_conflicts
from store.training.train_config import TrainConfig

# A factor of two beyond the 16 to 32 rows per step of published tuning recipes.
ROWS_PER_STEP = (8, 64)
# Multiple of the default epochs for this many rows (3 below 2,000, 2 below 20,000, else 1). The pilot's
# validation loss turned up between 4 and 8 epochs of a small set.
MANY_EPOCHS = 2.0


def find_unusual_settings(config: TrainConfig, train_rows: int) -> list[Problem]:
    """Return a warning for every unusual setting; `config` is resolved."""
    return [
        *_check_learning_rate(config),
        *_check_rank(config),
        *_check_rows_per_step(config, train_rows),
        *_check_epochs(config, train_rows),
    ]


def _check_learning_rate(config: TrainConfig) -> list[Problem]:
    low, high = METHODS[config.method].rates
    if config.task == "dpo":  # steep loss: a tenth of the rates of instruction tuning
        low, high = low / 10, high / 10
    rate = config.learning_rate or 0.0
    if low <= rate <= high:
        return []
    effect = "learns next to nothing" if rate < low else "often diverges or forgets"
    return [make_problem(
        "warning", "learning_rate",
        f"A learning rate of {rate:g} is outside the {low:g} to {high:g} in which"
        f" {METHODS[config.method].title} is known to work; it {effect}.",
        "Leave it out for the default of the method.",
    )]  # fmt: skip


def _check_rank(config: TrainConfig) -> list[Problem]:
    method = METHODS[config.method]
    if method.ranks is None:
        return []
    low, high = method.ranks
    r = config.r or low
    if low <= r <= high:
        return []
    effect = "adds memory and time, no quality" if r > high else "leaves little room to learn"
    return [make_problem(
        "warning", "r",
        f"A rank of {r} is outside the {low} to {high} in which {method.title} is known to"
        f" work; it {effect}.",
        "Take 16, or 64 to 256 for a large data set.",
    )]  # fmt: skip


def _check_rows_per_step(config: TrainConfig, train_rows: int) -> list[Problem]:
    effective = config.per_device_train_batch_size * config.gradient_accumulation_steps
    fewest, most = ROWS_PER_STEP
    if fewest <= effective <= most or effective > train_rows:
        return []
    effect = (
        "its gradient is noisy" if effective < fewest else "it takes few steps, and each learns little more"
    )
    return [make_problem(
        "warning", "gradient_accumulation_steps",
        f"A step takes {effective:,} row{'s' * (effective != 1)}, outside the usual range of {fewest} to"
        f" {most}; {effect}.",
        "Set gradient_accumulation_steps for 16 to 32 rows per step.",
    )]  # fmt: skip


def _check_epochs(config: TrainConfig, train_rows: int) -> list[Problem]:
    """Warn of many passes over few rows, which cause overfitting."""
    usual = config.model_copy(update={"num_train_epochs": None}).resolved(train_rows).num_train_epochs
    epochs, limit = config.num_train_epochs or 0.0, MANY_EPOCHS * (usual or 1.0)
    if epochs <= limit or config.max_steps:
        return []
    return [make_problem(
        "warning", "num_train_epochs",
        f"{epochs:g} epochs over {train_rows:,} rows are more than the {limit:g} up to which such a set"
        " is known to gain; the model begins to learn rows by heart.",
        f"Take {usual:g}, or leave early_stopping on.",
    )]  # fmt: skip


TRUNCATED_SHARE = 0.02  # share of the rows; the 99th percentile as limit truncates 1%
WRONG_SHARE = 0.1  # share of the checked rows; single odd rows are left out and counted
FEW_STEPS = 20
MAX_NAMED = 5  # columns
FEW_EVALUATION_ROWS = 30  # rows; fewer give an interval too wide to see a small gain

QUANTISED_SLOWDOWN = {"nf4": 1.5, "int8": 1.4}  # measured on a CPU relative to the same model in bf16


@dataclass(frozen=True)
class RunFacts:
    """Facts known about a run before it starts; `config` is resolved. Memory in GiB."""

    config: TrainConfig
    kind: str
    model_type: str
    device: str
    fast_bf16: bool
    own_template: bool
    rows: PartRows
    leaks: LeakedRows
    counted: int
    truncated: int
    lost_tokens: int
    reasons: dict[str, int]  # counted rows without a trained token, by reason
    unjudged: bool  # no validation row has a trained token
    checks: MaskCheckCounts | None  # of the trained tokens; None for plain text
    max_length: int
    positions: int | None
    steps: int
    memory_low: float
    memory_high: float
    available: float
    device_total: float
    seen_before: int = 0  # held-out rows that the run to continue from was trained on
    packed: bool = False  # micro-batches are split by tokens, whatever their size in rows
    keeping_all: tuple[int, float] | None = None  # from `training_rows.compute_lossless_length`
    tools_written: bool = False  # rows have function calls that the chat template doesn't support
    look: WeightCheck = FULLY_CHECKED  # check of the weight files
    split_by: SplitMethod = "random"  # split method


def check_run(facts: RunFacts) -> list[Problem]:
    """Return all problems, errors first."""
    parts = (
        check_weights, _check_rows, _check_lengths, _check_template, _check_mask, _check_preference,
            _check_method, _check_device, _check_evaluation, _check_leaks,
        _check_canaries,
    )  # fmt: skip
    problems = [each for part in parts for each in part(facts)]
    problems += find_unusual_settings(facts.config, facts.rows["train"])
    return sorted(problems, key=lambda each: each.level)


def check_weights(f: RunFacts) -> list[Problem]:
    """Warn of parts of the weight files that were not checked."""
    problems = []
    if f.look.names:
        problems.append(make_problem(
            "warning", "model",
            f"The weights could not be compared with the architecture: {f.look.names}.",
            "Look at the first losses of the run.",
        ))  # fmt: skip
    if f.look.done < f.look.of:
        problems.append(make_problem(
            "warning", "model",
            f"Values of the weights were checked in {f.look.done / GIB:.1f} of {f.look.of / GIB:.1f} GiB.",
            "Each preview continues this, and the launch checks more.",
        ))  # fmt: skip
    return problems


def _check_rows(f: RunFacts) -> list[Problem]:
    """Report rows without trained tokens."""
    problems = []
    untrained = sum(f.reasons.values())
    noun = "pairs" if f.config.task == "dpo" else "rows have no token to train on and"
    why = "; ".join(f"{count:,}: {reason}" for reason, count in f.reasons.items())
    if untrained and untrained == f.counted:
        problems.append(make_problem(
            "error", "dataset", f"No row has a token to train on ({why}).",
            "Look at how the columns of the data set were read, or raise max_length.",
        ))  # fmt: skip
    elif untrained:
        problems.append(make_problem(
            "warning", "dataset",
            f"{untrained:,} of {f.counted:,} {noun} will be left out ({why}).",
            f"Check these rows{f', or {keep}' if (keep := _describe_untruncated_cost(f)) else ''}.",
        ))  # fmt: skip
    if f.unjudged:
        problems.append(make_problem(
            "error", "dataset", "No validation row has a token to train on, so no step could be judged.",
            "Raise max_length or validation_size, or look at how the columns of the data set were read.",
        ))  # fmt: skip
    return problems


def _check_lengths(f: RunFacts) -> list[Problem]:
    problems = []
    if f.config.max_length and f.positions and f.config.max_length > f.positions:
        problems.append(make_problem(
            "error", "max_length",
            f"max_length is {f.config.max_length:,}, and the model has {f.positions:,} positions.",
            f"Set it to {f.positions} or less, or leave it out.",
        ))  # fmt: skip
    lost = "tokens" if f.config.task == "classification" else "trained tokens"
    if f.truncated > TRUNCATED_SHARE * f.counted:
        problems.append(make_problem(
            "warning", "max_length",
            f"{f.truncated:,} of {f.counted:,} rows are longer than {f.max_length:,} tokens; cutting them"
            f" loses {f.lost_tokens:,} {lost}.",
            f"{_describe_untruncated_cost(f).capitalize() or 'Raise max_length'}; or split long rows.",
        ))  # fmt: skip
    return problems


def _check_template(f: RunFacts) -> list[Problem]:
    """Warn of a model without a chat template, or with one that doesn't support the rows' function calls."""
    problems = []
    if f.tools_written:
        problems.append(make_problem(
            "warning", "model",
            "The rows call functions, and the model's chat template knows no tools: schemas are written"
            ' into the system turn, calls as {"tool_calls": […]}, results as turns of the user.',
            "Ask the tuned model in the same way, or choose a model whose template knows tools.",
        ))  # fmt: skip
    if not f.own_template and f.kind != "text":
        problems.append(make_problem(
            "warning", "model",
            "The model has no chat template: conversations are written under plain headings (### User:,"
            " ### Assistant:), and the tuned model must be asked in the same way.",
            "Choose the instruction-tuned variant of the model, or go on.",
        ))  # fmt: skip
    return problems


def _describe_untruncated_cost(f: RunFacts) -> str:
    """Describe the cost of truncating no row."""
    if f.keeping_all is None:
        return ""
    length, share = f.keeping_all
    return (
        f"set max_length to {length:,}, which cuts none and adds {percent(share)} to the tokens of an epoch"
    )


def check_columns(config: TrainConfig, undecided: Sequence[UndecidedColumn]) -> list[Problem]:
    """Report columns ignored by an older import that may contain ratings, responses or labels."""
    if not undecided:
        return []
    named = ", ".join(f"{column.name!r} ({format_some_values(column)})" for column in undecided[:MAX_NAMED])
    overridden = bool(config.gate_override.strip())
    way_on = (
        "It is launched all the same." if overridden else "Or continue, and give a reason in gate_override."
    )
    return [make_problem(
        "warning" if overridden else "error", "gate_override",
        f"The import of these rows ignored {named}, which may be marks, answers or labels.",
        f"Import the file again, and map these columns or exclude them. {way_on}",
    )]  # fmt: skip


def _check_mask(f: RunFacts) -> list[Problem]:
    """Check that the loss mask is the one the config asks for.

    `gate_override`, with a reason, turns the error into a warning.
    """
    if f.checks is None:
        return []
    c, n, wrong = f.checks, f.checks.counted, []
    if c.unlocated > WRONG_SHARE * n:
        wrong.append((
            f"In {c.unlocated:,} of {n:,} rows the chat template does not separate the answer from the"
            " prompt.",
            "Choose a model whose template renders every turn the same way in any conversation.",
        ))  # fmt: skip
    if f.config.completion_only_loss and c.leaking:
        wrong.append((
            f"In {c.leaking:,} of {n:,} rows the loss would include user messages, although only answers"
            " should be trained on.",
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
    level: Literal["error", "warning"] = "warning" if f.config.gate_override.strip() else "error"
    way_on = " It is launched all the same."
    if level == "error":
        way_on = " Or continue, and give a reason in gate_override."
    return [make_problem(level, "gate_override", message, fix + way_on) for message, fix in wrong]


def _check_preference(f: RunFacts) -> list[Problem]:
    """Report settings of preference tuning that have no effect."""
    config, problems = f.config, []
    if config.task != "dpo":
        return []
    if config.label_smoothing and config.loss_type != "robust":
        problems.append(make_problem(
            "error", "label_smoothing",
            f"label_smoothing is {config.label_smoothing:g}, which the loss {config.loss_type} does not use.",
            "Set it to 0, or loss_type to robust.",
        ))  # fmt: skip
    if config.loss_type == "robust" and not config.label_smoothing:
        problems.append(make_problem(
            "warning", "label_smoothing", "The robust loss with a label_smoothing of 0 is the loss sigmoid.",
            "Set it to the share of pairs that are the wrong way round; its authors recommend 0.1.",
        ))  # fmt: skip
    if not config.completion_only_loss:
        problems.append(make_problem(
            "warning", "completion_only_loss", "Preference tuning compares answers alone.",
            "Switch it on; it changes nothing here.",
        ))  # fmt: skip
    return problems


def _check_method(f: RunFacts) -> list[Problem]:
    config, problems = f.config, []
    problems += [
        make_problem("error", field, reason, "") for field, reason in list_conflicts(config, f.model_type)
    ]
    unread = [name for name in METHOD_FIELDS if name not in METHODS[config.method].fields]
    given = [name for name in unread if getattr(config, name) != TrainConfig.model_fields[name].default]
    if given:
        problems.append(make_problem(
            "warning", "method",
            f"{METHODS[config.method].title} does not use {', '.join(given)}.",
            "Empty the fields, or choose a method that does.",
        ))  # fmt: skip
    effective = config.per_device_train_batch_size * config.gradient_accumulation_steps
    if effective > f.rows["train"]:
        problems.append(make_problem(
            "warning", "per_device_train_batch_size",
            f"A step takes {effective:,} rows ({config.per_device_train_batch_size} ×"
            f" {config.gradient_accumulation_steps}), and there are {f.rows['train']:,} to train on.",
            "Lower per_device_train_batch_size or gradient_accumulation_steps.",
        ))  # fmt: skip
    if f.steps < FEW_STEPS:
        problems.append(make_problem(
            "warning", "num_train_epochs",
            f"The run has {f.steps} optimizer step{'s' * (f.steps != 1)}; that is too few to learn much.",
            "Take more epochs or rows, or a smaller batch.",
        ))  # fmt: skip
    return problems


def _check_device(f: RunFacts) -> list[Problem]:
    config, problems = f.config, []
    cpu, bits = f.device == "cpu", 4 if config.held == "nf4" else 8
    if cpu and config.held:
        problems.append(make_problem(
            "warning", "method" if METHODS[config.method].holds else f"load_in_{bits}bit",
            f"Weights of {bits} bits train about {QUANTISED_SLOWDOWN[config.held]} times slower on a CPU.",
            "Leave the model as it is unless memory is short.",
        ))  # fmt: skip
    if cpu and config.optim == "paged_adamw_8bit":
        problems.append(make_problem(
            "warning", "optim", "8-bit AdamW is about 17 times slower than the fused one on a CPU.",
            "Use adamw_torch_fused.",
        ))  # fmt: skip
    if config.dtype == "bfloat16" and not f.fast_bf16:
        problems.append(make_problem(
            "warning", "dtype", "This device has no fast bfloat16 arithmetic.", "Set dtype to auto."
        ))  # fmt: skip
    if f.memory_high > f.available:
        never = f.memory_low > f.device_total
        fix, field, _ = advise_change(config, f.device, dealt=f.packed)
        problems.append(make_problem(
            "error" if never else "warning", field,
            f"The run needs {f.memory_low:.1f} to {f.memory_high:.1f} GiB; the device has"
            f" {f.device_total:.1f} GiB, of which {f.available:.1f} are free.",
            fix,
        ))  # fmt: skip
    return problems


def _check_leaks(f: RunFacts) -> list[Problem]:
    """Warn of held-out rows that are repeated in training, or that an earlier run was trained on."""
    held = f.rows["validation"] + f.rows["test"]
    leaks = leakage_warnings.find_warnings(f.leaks, held, f.split_by)
    if not f.seen_before:
        return leaks
    return [*leaks, make_problem(
        "warning", "init_from",
        f"{f.seen_before:,} of {held:,} held-out rows were trained on by the run to continue from.",
        "Take its split_seed, validation_size and test_size, or another data set.",
    )]  # fmt: skip


def _check_canaries(f: RunFacts) -> list[Problem]:
    if not f.config.canaries:
        return []
    count = count_canaries(f.config)
    return [make_problem(
        "warning", "canaries",
        f"It trains the model on {len(REPEATS) * f.config.canaries:,} made-up secrets, {count:,} rows in"
        f" total in addition to the {f.rows['train'] - count:,} of the data set: such a model is for"
        " analysis, not for use.",
        "Set canaries to 0 for a model that is to be used.",
    )]  # fmt: skip


def _check_evaluation(f: RunFacts) -> list[Problem]:
    judged, field, rows = "test", "test_size", f.rows["test"]
    if not rows:
        judged, field, rows = "validation", "validation_size", f.rows["validation"]
    problems = []
    if judged == "validation":
        problems.append(make_problem(
            "warning", "test_size",
            "No test rows: the verdict is based on the validation rows, which also select the best step.",
            "Set test_size above 0.",
        ))  # fmt: skip
    if rows < FEW_EVALUATION_ROWS:
        problems.append(make_problem(
            "warning", field,
            f"{rows} {judged} rows are few: only a large gain will show.",
            f"Raise {field}, or import more rows.",
        ))  # fmt: skip
    return problems
