"""The step drop_duplicates: one row of every group of equal, nearly equal, or equally prompted rows stays.

What is equal is judged by the texts as they are at this step, in the same way as the signals of the group
`duplicates` judge those of the whole version. A row that is dropped as a near duplicate has the threshold
with the row that stays for it; unless the step says otherwise, a row of another label or answer is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.diagnostics.phrasing import plural
from engine.near.compared_texts import texts_and_prompts
from engine.near.digest import EXACT, FOLDED, exact_keys, folded_keys
from engine.near.groups import group_of, joined
from engine.near.near_duplicates import NearProgress, near_rows
from engine.near.repeated_prompts import answered
from engine.recipe.working import Working
from store.config.data.recipe import DropDuplicates
from store.contract.errors import ConfigError

SAME = {
    "exact": "the same text as",
    "folded": "the same but for case and spacing as",
    "prompt": "the same prompt as",
    "conflict": "contradicts",
}


@dataclass(frozen=True)
class _Choice:
    """kept: int64, for each living row the place of the row that stays for it. similarity: of near duplicates
    that of each row to the one that stays."""

    kept: np.ndarray
    similarity: np.ndarray | None = None


def run(work: Working, step: DropDuplicates, index: int) -> None:
    """Drop all but one row of each group. Raises ConfigError for prompts of plain texts, and where labels
    would be chosen by the length of their names."""
    if work.kind == "text" and step.kind in ("prompt", "conflict"):
        raise ConfigError("Plain texts have no prompt.", fix="Choose kind exact or near.", field="kind")
    rows = work.living()
    choice = _near(work, step) if step.kind == "near" else _grouped(work, step)
    dropped = np.flatnonzero(choice.kept != np.arange(len(rows)))
    names = [work.name(int(rows[choice.kept[at]])) for at in dropped]
    if choice.similarity is None:
        reasons = [f"{SAME[step.kind]} {name}" for name in names]
    else:
        values = choice.similarity[dropped]
        reasons = [f"near duplicate of {n} (similarity {v:.2f})" for n, v in zip(names, values, strict=True)]
    work.drop(index, rows[dropped], reasons)


def _grouped(work: Working, step: DropDuplicates) -> _Choice:
    strict = step.conflicts == "keep"
    if step.kind == "exact":
        groups = group_of(joined(exact_keys(batch, labels=strict) for batch in work.scan(EXACT)))
    elif step.kind == "folded":
        groups = group_of(joined(folded_keys(batch, labels=strict) for batch in work.scan(FOLDED)))
    else:
        prompts = joined(
            texts_and_prompts(batch.select(["messages"]))[1] for batch in work.scan(["messages"])
        )
        groups = group_of(prompts)
        if step.kind == "conflict":
            conflict = answered(work.scan, prompts).conflict
            groups = np.where(conflict, _first_of(groups, conflict), np.arange(len(groups)))
    return _Choice(_chosen(groups, _order(work, step, groups)))


def _first_of(groups: np.ndarray, among: np.ndarray) -> np.ndarray:
    """For each row the first row of its group that is `among` those (bool)."""
    first = np.full(len(groups), len(groups))
    rows = np.flatnonzero(among)
    np.minimum.at(first, groups[rows], rows)
    return first[groups]


def _near(work: Working, step: DropDuplicates) -> _Choice:
    near = near_rows(
        work.scan,
        step.threshold,
        work.folder,
        NearProgress(lambda band, bands: work.progress.at(1)),
        order=_order(work, step, None),
        strict=step.conflicts == "keep",
    )
    conflicts = int(near.conflict.sum())
    if conflicts:
        work.notices.append(
            f"{plural(conflicts, 'row')} nearly the same as another with another label or answer: a conflict"
            " is no duplicate, so none goes for that."
        )
    if near.uncompared:
        work.notices.append(
            f"{plural(near.uncompared, 'text')} made from one template: not all of their pairs were compared,"
            " so near duplicates may be left among them."
        )
    return _Choice(near.stands, near.similarity)


def _order(work: Working, step: DropDuplicates, groups: np.ndarray | None) -> np.ndarray | None:
    """A number of each living row, the smallest of a group stays, the first among equals; None: the first.
    groups: those of rows that may have several labels; None where each has one."""
    if step.keep == "first":
        return None
    if step.keep == "most_frequent":
        keys = joined(folded_keys(batch) for batch in work.scan(FOLDED))
        _, place, counts = np.unique(keys, return_inverse=True, return_counts=True)
        return np.asarray(-counts[place])
    _check_labels(work, step, groups)
    lengths = np.concatenate([_answer_lengths(batch) for batch in work.scan(["messages", "text"])])
    return -lengths if step.keep == "longest_answer" else lengths


def _check_labels(work: Working, step: DropDuplicates, groups: np.ndarray | None) -> None:
    """Raise ConfigError where rows of several labels share a group: the length of a label's name says nothing
    about which is right."""
    labels = [label for batch in work.scan(["label"]) for label in batch["label"].to_pylist()]
    several = len({label for label in labels if label is not None}) > 1
    if groups is None:
        wrong = several and step.conflicts == "drop"
    else:
        pairs = {
            (int(group), label) for group, label in zip(groups, labels, strict=True) if label is not None
        }
        wrong = len(pairs) > len({group for group, _ in pairs})
    if wrong:
        raise ConfigError(
            "These rows have labels, and the length of a label's name doesn't tell which is right.",
            fix="Set keep to most_frequent or first, or drop the rows that contradict each other.",
            field="keep",
        )


def _chosen(groups: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    """For each living row the place of the row that stays for its group; the first among equals."""
    if order is None:
        return groups
    by = np.lexsort((np.arange(len(groups)), order, groups))
    starts = np.flatnonzero(np.diff(groups[by], prepend=-1))
    best = np.zeros(len(groups), np.int64)
    best[groups[by[starts]]] = by[starts]
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
