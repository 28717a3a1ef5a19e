"""A recipe over the rows of a version, step by step, with the counts of each step.

What a step raises names the step: "Step 2 (Drop rows where …): …", field `recipe.steps.1.where`. A step after
which no row would be left is an error of that step.
"""

from __future__ import annotations

from contextlib import closing

from engine.recipe import contents, deduplicated, length, mixed_sets, selected, texts
from engine.recipe.questions_of_sql import RowQueries
from engine.recipe.working import Working
from store.config.data.recipe import (
    Balance,
    CapLength,
    DropDuplicates,
    EditRows,
    FilterRows,
    FixEncoding,
    MapColumns,
    Mix,
    Normalise,
    Recipe,
    Redact,
    Relabel,
    Sample,
    Step,
    Strip,
)
from store.contract.errors import ConfigError, TunebenchError
from store.documents.data.fates import StepCounts
from store.words.recipe_words import title

SHOWN = 3  # reasons that an error about a step without rows names


def apply(work: Working, recipe: Recipe) -> list[StepCounts]:
    """Run the steps on the rows; of each step title, rows_in, changed, dropped, added and rows_out.

    Raises the error of the step that can't be run, and Cancelled.
    """
    counted: list[StepCounts] = []
    work.progress.plan([*(weight(step) for step in recipe.steps), 2.0])
    with closing(RowQueries(work)) as ask:
        for index, step in enumerate(recipe.steps):
            name = title(step)
            work.progress.begin(index, name)
            before, total = work.count, work.total
            try:
                _take(work, ask, step, index)
                if not work.count and not work.limited:
                    raise _nothing_left(work, index, before)
            except TunebenchError as error:
                raise _of_step(error, index, name) from error
            added = work.total - total
            changed = sum(len(rows) for at, rows in work.changes if at == index)
            counted.append(
                {
                    "title": name,
                    "rows_in": before,
                    "changed": changed,
                    "dropped": before + added - work.count,
                    "added": added,
                    "rows_out": work.count,
                }
            )
            if not work.count:
                work.notices.append(f"Step {index + 1} ({name}) drops all of the first rows that were tried.")
                break
    work.progress.begin(len(recipe.steps), "Writing the new version")
    return counted


def _take(work: Working, ask: RowQueries, step: Step, index: int) -> None:
    match step:
        case FixEncoding() | Normalise() | Strip() | Redact():
            texts.run(work, step, index)
        case MapColumns():
            contents.map_columns(work, step, index)
        case FilterRows():
            selected.filter_rows(work, ask, step, index)
        case DropDuplicates():
            deduplicated.run(work, step, index)
        case CapLength():
            length.run(work, step, index)
        case Balance():
            selected.balance(work, ask, step, index)
        case Sample():
            selected.sample(work, ask, step, index)
        case Relabel():
            contents.label_errors(work, ask, step, index)
        case Mix():
            mixed_sets.run(work, step, index)
        case EditRows():
            contents.edit_rows(work, step, index)


def looks_across(step: Step) -> bool:
    """Whether what a step does to a row hangs on the other rows, so that the first rows don't tell of all."""
    across = isinstance(step, DropDuplicates | Balance | Sample | Mix)
    return across or (isinstance(step, Relabel) and step.most is not None)


def weight(step: Step) -> float:
    """About how long a step takes, in passes over the rows."""
    if isinstance(step, CapLength):
        return 30.0 if step.unit == "tokens" else 3.0
    if isinstance(step, DropDuplicates):
        return 30.0 if step.kind == "near" else 1.0
    if isinstance(step, Redact):
        return 20.0
    return 5.0 if isinstance(step, FixEncoding | Normalise | Strip | MapColumns) else 1.0


def _nothing_left(work: Working, index: int, before: int) -> ConfigError:
    reasons: dict[str, int] = {}
    for drop in work.drops:
        if drop.step == index:
            given = [drop.reasons] * len(drop.rows) if isinstance(drop.reasons, str) else drop.reasons
            for reason in given:
                reasons[reason] = reasons.get(reason, 0) + 1
    most = sorted(reasons, key=lambda reason: -reasons[reason])[:SHOWN]
    return ConfigError(
        f"It would drop every one of {before:,} rows ({'; '.join(most)}).",
        fix="Change or remove this step.",
        field="",
    )


def _of_step(error: TunebenchError, index: int, name: str) -> TunebenchError:
    """The error with the step at fault in its message and its field."""
    part = f".{error.field}" if error.field else ""
    return type(error)(
        f"Step {index + 1} ({name}): {error.message}", fix=error.fix, field=f"recipe.steps.{index}{part}"
    )
