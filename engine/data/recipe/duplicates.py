"""The step drop_duplicates: one row of every group of equal, nearly equal, or equally prompted rows stays.

What is equal is judged by the texts as they are at this step, in the same way as the signals of the group
`duplicates` judge those of the whole version.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.data.recipe.working import Working
from engine.data.signals.clusters import find_clusters
from engine.data.signals.duplicates import group_of, texts_and_prompts
from engine.data.signals.minhash import Sketches
from store.errors import ConfigError
from store.recipe import DropDuplicates

SAME = {
    "exact": "the same text as",
    "near": "in a group of near duplicates with",
    "prompt": "the same prompt as",
}


def run(work: Working, step: DropDuplicates, index: int) -> None:
    """Drop all but one row of each group. Raises ConfigError for prompts of plain texts."""
    rows = work.living()
    groups = _groups(work, step)
    chosen = _chosen(work, step, groups)
    dropped = np.flatnonzero(chosen != np.arange(len(rows)))
    same = SAME[step.kind]
    work.drop(index, rows[dropped], [f"{same} {work.name(int(rows[chosen[at]]))}" for at in dropped])


def _groups(work: Working, step: DropDuplicates) -> np.ndarray:
    """For each living row the place of the first row of its group."""
    if step.kind == "exact":
        return group_of(_digests(work))
    if step.kind == "near":
        return _near(work, step.threshold)
    if work.kind == "text":
        raise ConfigError("Plain texts have no prompt.", fix="Choose kind exact or near.", field="kind")
    prompts = [texts_and_prompts(batch.select(["messages"]))[1] for batch in work.scan(["messages"])]
    return group_of(np.concatenate(prompts))


def _digests(work: Working) -> np.ndarray:
    return np.concatenate([batch["digest"].to_numpy() for batch in work.scan(["digest"])])


def _near(work: Working, threshold: float) -> np.ndarray:
    exact = group_of(_digests(work))
    first = exact == np.arange(len(exact))  # one row of each digest is compared
    column, row = "text" if work.kind == "text" else "messages", 0
    with Sketches(threshold, work.folder) as sketches:
        for batch in work.scan([column]):
            texts, _ = texts_and_prompts(batch.select([column]))
            chosen = np.flatnonzero(first[row : row + batch.num_rows])
            sketches.add(sketches.sketch([texts[at] for at in chosen]))
            row += batch.num_rows
        sketches.close()
        clusters = find_clusters(sketches, lambda band, bands: work.progress.at(1))
    unique = np.flatnonzero(first)
    return unique[clusters.label][np.searchsorted(unique, exact)]


def _chosen(work: Working, step: DropDuplicates, groups: np.ndarray) -> np.ndarray:
    """For each living row the place of the row that stays for its group; the first among equals."""
    if step.keep == "first":
        return groups
    lengths = np.concatenate([_answer_lengths(batch) for batch in work.scan(["messages", "text"])])
    if step.keep == "longest_answer":
        lengths = -lengths
    order = np.lexsort((np.arange(len(groups)), lengths, groups))
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    best = np.zeros(len(groups), np.int64)
    best[groups[order[starts]]] = order[starts]
    return best[groups]


def _answer_lengths(batch: pa.RecordBatch) -> np.ndarray:
    """Characters of the last answer, of the text where it is plain."""
    messages = batch["messages"]
    whole = pc.utf8_length(batch["text"]).to_numpy(zero_copy_only=False).astype(np.int64)
    if messages.null_count == len(messages):
        return whole
    counts = messages.value_lengths().fill_null(0).to_numpy()
    ends = np.cumsum(counts) - 1
    contents = pc.utf8_length(messages.flatten().field("content")).to_numpy(zero_copy_only=False)
    return np.where(counts > 0, contents[np.maximum(ends, 0)], whole)
