"""Interface of the modules of signal groups; `store.data.signals` names the module of each group.

The job `profile` calls the module, checks that every row has the group's columns, computes the figures and
writes the sidecar. A module has one of two shapes, distinguished by the function it defines.

**Row-local**: a row's values depend on that row alone.

    READS: tuple[str, ...]
        Columns of rows.parquet that `measure` reads.
    prepare(job: WorkerJob, config: ProfileConfig, rows_path: Path) -> tuple[Context, dict]
        Return what `measure` needs in addition to the rows (must be picklable, as it is passed to other
        processes), and the options that determine the values. A version with unchanged rows reuses their
        values if the options are equal. May report progress with `job.progress`; raises errors for the user.
    measure(batch: pa.RecordBatch, context: Context) -> dict[str, pa.Array | np.ndarray]
        `batch` has row_id and READS; the result has every column of the group, one value for each row of the
        batch in its order. Called for batches in any order, in several processes.

**Whole-set**: a row's values depend on other rows, or the measuring model is expensive to load.

    OPTIONS: tuple[str, ...]
        Fields of ProfileConfig that determine the values; stored with the sidecar. `()` if there are none.
    compute(job: WorkerJob, config: ProfileConfig, rows_path: Path, progress: Progress)
            -> tuple[pa.Table, dict[str, dict]]
        Return a table of row_id (int64) and every column of the group, one row for each row of rows.parquet
        in order, null for unmeasured rows; and figures of the whole set, named without their prefix:
        {"diversity": {"value": 0.4, "n": 2000}} is stored as "set.diversity".
    progress(done, total, unit="rows", message="")
        Report progress at most once a second, with an estimate of the remaining time; raises JobCancelled if
        the job was cancelled, so call it often. A new unit, total or message is reported at once.
    phases(rows: int) -> Phases
        Return the phases for a data set of `rows` rows, named by the messages of `progress`
        (`engine.worker`).

Column types: number int32 or float32, flag bool, category string, group int64. The job casts numbers of
other widths, and rejects other types, missing or additional columns, and missing or unordered rows.

`split_parts` splits a batch into the parts that signals read: whole text, prompt and answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

Progress = Callable[..., None]  # called as (done, total, unit="rows", message="")


# The parts equal `prompt` and `answer` of `store.data.filters`: the turns before the last one, joined by
# blank lines, and the last one. The answer of a plain text is the text itself, and its prompt is empty.

PART_COLUMNS = ("messages", "text", "label", "choices")  # rows of older imports have no choices


@dataclass
class Parts:
    """Parts of a batch, one entry per row.

    `asked`: the turn before the answer. `answered`: bool [n], the row is a conversation. `labelled`: bool
    [n], the answer is a label or one of the row's choices.
    """

    texts: list[str]
    prompts: list[str]
    asked: list[str]
    answers: list[str]
    answered: np.ndarray
    labelled: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)


def split_parts(batch: pa.RecordBatch) -> Parts:
    """Split a batch with the columns `PART_COLUMNS` into its parts."""
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
