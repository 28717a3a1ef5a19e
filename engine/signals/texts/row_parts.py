"""A batch of rows as the parts that signals look at: the whole text, what was asked, and the last answer.

The same parts as `prompt` and `answer` of `store.config.data.filters`: the turns before the last one, joined
by blank lines, and the last one. The answer of a plain text is the text itself, and nothing was asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

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
