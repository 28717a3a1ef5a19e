"""Assign rows to train, validation and test by hash, time, group, stratum or the file's own parts.

The result doesn't depend on the order of the rows. Groups of rows that belong together (`dataset_split`)
are ordered by a hash of text and seed: test takes from the front, validation from the back, and training
keeps the middle. When rows are added, a held-out row only moves if the size of its part changes, and never
between validation and test. A split by time takes the oldest row of each group, so that a later copy of an
old text neither trains nor judges anything; a stratified split divides each stratum separately.

Parts given by the file (the column `part`) are kept, even if rows of equal text are in two parts: that is
a leak of the data set, which a launch counts, and moving rows would make figures incomparable with others.
A part without rows in the file is taken from its training rows by its share, like in a random split.

No pandas here: the engine process also uses this module.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq

from store.core.errors import ConfigError
from store.data.filters import BASE, SOURCE, build_column_sql
from store.data.signals import GROUP_OF, GROUPS
from store.jobs.schemas import OrderDataset
from store.training.split import DEFAULT_SHARE, Split

PARTS = ("train", "validation", "test")
SMALL_DATASET_ROWS = 50  # rows; in smaller data sets the share alone decides
MIN_PART_ROWS = 50  # rows of a part with the default share; fewer say little


def parse_split(dataset: OrderDataset) -> Split:
    """Return the split settings of a data set in a job spec."""
    fields: Mapping[str, object] = dataset  # Split defines the fields to read
    return Split.parse({field: fields[field] for field in Split.model_fields})


def compute_target_sizes(rows: int, split: Split) -> tuple[int, int]:
    """Return the rows of validation and of test, as documented in Split.

    Together they are never more than half, and each is at least 1 if its share is above 0 and there are 3
    rows.
    """
    shares = (split.validation_size, split.test_size)
    sizes = [max(int(rows >= 3), round(rows * share)) if share else 0 for share in shares]
    room = rows // 2 - sum(sizes)
    if room < 0:
        return _scale_sizes(sizes, rows // 2) if rows >= 4 else (sizes[0], sizes[1])
    short = [  # rows that a part with the default share lacks to the minimum
        max(0, MIN_PART_ROWS - size) if rows >= SMALL_DATASET_ROWS and share == DEFAULT_SHARE else 0
        for share, size in zip(shares, sizes, strict=True)
    ]
    more = _scale_sizes(short, min(room, sum(short)))  # from the rows that the shares leave
    return sizes[0] + more[0], sizes[1] + more[1]


def _scale_sizes(sizes: list[int], total: int) -> tuple[int, int]:
    """Scale two sizes to `total` rows, each at least 1 if its size is above 0 and there are rows."""
    whole = max(1, sum(sizes))
    first, second = (max(int(total >= 2), total * size // whole) if size else 0 for size in sizes)
    return first, second


def describe_deviations(rows: dict[str, int], split: Split) -> list[str]:
    """Return sentences on why parts deviate from their shares.

    Reasons are the minimum of 50 rows, half of the rows for training, and groups kept together. Parts
    given by the file have no shares. rows: of each part.
    """
    if split.split_by == "given":
        return []
    total, sentences = sum(rows.values()), []
    sizes = compute_target_sizes(total, split)
    parts = ("validation", split.validation_size, sizes[0]), ("test", split.test_size, sizes[1])
    for part, share, target in parts:
        asked, part_rows = round(total * share), rows[part]
        if not share or total < SMALL_DATASET_ROWS or abs(part_rows - asked) <= max(1, 0.05 * asked):
            continue
        why = DEVIATION_REASONS[split.split_by]
        if part_rows == target:
            least = (
                f"a part of the usual {DEFAULT_SHARE:.0%} has {MIN_PART_ROWS} rows at least, where the other"
                " part's share and half of all for training leave them; another share is kept"
            )
            why = least if target > asked else "half of the rows stay with training"
        sentences.append(
            f"{100 * share:.3g}% of {total:,} rows would be {asked:,}; {part} has {part_rows:,}: {why}."
        )
    return sentences


def assign_splits(
    digests: np.ndarray,
    split: Split,
    together: np.ndarray | None = None,
    values: np.ndarray | None = None,
) -> np.ndarray:
    """Return 0 (train), 1 (validation) or 2 (test) for each row, without checks.

    digests: uint64, shape (rows,). together: int64, equal for rows kept together; by default rows of equal
    digest. values: the time of each row as a number (split by time) or its stratum as an int from 0
    (stratified); ignored otherwise.
    """
    digests = digests.astype(np.uint64)
    groups = _Groups(digests, digests if together is None else together, split.split_seed)
    validation, test = compute_target_sizes(len(digests), split)
    codes = np.zeros(len(groups.sizes), dtype=np.uint8)
    if split.split_by == "time" and values is not None:
        _take_newest(codes, groups, groups.smallest(values), validation, test)
    elif split.split_by == "stratified" and values is not None:
        _take_shares(codes, groups, groups.most_frequent(values), np.bincount(values), validation, test)
    else:
        _fill_part(codes, groups.order, groups.sizes, test, 2)
        _fill_part(codes, groups.order[::-1], groups.sizes, validation, 1)
    if split.split_by == "group":
        for code, wanted in ((2, test), (1, validation)):
            if wanted and not (codes == code).any():
                _take_smallest(codes, groups, code)
    return codes[groups.of_row]


class _Groups:
    """Rows that belong together.

    `of_row`: group number of each row. `sizes`: rows of each group. `order`: the groups by the mixed hash
    of their smallest digest, which doesn't depend on the order of the rows.
    """

    def __init__(self, digests: np.ndarray, together: np.ndarray, seed: int) -> None:
        values, self.of_row, self.sizes = np.unique(together, return_inverse=True, return_counts=True)
        keys = np.full(len(values), np.iinfo(np.uint64).max, dtype=np.uint64)
        np.minimum.at(keys, self.of_row, digests)
        self.order = np.argsort(_hash_values(keys, seed), kind="stable")

    def smallest(self, values: np.ndarray) -> np.ndarray:
        """Return the smallest value of each group's rows."""
        smallest_of = np.full(len(self.sizes), np.inf)
        np.minimum.at(smallest_of, self.of_row, values)
        return smallest_of

    def most_frequent(self, values: np.ndarray) -> np.ndarray:
        """Return the most frequent value of each group's rows; the smaller one among equals."""
        pairs, counts = np.unique(np.stack([self.of_row, values]), axis=1, return_counts=True)
        most_of = np.zeros(len(self.sizes), dtype=np.int64)
        best_last = np.lexsort((-pairs[1], counts))
        most_of[pairs[0][best_last]] = pairs[1][best_last]  # the last assignment to a group wins
        return most_of


def _fill_part(codes: np.ndarray, order: np.ndarray, sizes: np.ndarray, wanted: int, code: int) -> None:
    """Assign groups to a part, in order, until it has `wanted` rows; skip groups that are too large."""
    for group in order:
        if wanted <= 0:
            return
        if codes[group] == 0 and sizes[group] <= wanted:
            codes[group] = code
            wanted -= int(sizes[group])


def _take_smallest(codes: np.ndarray, groups: _Groups, code: int) -> None:
    """Assign the smallest group to a part if all groups are larger than the part.

    A part of whole groups would otherwise be empty. At least half of the rows stay in training.
    """
    free = groups.order[codes[groups.order] == 0]
    if len(free) > 1:
        group = free[np.argmin(groups.sizes[free])]
        if (groups.sizes[codes == 0].sum() - groups.sizes[group]) * 2 >= groups.sizes.sum():
            codes[group] = code


def _take_newest(codes: np.ndarray, groups: _Groups, times: np.ndarray, validation: int, test: int) -> None:
    """Assign the newest groups to test and the next ones to validation.

    Groups of the same time are in the same part, so a part may be smaller than wanted, or larger if its
    newest time alone is larger.
    """
    moments, moment_of = np.unique(-times, return_inverse=True)
    rows = np.bincount(moment_of, weights=groups.sizes, minlength=len(moments)).astype(np.int64)
    begin = 0
    for code, wanted in ((2, test), (1, validation)):
        end = begin + int(np.searchsorted(np.cumsum(rows[begin:]), wanted, side="right")) if wanted else begin
        if wanted and end == begin < len(rows) and rows[begin + 1 :].sum() * 2 >= rows.sum():
            end += 1
        codes[(moment_of >= begin) & (moment_of < end)] = code
        begin = end


def _take_shares(
    codes: np.ndarray, groups: _Groups, strata: np.ndarray, rows: np.ndarray, validation: int, test: int
) -> None:
    """Split each stratum (int of each group, of `rows` rows) separately by the shares of the parts."""
    order = groups.order[np.argsort(strata[groups.order], kind="stable")]
    ends = np.cumsum(np.bincount(strata, minlength=len(rows)))
    shares = zip(ends, _distribute_shares(rows, test), _distribute_shares(rows, validation), strict=True)
    begin = 0
    for end, of_test, of_validation in shares:
        stratum, begin = order[begin:end], end
        _fill_part(codes, stratum, groups.sizes, of_test, 2)
        _fill_part(codes, stratum[::-1], groups.sizes, of_validation, 1)


def _distribute_shares(rows: np.ndarray, wanted: int) -> np.ndarray:
    """Distribute `wanted` rows over strata of `rows` rows by the largest remainder method, ints."""
    exact = rows * (wanted / max(1, rows.sum()))
    given: np.ndarray = np.floor(exact).astype(np.int64)
    rest = np.argsort(given - exact, kind="stable")[: wanted - given.sum()]
    given[rest] += 1
    return given


def _hash_values(values: np.ndarray, seed: int) -> np.ndarray:
    """Hash values offset by the seed with SplitMix64 (Steele, Lea and Flood 2014), a bijection (no ties)."""
    with np.errstate(over="ignore"):
        x = values + np.uint64(0x9E3779B97F4A7C15) * np.uint64(seed + 1)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def select_by_hash(digests: np.ndarray, row_ids: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Select the first `most` of these rows by a seeded hash of each row.

    A row's rank depends on the row, not on the other rows. digests: uint64 of all rows of the data set, by
    row id. The hash is that of the split, so that test parts of different sizes start with the same rows.
    Copies of one text have different ranks, otherwise a sample could consist of copies.
    """
    digests = digests.astype(np.uint64)
    order = np.argsort(digests, kind="stable")
    _, first, counts = np.unique(digests[order], return_index=True, return_counts=True)
    copy = np.empty(len(digests), np.uint64)
    copy[order] = np.arange(len(digests)) - np.repeat(first, counts)
    with np.errstate(over="ignore"):
        keys = _hash_values(digests + copy * np.uint64(0xD1B54A32D192ED03), seed)
    return row_ids[np.argsort(keys[row_ids], kind="stable")[:most]]


def count_parts(assigned: np.ndarray) -> dict[str, int]:
    """Return the number of rows of each part from their codes."""
    return {part: int(np.count_nonzero(assigned == code)) for code, part in enumerate(PARTS)}


def check_parts(rows: dict[str, int], split: Split) -> None:
    """Raise ConfigError that names the field if a requested part, or training, has no row."""
    total = sum(rows.values())
    why = "" if total < 3 else f" ({DEVIATION_REASONS[split.split_by]})"
    for part, field in (("validation", "validation_size"), ("test", "test_size")):
        share = getattr(split, field)
        if share and not rows[part]:
            raise ConfigError(
                f"{field} of {share:g} gives {part} 0 of {total} rows{why}.",
                fix=f"Import more rows, split them another way, or set {field} to 0.",
                field=field,
            )
    if not rows["train"]:
        raise ConfigError(
            f"Training is left with 0 of {total} rows{why}.",
            fix="Import more rows, or lower validation_size and test_size.",
            field="validation_size",
        )


DEVIATION_REASONS = {
    "random": "rows of equal text can't be parted",
    "given": "the file defines the part of each row",
    "group": "rows of one group, and rows of equal text, can't be parted",
    "time": "rows of one time, and rows of equal text, can't be parted",
    "stratified": "each stratum gives its share, and rows of equal text can't be parted",
}


def assign_given_splits(
    parts: np.ndarray, digests: np.ndarray, split: Split, together: np.ndarray
) -> np.ndarray:
    """Return 0 (train), 1 (validation) or 2 (test) for each row, by the parts of the file.

    parts: object, a name of PARTS for each row, or None for train. digests: uint64. together: int64, equal
    for rows kept together. All of shape (rows,).
    """
    codes = np.zeros(len(parts), dtype=np.uint8)
    for code, name in enumerate(PARTS):
        codes[parts == name] = code
    sizes = {"validation_size": 1, "test_size": 2}
    missing = {field: getattr(split, field) for field, code in sizes.items() if not (codes == code).any()}
    if any(missing.values()):
        shares = {**dict.fromkeys(sizes, 0.0), **missing}
        rest = split.model_copy(update={**shares, "split_by": "random", "split_column": None})
        train = np.flatnonzero(codes == 0)
        codes[train] = assign_splits(digests[train], rest, together[train])
    return codes


def check_split_column(folder: Path, split: Split) -> None:
    """Raise ConfigError (field split_column) unless a row of `folder`'s data set has a value to split by.

    A stratified split without a column uses the label.
    """
    if split.split_by == "given":
        check_given(folder / "rows.parquet")
    column = split.split_column or ("label" if split.split_by == "stratified" else None)
    if column is None:
        return
    rows = folder / "rows.parquet"
    if column in GROUP_OF:
        if not (folder / "signals" / f"{GROUP_OF[column]}.parquet").exists():
            raise make_not_measured_error(column)
    elif column not in BASE and not column.startswith(SOURCE):
        raise make_unknown_column_error(rows, column)
    else:
        with duckdb.connect(":memory:") as database:
            database.execute("SET threads = 2")
            sql = f"SELECT 1 FROM read_parquet(?) r WHERE ({build_column_sql(column)}) IS NOT NULL LIMIT 1"
            if database.execute(sql, [str(rows)]).fetchone() is None:
                raise make_unknown_column_error(rows, column)


def check_given(rows: Path) -> None:
    """Raise ConfigError (field split_by) unless some row records its part."""
    file = pq.ParquetFile(rows)
    if "part" in file.schema_arrow.names:
        for batch in file.iter_batches(columns=["part"]):
            if batch["part"].null_count < batch.num_rows:
                return
    raise ConfigError(
        "The file does not define the part of a row.",
        fix="Import it again with a split column, or split another way.",
        field="split_by",
    )


def make_unknown_column_error(rows: Path, column: str) -> ConfigError:
    """Build the error for an unknown column, with the available ones."""
    head = next(pq.ParquetFile(rows).iter_batches(batch_size=1, columns=["source", "label"]))
    names = [SOURCE + name for name in json.loads(head["source"][0].as_py())]
    names = [*(["label"] if head["label"][0].is_valid else []), *names]
    return ConfigError(
        f"No row has a column {column!r} to split by.",
        fix=f"The first row has {', '.join(names[:30])}.",
        field="split_column",
    )


def make_not_measured_error(column: str) -> ConfigError:
    """Build the error for a signal that has not been measured."""
    return ConfigError(
        f"{column} has not been measured for this data set yet.",
        fix=f"Measure the group {GROUPS[GROUP_OF[column]].title} first.",
        field="split_column",
    )
