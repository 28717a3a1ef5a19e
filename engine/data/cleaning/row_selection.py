"""Cleaning steps that select rows: filter, balance, sample, mix and drop_duplicates.

mix adds rows of another data set. Random draws use a hash of seed and row number (SplitMix64, Steele, Lea
and Flood 2014), so the same seed gives the same rows on every machine and with every library version.
Duplicates are judged by the texts as they are at this step, in the same way as the signals of the group
`duplicates`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.data.cleaning.row_queries import RowQueries
from engine.data.cleaning.working_rows import WorkingRows
from engine.data.similarity.equality import (
    EXACT,
    FOLDED,
    compute_exact_keys,
    compute_folded_keys,
    group_equal,
    join_keys,
)
from engine.data.similarity.near_duplicates import NearProgress, find_near_duplicates
from engine.data.similarity.prompts_and_answers import compare_answers, read_texts_and_prompts
from store.core.errors import ConfigError
from store.core.formatting import plural
from store.data.cleaning import Balance, DropDuplicates, FilterRows, Mix, Sample
from store.data.cleaning_text import describe_filter, format_column_title
from store.data.dataset_files import open_rows


def filter_rows(work: WorkingRows, ask: RowQueries, step: FilterRows, index: int) -> None:
    """Drop the rows that match the filter, or all others."""
    matching = ask.matching(step.where)
    if step.action == "drop":
        work.drop(index, matching, step.reason or describe_filter(step.where))
        return
    others = np.setdiff1d(work.living(), matching, assume_unique=True)
    work.drop(index, others, step.reason or f"not so: {describe_filter(step.where)}")


def balance(work: WorkingRows, ask: RowQueries, step: Balance, index: int) -> None:
    """Keep at most `step.most` rows of each value; rows without a value are kept.

    Raises ConfigError if no row has a value.
    """
    rows, groups, values = _read_groups(ask, step.column)
    if not values:
        raise ConfigError(
            f"No row has a value in {step.column}.", fix="Choose another column.", field="column"
        )
    sizes = np.bincount(groups[groups >= 0], minlength=len(values))
    most = step.most or int(sizes.min())
    for group in np.flatnonzero(sizes > most):
        members = rows[groups == group]
        value = values[group]
        surplus = np.sort(shuffle_rows(members, step.seed)[most:])
        reason = f"not among the {most:,} drawn of {format_column_title(step.column)} {value!r}"
        work.drop(index, surplus, reason)


def sample(work: WorkingRows, ask: RowQueries, step: Sample, index: int) -> None:
    """Keep `step.rows` rows, drawn uniformly or spread as evenly over the topics as their sizes allow.

    Raises ConfigError if topics are needed and were not measured.
    """
    living = work.living()
    if step.rows >= len(living):
        work.notices.append(f"All {len(living):,} rows are kept: the sample of {step.rows:,} is not smaller.")
        return
    if step.by == "random":
        kept = shuffle_rows(living, step.seed)[: step.rows]
    else:
        rows, groups, _ = _read_groups(ask, "cluster")
        sizes = np.bincount(groups + 1)  # index 0: rows without a topic
        parts = [shuffle_rows(rows[groups == group - 1], step.seed) for group in range(len(sizes))]
        quotas = compute_even_shares(sizes, step.rows)
        kept = np.concatenate([part[:quota] for part, quota in zip(parts, quotas, strict=True)])
    dropped = np.setdiff1d(living, kept, assume_unique=True)
    how = "spread over topics" if step.by == "diversity" else "at random"
    work.drop(index, dropped, f"not among the {step.rows:,} rows drawn {how}")


def shuffle_rows(rows: np.ndarray, seed: int) -> np.ndarray:
    """Return the rows in the pseudorandom order of the seed."""
    with np.errstate(over="ignore"):
        x = rows.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15) * np.uint64(seed + 1)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return rows[np.argsort(x ^ (x >> np.uint64(31)), kind="stable")]


def compute_even_shares(sizes: Iterable[int], wanted: int) -> np.ndarray:
    """Return how many rows to take from groups of these sizes so that the shares are as equal as possible.

    The shares sum to `wanted`, or to the total size if that is smaller. Remainders go to the first groups
    that have rows left.
    """
    sizes = np.asarray(list(sizes), np.int64)
    taken = np.zeros_like(sizes)
    left = min(wanted, int(sizes.sum()))
    while left:
        open_groups = np.flatnonzero(taken < sizes)
        share = max(1, left // len(open_groups))
        for group in open_groups[:left]:
            more = min(share, int(sizes[group] - taken[group]), left)
            taken[group] += more
            left -= more
    return taken


def _read_groups(ask: RowQueries, column: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return the rows, the group of each (-1: no value), and the sorted values of the groups."""
    table = ask.values([column])
    column_values = table[column].cast("string").combine_chunks().dictionary_encode()
    names = column_values.dictionary.to_pylist()
    order = np.argsort(np.argsort(np.asarray(names, dtype=object), kind="stable"), kind="stable")
    codes = column_values.indices.fill_null(-1).to_numpy().astype(np.int64)
    groups = np.where(codes >= 0, order[np.maximum(codes, 0)], -1) if names else codes
    return table["row_id"].to_numpy(), groups, sorted(names)


def mix(work: WorkingRows, step: Mix, index: int) -> None:
    """Append rows of another data set.

    Raises ConfigError for a data set of another kind, for the version itself, and for a data set with too few
    rows.
    """
    other = work.mixed[step.dataset]
    if other["fingerprint"] == work.origins[0].dataset["fingerprint"]:
        raise ConfigError(f"{step.dataset} has these rows already.", fix="Mix in another.", field="dataset")
    if other["kind"] != work.kind:
        raise ConfigError(
            f"{step.dataset} is of the kind {other['kind']}, and these rows are {work.kind}.",
            fix="Mix in a data set of the same kind.",
            field="dataset",
        )
    present, there = work.count, open_rows(work.home, other["fingerprint"]).metadata.num_rows
    wanted = round(step.share * present / (1 - step.share))
    if not 0 < wanted <= there:
        most = there / (present + there)
        raise ConfigError(
            f"A share of {step.share:g} with {present:,} present rows needs {wanted:,} rows;"
            f" {step.dataset} has {there:,}.",
            fix=f"Set share to {int(most * 1000) / 1000:g} or less." if wanted else "Set a larger share.",
            field="share",
        )
    if work.redactors:
        work.notices.append(
            f"The rows of {step.dataset} are added after the redaction, so they are not redacted. Put the"
            " redaction last."
        )
    row_ids = np.sort(shuffle_rows(np.arange(there), step.seed)[:wanted])
    work.add(index, other, row_ids)


# The step drop_duplicates keeps one row of every group of equal or nearly equal rows, or of rows with equal
# prompts.
#
# A dropped near duplicate has at least the threshold similarity to the row that is kept in its place. Unless
# the step is configured otherwise, a row with another label or answer is no duplicate.

DUPLICATE_REASONS = {
    "exact": "the same text as",
    "folded": "equal, except for case and spacing, to",
    "prompt": "the same prompt as",
    "conflict": "contradicts",
}


@dataclass(frozen=True)
class _Choice:
    """kept: int64, for each living row the position of the row that is kept in its place.

    similarity: for near duplicates, the similarity of each row to the kept one.
    """

    kept: np.ndarray
    similarity: np.ndarray | None = None


def drop_duplicates(work: WorkingRows, step: DropDuplicates, index: int) -> None:
    """Drop all but one row of each group of duplicates.

    Raises ConfigError for prompts of plain texts, and if the choice among labels would depend on the length
    of their names.
    """
    if work.kind == "text" and step.kind in ("prompt", "conflict"):
        raise ConfigError("Plain texts have no prompt.", fix="Choose kind exact or near.", field="kind")
    rows = work.living()
    choice = (
        _choose_from_near_duplicates(work, step) if step.kind == "near" else _choose_from_groups(work, step)
    )
    dropped = np.flatnonzero(choice.kept != np.arange(len(rows)))
    names = [work.name(int(rows[choice.kept[at]])) for at in dropped]
    if choice.similarity is None:
        reasons = [f"{DUPLICATE_REASONS[step.kind]} {name}" for name in names]
    else:
        values = choice.similarity[dropped]
        reasons = [f"near duplicate of {n} (similarity {v:.2f})" for n, v in zip(names, values, strict=True)]
    work.drop(index, rows[dropped], reasons)


def _choose_from_groups(work: WorkingRows, step: DropDuplicates) -> _Choice:
    strict = step.conflicts == "keep"
    if step.kind == "exact":
        groups = group_equal(
            join_keys(compute_exact_keys(batch, labels=strict) for batch in work.scan(EXACT))
        )
    elif step.kind == "folded":
        groups = group_equal(
            join_keys(compute_folded_keys(batch, labels=strict) for batch in work.scan(FOLDED))
        )
    else:
        prompts = join_keys(
            read_texts_and_prompts(batch.select(["messages"]))[1] for batch in work.scan(["messages"])
        )
        groups = group_equal(prompts)
        if step.kind == "conflict":
            conflict = compare_answers(work.scan, prompts).conflict
            groups = np.where(conflict, _find_first(groups, conflict), np.arange(len(groups)))
    return _Choice(_choose_representatives(groups, _rank_rows(work, step, groups)))


def _find_first(groups: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return for each row the first row of its group that is in `among` (bool)."""
    first = np.full(len(groups), len(groups))
    rows = np.flatnonzero(among)
    np.minimum.at(first, groups[rows], rows)
    firsts: np.ndarray = first[groups]
    return firsts


def _choose_from_near_duplicates(work: WorkingRows, step: DropDuplicates) -> _Choice:
    near = find_near_duplicates(
        work.scan,
        step.threshold,
        work.folder,
        NearProgress(lambda band, bands: work.progress.at(1)),
        order=_rank_rows(work, step, None),
        strict=step.conflicts == "keep",
    )
    conflicts = int(near.conflict.sum())
    if conflicts:
        work.notices.append(
            f"{plural(conflicts, 'row')} nearly identical to another with a different label or answer:"
            " conflicts are not duplicates, so none was dropped."
        )
    if near.uncompared:
        work.notices.append(
            f"{plural(near.uncompared, 'text')} made from one template: not all of their pairs were compared,"
            " so near duplicates may be left among them."
        )
    return _Choice(near.stands, near.similarity)


def _rank_rows(work: WorkingRows, step: DropDuplicates, groups: np.ndarray | None) -> np.ndarray | None:
    """Return a rank for each living row; the lowest of a group is kept, the first among equals.

    None keeps the first row. groups: groups of rows whose labels may differ; None if the rows of a group
    always have the same label.
    """
    if step.keep == "first":
        return None
    if step.keep == "most_frequent":
        keys = join_keys(compute_folded_keys(batch) for batch in work.scan(FOLDED))
        _, place, counts = np.unique(keys, return_inverse=True, return_counts=True)
        return np.asarray(-counts[place])
    _check_labels(work, step, groups)
    lengths = np.concatenate([_measure_answer_lengths(batch) for batch in work.scan(["messages", "text"])])
    return -lengths if step.keep == "longest_answer" else lengths


def _check_labels(work: WorkingRows, step: DropDuplicates, groups: np.ndarray | None) -> None:
    """Raise ConfigError if rows with different labels share a group.

    The length of a label's name says nothing about which label is right.
    """
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
            "These rows have labels, whose length says nothing about which is right.",
            fix="Set keep to most_frequent or first, or drop the rows that contradict each other.",
            field="keep",
        )


def _choose_representatives(groups: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    """Return for each living row the position of the kept row of its group; the first among equals."""
    if order is None:
        return groups
    by = np.lexsort((np.arange(len(groups)), order, groups))
    starts = np.flatnonzero(np.diff(groups[by], prepend=-1))
    best = np.zeros(len(groups), np.int64)
    best[groups[by[starts]]] = by[starts]
    bests: np.ndarray = best[groups]
    return bests


def _measure_answer_lengths(batch: pa.RecordBatch) -> np.ndarray:
    """Return the length of the last answer in characters; of plain text, the length of the text."""
    messages = batch["messages"]
    whole: np.ndarray = pc.utf8_length(batch["text"]).to_numpy(zero_copy_only=False).astype(np.int64)
    if messages.null_count == len(messages):
        return whole
    counts = messages.value_lengths().fill_null(0).to_numpy()
    ends = np.cumsum(counts) - 1
    contents = pc.utf8_length(messages.flatten().field("content")).to_numpy(zero_copy_only=False)
    ended: np.ndarray = np.where(counts > 0, contents[np.maximum(ends, 0)], whole)
    return ended
