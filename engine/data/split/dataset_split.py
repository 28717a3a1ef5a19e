"""Split the rows of a data set in the home folder, by groups that stay together and a column.

Rows of equal text are always in one part. Once duplicates are measured (their sidecar exists), near
duplicates and rows with the same prompt are too, because a model must not be judged by a question that it
was trained on. Two kinds of groups are weaker and may be separated. A prompt of more than 1% of the rows
is an instruction that rows share (tell a joke), not a repeated question. And if more than half of the rows
are connected, they are made from one template: then less keeps rows together, that is near duplicates or,
if these are the cause, equal text alone. `SplitAssignment.kept` says what was kept together.

Also reads the parts that finished runs stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.data.similarity.equality import group_equal, measure_largest_group, merge_groups
from engine.data.split.partition import (
    PARTS,
    assign_given_splits,
    assign_splits,
    check_parts,
    count_parts,
    make_not_measured_error,
    make_unknown_column_error,
)
from store.core.errors import ConfigError, DataError
from store.core.home import Home
from store.core.job_folder import JobDir, read_json
from store.core.row_schemas import SplitGrouping
from store.data.dataset_files import load_rows, open_rows
from store.data.filters import BASE, SOURCE, build_column_sql
from store.data.signals import GROUP_OF
from store.training.split import Split


def read_column(home: Home, fingerprint: str, column: str) -> pa.Array:
    """Return the column as texts in row order, null for rows without a value.

    `column`: one of store.data.filters.BASE, `source.NAME`, or a measured signal. Raises ConfigError
    (field split_column) if the rows don't have the column.
    """
    open_rows(home, fingerprint)  # raises if they no longer exist
    if column in GROUP_OF:
        path = home.signals(fingerprint, GROUP_OF[column])
        if not path.exists():
            raise make_not_measured_error(column)
        return pq.read_table(path, columns=[column])[column].combine_chunks().cast(pa.string())
    if column not in BASE and not column.startswith(SOURCE):
        raise make_unknown_column_error(home.rows(fingerprint), column)
    with duckdb.connect(":memory:") as database:
        database.execute("SET threads = 2")
        sql = f"SELECT ({build_column_sql(column)})::VARCHAR AS v FROM read_parquet(?) r ORDER BY row_id"
        table = database.sql(sql, params=[str(home.rows(fingerprint))]).to_arrow_table()
        values = table["v"].combine_chunks().cast(pa.string())
    if values.null_count == len(values):
        raise make_unknown_column_error(home.rows(fingerprint), column)
    return values


def read_values(home: Home, fingerprint: str, column: str) -> np.ndarray:
    """Return an int64 code from 0 for each row, equal for equal values; -1 for rows without a value."""
    codes = pc.dictionary_encode(read_column(home, fingerprint, column)).indices
    return np.asarray(pc.fill_null(codes, -1), dtype=np.int64)


def read_strata(home: Home, fingerprint: str, column: str) -> np.ndarray:
    """Like `read_values`, in the order of the values; rows without a value form their own stratum."""
    texts: np.ndarray = read_column(home, fingerprint, column).to_numpy(zero_copy_only=False).astype(object)
    missing = pd.isna(texts)
    names, codes = np.unique(texts[~missing].astype(str), return_inverse=True)
    strata = np.full(len(texts), len(names), dtype=np.int64)
    strata[~missing] = codes
    return strata


def read_times(home: Home, fingerprint: str, column: str) -> np.ndarray:
    """Return the column as times, float64.

    These are the numbers themselves if every row has one, otherwise ISO 8601 dates in seconds since 1970
    (a time without a zone is UTC). Raises ConfigError that names the first row that has neither.
    """
    texts = pd.Series(read_column(home, fingerprint, column).to_numpy(zero_copy_only=False), dtype=object)
    numbers = pd.to_numeric(texts, errors="coerce")
    if numbers.notna().all() and np.isfinite(numbers).all():
        return numbers.to_numpy(dtype=np.float64)
    times = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
    if times.isna().any():
        row = int(np.flatnonzero(times.isna())[0])
        value: str = "nothing" if pd.isna(texts[row]) else repr(texts[row][:60])
        raise ConfigError(
            f"Row {row} has {value} in {column}, which is not a time ({int(times.isna().sum()):,} of"
            f" {len(texts):,} rows have none).",
            fix="Give every row a date in ISO 8601 (2026-11-25T14:30) or a number, or split another way.",
            field="split_column",
        )
    return (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy(dtype=np.float64)


SHARED_PROMPT = 0.01  # share of rows; a prompt of more rows is an instruction
MAX_NAMED = 10  # rows listed in a sentence
FEW_PROMPTS = 10  # up to so many rows with one prompt always stay together


@dataclass(frozen=True)
class SplitAssignment:
    """The part of each row.

    `row_ids`: int64. `codes`: uint8, 0 train, 1 validation, 2 test. `kept`: what was kept together, of
    "text", "near", "prompt" and "group". `together`: rows beyond the first of their group. `later`: int64,
    for a split by time, the training rows newer than the oldest test row (validation row if there is no
    test), because they are connected to older rows.
    """

    row_ids: np.ndarray
    codes: np.ndarray
    kept: tuple[SplitGrouping, ...]
    together: int
    later: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def ids(self) -> dict[str, np.ndarray]:
        """Return the row ids of each part."""
        return {part: self.row_ids[self.codes == code] for code, part in enumerate(PARTS)}

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each part."""
        return count_parts(self.codes)


def assign_rows_unchecked(home: Home, fingerprint: str, split: Split) -> SplitAssignment:
    """Split the rows without checks; a part may be empty.

    Raises ConfigError (field split_column) for a missing column or, in a split by time, a row without a
    time.
    """
    table = load_rows(home, fingerprint, columns=["row_id", "digest", "part"])
    digests = table["digest"].to_numpy()
    groups, kept = find_groups(home, fingerprint, digests)
    values = None
    if split.split_by == "given":
        parts = table["part"].to_numpy(zero_copy_only=False)
        codes = assign_given_splits(parts, digests, split, groups)
        return SplitAssignment(table["row_id"].to_numpy(), codes, (), 0)
    if split.split_by == "group":
        values = read_values(home, fingerprint, split.split_column or "")
        valued = np.flatnonzero(values >= 0)  # rows without a value are groups of their own
        first = valued[group_equal(values[valued])]
        groups, kept = merge_groups(groups, valued, first), (*kept, "group")
    elif split.split_by == "time":
        values = read_times(home, fingerprint, split.split_column or "")
    elif split.split_by == "stratified":
        values = read_strata(home, fingerprint, split.split_column or "label")
    codes = assign_splits(digests, split, groups, values)
    later = np.zeros(0, np.int64)
    if split.split_by == "time" and values is not None:
        later = table["row_id"].to_numpy()[_find_later_rows(codes, values)]
    return SplitAssignment(
        table["row_id"].to_numpy(), codes, kept, len(digests) - len(np.unique(groups)), later
    )


def _find_later_rows(codes: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the training rows newer than the oldest test row, or validation row if there is no test."""
    held = codes == (2 if (codes == 2).any() else 1)
    if not held.any():
        return np.zeros(0, np.int64)
    return np.flatnonzero((codes == 0) & (times > times[held].min()))


def describe_later_rows(later: np.ndarray) -> str:
    """Return a sentence about training rows newer than held-out ones; "" if there are none."""
    if not len(later):
        return ""
    named = ", ".join(f"{row:,}" for row in later[:MAX_NAMED])
    more = f" and {len(later) - MAX_NAMED:,} more" if len(later) > MAX_NAMED else ""
    rows = "row is" if len(later) == 1 else "rows are"
    return (
        f"{len(later):,} training {rows} newer than the oldest row held out, as they repeat, or hang together"
        f" with, rows that are older: {named}{more}. Drop duplicates to be rid of them."
    )


def assign_rows(home: Home, fingerprint: str, split: Split) -> SplitAssignment:
    """Split the rows. Also raises ConfigError if training or a requested part would have no row."""
    dealt = assign_rows_unchecked(home, fingerprint, split)
    check_parts(dealt.counts(), split)
    return dealt


def find_groups(
    home: Home, fingerprint: str, digests: np.ndarray
) -> tuple[np.ndarray, tuple[SplitGrouping, ...]]:
    """Return for each row the first row of the group kept together, and what groups them."""
    text = group_equal(digests)
    path = home.signals(fingerprint, "duplicates")
    if not path.exists():
        return text, ("text",)
    chain, prompts = read_duplicate_groups(path)
    near = merge_groups(text, *_list_members(chain.to_numpy()))
    rows, first = _list_members(prompts.to_numpy())
    shared = np.bincount(first, minlength=len(digests))[first]
    question = shared <= max(FEW_PROMPTS, SHARED_PROMPT * len(digests))
    prompt = merge_groups(near, rows[question], first[question])
    if measure_largest_group(prompt) * 2 <= len(digests):
        return prompt, ("text", "near", "prompt")
    if measure_largest_group(near) * 2 <= len(digests):
        return near, ("text", "near")
    return text, ("text",)


def read_duplicate_groups(sidecar: Path) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Return for each row the first row of its near-duplicate chain and the first row with its prompt.

    Null for a row that is alone. In a sidecar without chains, the near-duplicate groups are used.
    """
    names = pq.read_schema(sidecar).names
    chain = "near_chain" if "near_chain" in names else "near_group"
    table = pq.read_table(sidecar, columns=[chain, "prompt_group"])
    return table[chain], table["prompt_group"]


def _list_members(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that are in a group, and the first row of their group.

    Null (NaN in numpy) is no group.
    """
    values = column.astype(np.float64)
    rows = np.flatnonzero(~np.isnan(values))
    return rows, values[rows].astype(np.int64)


# The split of a finished run, for work that must not train on the rows that judged it.
#
# The split stored by the run is used, because more duplicates may be known by now and a new split could
# differ. Rows that the run did not use (`max_train_rows`, `max_eval_rows`) are held out if the split holds
# them out, and otherwise in no part, as the run never trained on them.


def read_parts_of_run(home: Home, fingerprint: str, run_id: str) -> np.ndarray:
    """Return the part of each row of the run's data set, or None: object, by row id.

    Raises DataError if the run no longer exists or used other rows.
    """
    folder = JobDir(home.jobs / run_id)
    spec = read_json(folder.config)
    if spec is None or not folder.split.exists():
        raise DataError(
            f"The split of the run {run_id} no longer exists, so its held-out rows are unknown.",
            fix="Name another run.",
            field="run",
        )
    table = pq.read_table(folder.split, columns=["row_id", "split"])
    count = open_rows(home, fingerprint).metadata.num_rows
    row_ids = table["row_id"].to_numpy()
    if spec["dataset"]["fingerprint"] != fingerprint or (len(row_ids) and row_ids.max() >= count):
        raise DataError(
            f"The run {run_id} was of other rows than these.",
            fix="Name its own data set.",
            field="run",
        )
    parts = np.full(count, None, object)
    parts[row_ids] = table["split"].to_numpy(zero_copy_only=False)
    if any(part is None for part in parts):
        codes = assign_rows_unchecked(home, fingerprint, Split.parse(spec["split"])).codes
        held = (codes > 0) & np.array([part is None for part in parts])
        parts[held] = np.array(PARTS, object)[codes[held]]
    return parts


def compute_parts_by_split(home: Home, fingerprint: str, split: Split) -> np.ndarray:
    """Return the part of each row by the current split, like `read_parts_of_run`."""
    parts: np.ndarray = np.array(PARTS, object)[assign_rows_unchecked(home, fingerprint, split).codes]
    return parts
