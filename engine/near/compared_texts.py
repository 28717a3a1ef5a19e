"""What is said in rows, for whoever compares them: their texts, their prompts, their answers.

The system turn is left out of a text that is compared: it is said to the model with every row, and would make
rows alike that ask different things. A prompt is all turns before the last answer, equal when folded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.near.digest import digest
from engine.near.minhash import Sketches, TextSketch
from engine.rows.dataset import batches

BATCH = 4_000  # rows sketched at a time
THREADS = 2  # numpy lets go of the interpreter's lock
WAITING = 4  # batches ahead of the one that is kept

Read = Callable[[Sequence[str]], Iterator[pa.RecordBatch]]  # the rows in order, with these columns at least


def reader(rows_path: Path) -> Read:
    """The rows of a data set's file, batch by batch."""
    return lambda columns: batches(pq.ParquetFile(rows_path), BATCH, list(columns))


def sketched(read: Read, first: np.ndarray, sketches: Sketches) -> Iterator[tuple[TextSketch, np.ndarray]]:
    """What `sketches.add` takes of the rows that `first` (bool) names, and the hashes of all prompts (0:
    none), batch by batch in order."""

    def work(batch: tuple[list[str], np.ndarray]) -> tuple[TextSketch, np.ndarray]:
        texts, prompts = batch
        return sketches.sketch(texts), prompts

    chosen = _chosen(read, first)
    with ThreadPoolExecutor(THREADS) as threads:
        waiting = [threads.submit(work, batch) for batch in islice(chosen, WAITING)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [threads.submit(work, batch) for batch in islice(chosen, 1)]


def _chosen(read: Read, first: np.ndarray) -> Iterator[tuple[list[str], np.ndarray]]:
    head, row = next(iter(read(("messages",))), None), 0
    chat = head is not None and head["messages"].null_count < head.num_rows
    for batch in read(("messages" if chat else "text",)):
        wanted = np.flatnonzero(first[row : row + batch.num_rows])
        texts, prompts = texts_and_prompts(batch)
        yield [texts[index] for index in wanted], prompts
        row += batch.num_rows


def texts_and_prompts(batch: pa.RecordBatch) -> tuple[list[str], np.ndarray]:
    """The text of each row without its turns of system and tools, and a hash of its prompt, uint64 (0: it has
    none). The batch has the messages, or of plain texts the text."""
    if "messages" not in batch.schema.names:
        return batch["text"].to_pylist(), np.zeros(batch.num_rows, dtype=np.uint64)
    messages = batch["messages"]
    turns = messages.values
    contents = turns.field("content").to_pylist()
    spoken = pc.invert(pc.is_in(turns.field("role"), pa.array(["system", "tools"]))).to_pylist()
    texts, prompts = [], []
    for begin, end in pairwise(messages.offsets.to_pylist()):
        turn_texts = contents[begin:end]
        prompts.append(digest("\n\n".join(turn_texts[:-1])))
        if not spoken[begin] or end - begin > 2:
            turn_texts = [text for text, mine in zip(turn_texts, spoken[begin:end], strict=True) if mine]
        texts.append("\n\n".join(turn_texts))
    return texts, np.frombuffer(b"".join(prompts), dtype="<u8").copy()


def last_answers(batch: pa.RecordBatch) -> list[str]:
    """The last turn of each row; of rows without turns nothing."""
    messages = batch["messages"]
    offsets = messages.offsets.to_numpy()
    last = pa.array(offsets[1:] - 1, mask=offsets[1:] == offsets[:-1])
    return [answer or "" for answer in messages.values.field("content").take(last).to_pylist()]
