"""The group `duplicates`: equal rows, near duplicates, rows with one prompt, and answers that conflict.

Exact: the column `digest`. Near: one text of each digest is sketched (`minhash`), candidates are verified
by the exact Jaccard similarity of their word 5-grams (`shingles`) and joined (`clusters`); rows of one digest
are near duplicates of similarity 1. The system turn is left out of the near comparison: it is said to the
model with every row, and would make rows alike that ask different things. Same prompt: all turns before the
last answer, normalised as for the digest; rows of plain text have none. A conflict is a row whose prompt
another row has with another answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.data.dataset import batches
from engine.data.digest import digest
from engine.data.groups import group_of
from engine.data.signals import Progress
from engine.data.signals.clusters import find_clusters
from engine.data.signals.minhash import Sketches
from engine.job import Job
from store.data_config import ProfileConfig

OPTIONS = ("threshold",)
BATCH = 4_000  # rows sketched at a time
THREADS = 2  # numpy lets go of the interpreter's lock
WAITING = 4  # batches ahead of the one that is kept


def compute(
    job: Job, config: ProfileConfig, rows_path: Path, progress: Progress
) -> tuple[pa.Table, dict[str, dict[str, Any]]]:
    """The columns of the group for each row, and figures of the set: exact_duplicates, near_duplicates (rows
    beyond the first of their group), conflicts and same_prompt (rows), each with n rows."""
    digests = pq.read_table(rows_path, columns=["digest"])["digest"].to_numpy()
    exact = group_of(digests)
    first = exact == np.arange(len(exact))  # one row of each digest is compared
    prompts = np.zeros(len(exact), dtype=np.uint64)
    with Sketches(config.threshold, job.dir.path) as sketches:
        done = 0
        for rows, seen in sketched(rows_path, first, sketches):
            sketches.add(rows)
            prompts[done : done + len(seen)] = seen
            done += len(seen)
            progress(done, len(exact), "rows", "Comparing texts")
        sketches.close()
        clusters = find_clusters(sketches, lambda band, bands: progress(band, bands, "bands", "Verifying"))
    unique = np.flatnonzero(first)
    place = np.searchsorted(unique, exact)  # of each row's text among the sketches
    near = unique[clusters.label][place]
    similarity = np.maximum(clusters.similarity[place], np.where(_alone(exact), 0.0, 1.0))
    prompt_group = group_of(prompts)
    if len(prompts) and not prompts.any():  # plain texts
        prompt_group = np.arange(len(prompts))
    conflict = _conflicts(prompt_group, digests)
    table = pa.table(
        {
            "row_id": pa.array(np.arange(len(exact), dtype=np.int64)),
            "exact_group": _group_column(exact),
            "near_group": _group_column(near),
            "near_similarity": pa.array(similarity.astype(np.float32), mask=_alone(near)),
            "prompt_group": _group_column(prompt_group),
            "conflict": pa.array(conflict),
        }
    )
    return table, _figures(exact, near, prompt_group, conflict)


def _alone(groups: np.ndarray) -> np.ndarray:
    """Which rows share their group with no other; groups are named by the first of their rows."""
    return np.bincount(groups, minlength=len(groups))[groups] == 1


def _group_column(groups: np.ndarray) -> pa.Array:
    return pa.array(groups.astype(np.int64), mask=_alone(groups))


def _conflicts(prompt_group: np.ndarray, digests: np.ndarray) -> np.ndarray:
    """Rows whose prompt has more than one text: the digest covers prompt and answer."""
    same = digests == digests[prompt_group]
    differing = np.zeros(len(digests), dtype=bool)
    differing[prompt_group[~same]] = True
    return differing[prompt_group]


def _figures(
    exact: np.ndarray, near: np.ndarray, prompt: np.ndarray, conflict: np.ndarray
) -> dict[str, dict[str, Any]]:
    n = len(exact)
    extra = {
        name: n - int(np.count_nonzero(groups == np.arange(n)))
        for name, groups in (("exact_duplicates", exact), ("near_duplicates", near), ("same_prompt", prompt))
    }
    return {
        name: {"value": value, "n": n}
        for name, value in {**extra, "conflicts": int(np.count_nonzero(conflict))}.items()
    }


def sketched(rows_path: Path, first: np.ndarray, sketches: Sketches) -> Iterator[tuple[Any, np.ndarray]]:
    """What `sketches.add` takes, and the hashes of the prompts (0: none), batch by batch in order."""

    def work(batch: tuple[list[str], np.ndarray]) -> tuple[Any, np.ndarray]:
        texts, prompts = batch
        return sketches.sketch(texts), prompts

    read = _batches(rows_path, first)
    with ThreadPoolExecutor(THREADS) as threads:
        waiting = [threads.submit(work, batch) for batch in islice(read, WAITING)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [threads.submit(work, batch) for batch in islice(read, 1)]


def _batches(rows_path: Path, first: np.ndarray) -> Iterator[tuple[list[str], np.ndarray]]:
    row = 0
    for batch in open_texts(rows_path):
        chosen = np.flatnonzero(first[row : row + batch.num_rows])
        texts, prompts = texts_and_prompts(batch)
        yield [texts[index] for index in chosen], prompts
        row += batch.num_rows


def open_texts(rows_path: Path) -> Iterator[pa.RecordBatch]:
    """The rows with what `texts_and_prompts` looks at."""
    file = pq.ParquetFile(rows_path)
    head = next(file.iter_batches(batch_size=1, columns=["messages"]), None)
    chat = head is not None and head.num_rows and head["messages"][0].is_valid
    return batches(file, BATCH, ["messages" if chat else "text"])


def texts_and_prompts(batch: pa.RecordBatch) -> tuple[list[str], np.ndarray]:
    """The text of each row without its turns of system and tools, and a hash of its prompt, uint64 (0: it has
    none)."""
    if "text" in batch.schema.names:
        return batch["text"].to_pylist(), np.zeros(batch.num_rows, dtype=np.uint64)
    messages = batch["messages"]
    offsets = messages.offsets.to_pylist()
    turns = messages.values
    contents = turns.field("content").to_pylist()
    roles = turns.field("role")
    spoken = pc.invert(pc.is_in(roles, pa.array(["system", "tools"]))).to_pylist()
    texts, prompts = [], []
    for begin, end in pairwise(offsets):
        said = contents[begin:end]
        prompts.append(digest("\n\n".join(said[:-1])))
        if not spoken[begin] or end - begin > 2:
            said = [text for text, mine in zip(said, spoken[begin:end], strict=True) if mine]
        texts.append("\n\n".join(said))
    return texts, np.frombuffer(b"".join(prompts), dtype="<u8").copy()
