"""What training did, in numbers and in words: steps, rows and epochs that were, beside those asked for."""

from __future__ import annotations

import math

from store.config.training.train_config import TrainConfig
from store.documents.models.saved_model import CourseEnd, TrainedCourse
from store.documents.verdicts.verdict import Stopped

ENDS: dict[CourseEnd, str] = {
    "epochs": "It went through all of the epochs that were asked for.",
    "max_steps": "It ended at its limit of steps.",
    "early_stopping": "It was stopped early, as the validation loss had stopped falling.",
    "forgetting": "It was stopped early, as it was losing what the model knew before.",
    "mixed": "It was not trained, but mixed.",
    "unfinished": "The run was ended before training was through: this is a checkpoint of it.",
}


def of_run(config: TrainConfig, train_rows: int, stopped: Stopped, attempts: int) -> TrainedCourse:
    """The course up to the step whose weights were kept. train_rows: after cutting and leaving out."""
    kept = stopped["restored_step"]
    return at_step(config, train_rows, stopped["step"] if kept is None else kept, stopped, attempts)


def of_checkpoint(
    config: TrainConfig, train_rows: int, step: int, last_step: int, attempts: int
) -> TrainedCourse:
    """The course up to a checkpoint of a run that did not end by itself."""
    course = at_step(
        config,
        train_rows,
        step,
        {"reason": "epochs", "step": last_step, "restored_step": step},
        attempts,
    )
    return {**course, "reason": "unfinished"}


def at_step(
    config: TrainConfig, train_rows: int, step: int, stopped: Stopped, attempts: int
) -> TrainedCourse:
    """Every step is full but the last of an epoch, which has what is left."""
    effective = config.per_device_train_batch_size * config.gradient_accumulation_steps
    per_epoch = max(1, math.ceil(train_rows / effective))
    epochs, rest = divmod(step, per_epoch)
    return {
        "step": step,
        "last_step": stopped["step"],
        "rows": epochs * train_rows + rest * effective,
        "train_rows": train_rows,
        "steps_per_epoch": per_epoch,
        "asked_epochs": config.num_train_epochs,
        "asked_steps": config.max_steps,
        "reason": stopped["reason"],
        "attempts": attempts,
    }


def epochs(course: TrainedCourse) -> float:
    """How often the training rows were gone through."""
    return course["rows"] / course["train_rows"] if course["train_rows"] else 0.0


def summary(course: TrainedCourse) -> str:
    """ "24 steps, 192 rows seen, 0.32 epochs of 592 training rows"."""
    steps, rows = _counted(course["step"], "step"), _counted(course["rows"], "row")
    share = epochs(course)
    times = f"{share:.2f}".rstrip("0").rstrip(".")
    if times == "0" and share:
        times = f"{share:.2g}"
    unit = "epoch" if times == "1" else "epochs"
    return f"{steps}, {rows} seen, {times} {unit} of {_counted(course['train_rows'], 'training row')}"


def sentences(course: TrainedCourse) -> list[str]:
    """What happened, why it ended, and what had been asked for where that is something else."""
    lines = [f"{summary(course)}.", ENDS[course["reason"]]]
    if course["last_step"] != course["step"]:
        lines.append(
            f"Training went on to step {course['last_step']:,}; the weights are those of step"
            f" {course['step']:,}, where the validation loss was lowest."
        )
    if asked := _asked(course):
        lines.append(asked)
    if course["attempts"] > 1:
        times = course["attempts"] - 1
        lines.append(f"It was interrupted and resumed {'once' if times == 1 else f'{times:,} times'}.")
    return lines


def _asked(course: TrainedCourse) -> str:
    """The epochs and the limit of the settings, where training ended before those epochs were through."""
    asked, limit = course["asked_epochs"], course["asked_steps"]
    planned = math.ceil(course["steps_per_epoch"] * asked) if asked else None
    if course["last_step"] == (planned or limit):
        return ""
    epochs_asked = "1 epoch" if asked == 1 else f"{asked:g} epochs" if asked else ""
    parts = [f"{epochs_asked} ({_counted(planned, 'step')})"] if planned else []
    parts += [f"at most {_counted(limit, 'step')}"] if limit else []
    return f"Asked for: {', '.join(parts)}." if parts else ""


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
