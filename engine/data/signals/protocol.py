"""What the module of a group of signals has; `store.data.signals` names the module of each group.

The job `profile` calls it, checks that every row has the group's columns, makes the figures and writes the
sidecar. A module has one of two shapes, told apart by which function it has.

**Row-local**: a row's values depend on that row alone.

    READS: tuple[str, ...]
        Columns of rows.parquet that `measure` looks at.
    prepare(job: Job, config: ProfileConfig, rows_path: Path) -> tuple[Context, dict]
        What `measure` needs beside the rows (anything that pickles: it crosses to a second process), and the
        options that decided the values. A version of the data that kept a row takes its values over where
        the options are equal. May tell progress with `job.progress`, and raises what the user should read.
    measure(batch: pa.RecordBatch, context: Context) -> dict[str, pa.Array | np.ndarray]
        `batch` has row_id and READS; the answer has every column of the group, one value for each row of the
        batch in its order. Called for batches in any order, in two processes.

**Whole-set**: what a row is worth depends on the others, or what measures it is dear to load.

    OPTIONS: tuple[str, ...]
        Fields of ProfileConfig that decide the values; stored with the sidecar. `()` where none does.
    compute(job: Job, config: ProfileConfig, rows_path: Path, progress: Progress)
            -> tuple[pa.Table, dict[str, dict]]
        A table of row_id (int64) and every column of the group, one row for each row of rows.parquet in
        their order, null where a row was not measured; and figures of the set as a whole, named without
        their prefix: {"diversity": {"value": 0.4, "n": 2000}} is stored as "set.diversity".
    progress(done, total, unit="rows", message="")
        Tells the user at most once a second, with an estimate of what is left, and raises Cancelled where
        the job was cancelled: call it often. Another unit, total or message is told at once.
    phases(rows: int) -> Phases
        Its phases where the data set has so many rows, by the messages that it tells (`engine.worker`).

Column types: number int32 or float32, flag bool, category string, group int64. The job casts numbers of other
widths, and refuses other types, missing or additional columns, and rows that are missing or out of order.

`split_parts` gives a batch as the parts that signals look at: the whole text, what was asked, the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

# What a module of a group of signals has; `store.data.signals` names the module of each group.
#
# The job `profile` calls the module, checks that it gave the group's columns for every row, makes the figures
# and writes the sidecar. A module has one of two shapes, told apart by which function it has.
#
# **Row-local**: a row's values depend on that row alone.
#
# READS: tuple[str, ...]
# Columns of rows.parquet that `measure` looks at.
# prepare(job: Job, config: ProfileConfig, rows_path: Path) -> tuple[Context, dict]
# What `measure` needs beside the rows (anything that pickles: it crosses to a second process), and the
# options that decided the values. A version of the data that kept a row takes its values over where
# the options are equal. May tell progress with `job.progress`, and raises what the user should read.
# measure(batch: pa.RecordBatch, context: Context) -> dict[str, pa.Array | np.ndarray]
# `batch` has row_id and READS; the answer has every column of the group, one value for each row of the
# batch in its order. Called for batches in any order, in two processes.
#
# **Whole-set**: what a row is worth depends on the others, or what measures it is dear to load.
#
# OPTIONS: tuple[str, ...]
# Fields of ProfileConfig that decide the values; stored with the sidecar. `()` where none does.
# compute(job: Job, config: ProfileConfig, rows_path: Path, progress: Progress)
# -> tuple[pa.Table, dict[str, dict]]
# A table of row_id (int64) and every column of the group, one row for each row of rows.parquet in
# their order, null where a row was not measured; and figures of the set as a whole, named without
# their prefix: {"diversity": {"value": 0.4, "n": 2000}} is stored as "set.diversity".
# progress(done, total, unit="rows", message="")
# Tells the user at most once a second, with an estimate of what is left, and raises Cancelled where
# the job was cancelled: call it often. Another unit, total or message is told at once.
# phases(rows: int) -> Phases
# Its phases where the data set has so many rows, by the messages that it tells (`engine.worker`).
#
# Column types: number int32 or float32, flag bool, category string, group int64. The job casts numbers of
# other widths, and refuses other types, missing or additional columns, and rows that are missing or out of
# order.

Progress = Callable[..., None]  # (done, total, unit="rows", message="")


# A batch of rows as the parts that signals look at: the whole text, what was asked, and the last answer.
#
# The same parts as `prompt` and `answer` of `store.data.filters`: the turns before the last one, joined
# by blank lines, and the last one. The answer of a plain text is the text itself, and nothing was asked.

PART_COLUMNS = ("messages", "text", "label", "choices")  # rows of earlier imports have no choices


@dataclass
class Parts:
    """One entry a row. `asked`: the turn before the answer; `answered`: bool [n], the row is a conversation;
    `labelled`: bool [n], the answer is a label or one of the choices that the row gives."""

    texts: list[str]
    prompts: list[str]
    asked: list[str]
    answers: list[str]
    answered: np.ndarray
    labelled: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)


def split_parts(batch: pa.RecordBatch) -> Parts:
    """The parts of a batch that has the columns of `PART_COLUMNS`."""
    texts = [text or "" for text in batch.column("text").to_pylist()]
    messages = batch.column("messages")
    answered = messages.is_valid().to_numpy(zero_copy_only=False)
    contents = messages.values.field("content").to_pylist() if messages.values is not None else []
    offsets = messages.offsets.to_pylist()
    prompts, asked, answers = [], [], []
    for index, text in enumerate(texts):
        first, end = offsets[index], offsets[index + 1]
        if not answered[index] or first == end:
            prompts.append("")
            asked.append("")
            answers.append(text)
            continue
        prompts.append(contents[first] if end - first == 2 else "\n\n".join(contents[first : end - 1]))
        asked.append(contents[end - 2] if end - first > 1 else "")
        answers.append(contents[end - 1])
    labelled = batch.column("label").is_valid().to_numpy(zero_copy_only=False)
    if "choices" in batch.schema.names:
        labelled = labelled | batch.column("choices").is_valid().to_numpy(zero_copy_only=False)
    return Parts(texts, prompts, asked, answers, answered, labelled)
