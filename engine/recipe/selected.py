"""Steps that choose rows by their columns: filter, balance, sample.

Where chance decides, it is a hash of seed and row number (SplitMix64, Steele, Lea and Flood 2014): the same
rows for the same seed, on every machine and with every version of a library.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from engine.recipe.questions_of_sql import RowQueries
from engine.recipe.working import Working
from store.config.data.recipe import Balance, FilterRows, Sample
from store.contract.errors import ConfigError
from store.words.recipe_words import column_title, words


def filter_rows(work: Working, ask: RowQueries, step: FilterRows, index: int) -> None:
    """Drop the rows for which the filter holds, or all others."""
    matching = ask.matching(step.where)
    if step.action == "drop":
        work.drop(index, matching, step.reason or words(step.where))
        return
    others = np.setdiff1d(work.living(), matching, assume_unique=True)
    work.drop(index, others, step.reason or f"not so: {words(step.where)}")


def balance(work: Working, ask: RowQueries, step: Balance, index: int) -> None:
    """At most `most` rows of each value; rows without a value stay.

    Raises ConfigError where no row has a value.
    """
    rows, groups, values = _groups(ask, step.column)
    if not values:
        raise ConfigError(
            f"No row has a value in {step.column}.", fix="Choose another column.", field="column"
        )
    sizes = np.bincount(groups[groups >= 0], minlength=len(values))
    most = step.most or int(sizes.min())
    for group in np.flatnonzero(sizes > most):
        members = rows[groups == group]
        value = values[group]
        surplus = np.sort(draw(members, step.seed)[most:])
        reason = f"not among the {most:,} drawn of {column_title(step.column)} {value!r}"
        work.drop(index, surplus, reason)


def sample(work: Working, ask: RowQueries, step: Sample, index: int) -> None:
    """Keep `rows` rows, drawn from all alike, or as evenly from the topics as these have rows.

    Raises ConfigError where the topics were not measured.
    """
    living = work.living()
    if step.rows >= len(living):
        work.notices.append(f"All {len(living):,} rows stay: the sample of {step.rows:,} is no smaller.")
        return
    if step.by == "random":
        kept = draw(living, step.seed)[: step.rows]
    else:
        rows, groups, _ = _groups(ask, "cluster")
        sizes = np.bincount(groups + 1)  # the first are rows without a topic
        parts = [draw(rows[groups == group - 1], step.seed) for group in range(len(sizes))]
        quotas = even_shares(sizes, step.rows)
        kept = np.concatenate([part[:quota] for part, quota in zip(parts, quotas, strict=True)])
    dropped = np.setdiff1d(living, kept, assume_unique=True)
    how = "spread over the topics" if step.by == "diversity" else "at random"
    work.drop(index, dropped, f"not among the {step.rows:,} rows drawn {how}")


def draw(rows: np.ndarray, seed: int) -> np.ndarray:
    """The rows in the order in which chance takes them."""
    with np.errstate(over="ignore"):
        x = rows.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15) * np.uint64(seed + 1)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return rows[np.argsort(x ^ (x >> np.uint64(31)), kind="stable")]


def even_shares(sizes: Iterable[int], wanted: int) -> np.ndarray:
    """How many to take of groups of these sizes so that the takes are as equal as can be; their sum is
    `wanted`, or all there is. What can't be shared evenly goes to the first groups that have more."""
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


def _groups(ask: RowQueries, column: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Rows, the group of each (-1: no value), and the values of the groups in order."""
    table = ask.values([column])
    column_values = table[column].cast("string").combine_chunks().dictionary_encode()
    names = column_values.dictionary.to_pylist()
    order = np.argsort(np.argsort(np.asarray(names, dtype=object), kind="stable"), kind="stable")
    codes = column_values.indices.fill_null(-1).to_numpy().astype(np.int64)
    groups = np.where(codes >= 0, order[np.maximum(codes, 0)], -1) if names else codes
    return table["row_id"].to_numpy(), groups, sorted(names)
