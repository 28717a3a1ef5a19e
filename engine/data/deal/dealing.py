"""How the rows of a data set in the home folder are dealt: what must stay together, and the column to go by.

Rows of equal text never part. Once the duplicates of the rows are known (their sidecar), near duplicates do
not part either, nor do rows with the same prompt: what a model was taught about a question must not be asked
of it again to judge it. Two kinds of groups say less than that and are left to part. A prompt of more than 1%
of the rows is an instruction that rows share (tell a joke), not a question asked twice. And where more
than half of the rows hang together, they are made from one template: then rows are kept together by less, by
near duplicates or, where these are the cause, by equal text alone. `Dealt.kept` says what was kept together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.data.deal.columns import read_strata, read_times, read_values
from engine.data.deal.split import PARTS, check, counts, deal, deal_given
from engine.near.groups import group_of, join, largest
from engine.rows.dataset import load
from store.config.training.train_config import Split
from store.contract.home import Home
from store.documents.data.split import KeptTogether

SHARED_PROMPT = 0.01  # of the rows; a prompt of more rows is an instruction
NAMED = 10  # rows that a sentence lists
FEW_PROMPTS = 10  # rows with one prompt stay together whatever their share


@dataclass(frozen=True)
class Dealt:
    """`row_ids`: int64; `codes`: uint8, 0 train, 1 validation, 2 test, one for each row. `kept`: what was not
    parted, of "text", "near", "prompt" and "group". `together`: rows beyond the first of their group.
    `later`: int64, of a split by time the training rows that are newer than the oldest row of test (of
    validation where there is no test): they hang together with older ones."""

    row_ids: np.ndarray
    codes: np.ndarray
    kept: tuple[KeptTogether, ...]
    together: int
    later: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def ids(self) -> dict[str, np.ndarray]:
        """The row ids of each part."""
        return {part: self.row_ids[self.codes == code] for code, part in enumerate(PARTS)}

    def counts(self) -> dict[str, int]:
        """The rows of each part."""
        return counts(self.codes)


def deal_rows(home: Home, fingerprint: str, split: Split) -> Dealt:
    """The deal, unchecked: a part may be empty. Raises ConfigError (field split_column) for a column that is
    not there or, for a split by time, a row without a time."""
    table = load(home, fingerprint, columns=["row_id", "digest", "part"])
    digests = table["digest"].to_numpy()
    groups, kept = together(home, fingerprint, digests)
    values = None
    if split.split_by == "given":
        parts = table["part"].to_numpy(zero_copy_only=False)
        codes = deal_given(parts, digests, split, groups)
        return Dealt(table["row_id"].to_numpy(), codes, (), 0)
    if split.split_by == "group":
        values = read_values(home, fingerprint, split.split_column or "")
        valued = np.flatnonzero(values >= 0)  # a row without a value is a group of its own
        first = valued[group_of(values[valued])]
        groups, kept = join(groups, valued, first), (*kept, "group")
    elif split.split_by == "time":
        values = read_times(home, fingerprint, split.split_column or "")
    elif split.split_by == "stratified":
        values = read_strata(home, fingerprint, split.split_column or "label")
    codes = deal(digests, split, groups, values)
    later = np.zeros(0, np.int64)
    if split.split_by == "time" and values is not None:
        later = table["row_id"].to_numpy()[_later(codes, values)]
    return Dealt(table["row_id"].to_numpy(), codes, kept, len(digests) - len(np.unique(groups)), later)


def _later(codes: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The training rows that are newer than the oldest row of test, or of validation without one."""
    held = codes == (2 if (codes == 2).any() else 1)
    if not held.any():
        return np.zeros(0, np.int64)
    return np.flatnonzero((codes == 0) & (times > times[held].min()))


def later_words(later: np.ndarray) -> str:
    """A sentence about training rows that are newer than what judges them; "" where there is none."""
    if not len(later):
        return ""
    named = ", ".join(f"{row:,}" for row in later[:NAMED])
    more = f" and {len(later) - NAMED:,} more" if len(later) > NAMED else ""
    rows = "row is" if len(later) == 1 else "rows are"
    return (
        f"{len(later):,} training {rows} newer than the oldest row held out, as they repeat, or hang together"
        f" with, rows that are older: {named}{more}. Drop duplicates to be rid of them."
    )


def assign_rows(home: Home, fingerprint: str, split: Split) -> Dealt:
    """The deal. Raises ConfigError also where training, or a part that was asked for, would have no row."""
    dealt = deal_rows(home, fingerprint, split)
    check(dealt.counts(), split)
    return dealt


def together(
    home: Home, fingerprint: str, digests: np.ndarray
) -> tuple[np.ndarray, tuple[KeptTogether, ...]]:
    """For each row the first row of those that it must not be parted from, and what made them so."""
    text = group_of(digests)
    path = home.signals(fingerprint, "duplicates")
    if not path.exists():
        return text, ("text",)
    chain, prompts = hanging_together(path)
    near = join(text, *_members(chain.to_numpy()))
    rows, first = _members(prompts.to_numpy())
    shared = np.bincount(first, minlength=len(digests))[first]
    question = shared <= max(FEW_PROMPTS, SHARED_PROMPT * len(digests))
    prompt = join(near, rows[question], first[question])
    if largest(prompt) * 2 <= len(digests):
        return prompt, ("text", "near", "prompt")
    if largest(near) * 2 <= len(digests):
        return near, ("text", "near")
    return text, ("text",)


def hanging_together(sidecar: Path) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Of each row the first of those that near duplicates chain it to, and the first with its prompt; null
    for a row that is alone. In a sidecar without chains the groups of near duplicates are chains."""
    names = pq.read_schema(sidecar).names
    chain = "near_chain" if "near_chain" in names else "near_group"
    table = pq.read_table(sidecar, columns=[chain, "prompt_group"])
    return table[chain], table["prompt_group"]


def _members(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are in a group, and the first row of theirs; null (NaN in numpy) is no group."""
    values = column.astype(np.float64)
    rows = np.flatnonzero(~np.isnan(values))
    return rows, values[rows].astype(np.int64)
