"""Prepare the training, validation and test rows of a run, tokenized or with classes.

The rows are a function of data, split and `split_seed` alone: runs that differ in model, method or seed
see the same rows. Rows without a trained token are dropped and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.data.split import dataset_split, leakage, partition
from engine.models import classification
from engine.models.classification import UNSEEN_CLASS, Labels
from engine.models.tokenization import tokenized_rows
from engine.models.tokenization.rendering import Load, TokenRows, compute_fitting_length
from engine.models.tokenization.tokenized_rows import LoadRows, TokenisationRequest, tokenise_rows
from engine.models.tokenization.tool_turns import TOOLS
from engine.worker.job import WorkerJob
from store.core.errors import ConfigError, DataError
from store.core.home import Home
from store.core.job_folder import JobDir, write_atomically
from store.core.training_schemas import PreviewClasses
from store.data import dataset_files
from store.training.methods import METHODS, SHIFTED
from store.training.split import Split
from store.training.train_config import TrainConfig

PARTS = partition.PARTS


@dataclass
class TokenisedPart:
    """Tokenized rows of one part.

    `rows`: cut to length, each with at least one trained token. `whole`: all rows of the part.
    """

    whole: TokenRows
    rows: TokenRows
    truncated: int
    lost_tokens: int

    @property
    def untrained(self) -> int:
        """Number of rows dropped because they have no trained token."""
        return len(self.whole) - len(self.rows)


def assign_parts(home: Home, fingerprint: str, parts: Split, config: TrainConfig) -> dict[str, np.ndarray]:
    """Return the sorted row ids of each part, after `max_train_rows` and `max_eval_rows`.

    Raises DataError if no rows are left for training or validation.
    """
    return select_rows(dataset_split.assign_rows(home, fingerprint, parts), parts, config)


def load_split_rows(
    job: WorkerJob, fingerprint: str, parts: Split, config: TrainConfig
) -> dict[str, np.ndarray]:
    """Return the rows of each part; a resumed run uses those of its first attempt.

    Duplicates measured since the first attempt could otherwise change the split.
    """
    if job.resume and job.dir.split.exists():
        return read_previous_split(job)
    whole = dataset_split.assign_rows(job.home, fingerprint, parts)
    dealt = select_rows(whole, parts, config)
    if "opened_by" in job.spec:  # known duplicates may differ on this machine
        dealt = _read_bundled_split(job, len(whole.row_ids))
    if later := dataset_split.describe_later_rows(whole.later):
        job.alert(later)
    job.facts(split_kept=list(whole.kept), leaks=leakage.find_leaks(job.home, fingerprint, dealt))
    names = [name for name in PARTS for _ in dealt[name]]
    ids = np.concatenate([dealt[name] for name in PARTS])
    with write_atomically(job.dir.split, flush=False) as unfinished:  # read by a resumed run
        pq.write_table(pa.table({"row_id": ids, "split": names}), unfinished)
    return dealt


def read_previous_split(job: WorkerJob) -> dict[str, np.ndarray]:
    """Return the rows of each part as assigned in an earlier attempt of this job."""
    return _read_split(job.dir.split)


def _read_bundled_split(job: WorkerJob, row_count: int) -> dict[str, np.ndarray]:
    """Return the rows of each part as stored in the bundle that the run was launched from.

    Raises DataError if they don't match the data set.
    """
    path = JobDir(job.home.jobs / job.spec["opened_by"]).split
    if not path.exists():
        raise DataError("The opened bundle no longer exists.", fix="Reproduce the bundle again.")
    dealt = _read_split(path)
    check_split(dealt, row_count)
    return dealt


def check_split(dealt: Mapping[str, np.ndarray], row_count: int) -> None:
    """Raise DataError if an external split is not valid for `row_count` rows."""
    ids = np.concatenate([dealt[part] for part in PARTS])
    whole = len(dealt["train"]) and len(dealt["validation"]) and len(np.unique(ids)) == len(ids)
    if not whole or ids.min() < 0 or ids.max() >= row_count:
        raise DataError(
            "The split in the bundle doesn't match its rows.", fix="Request a new copy of the bundle."
        )


def _read_split(path: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(path)
    names = table["split"].to_numpy(zero_copy_only=False)
    return {part: table["row_id"].to_numpy()[names == part] for part in PARTS}


def select_rows(
    whole: dataset_split.SplitAssignment, parts: Split, config: TrainConfig
) -> dict[str, np.ndarray]:
    """Return the rows of a split that a run uses, like `assign_parts`."""
    limits = {
        "train": config.max_train_rows,
        "validation": config.max_eval_rows,
        "test": config.max_eval_rows,
    }
    dealt = {
        name: _sample(ids, limits[name], parts.split_seed, number)
        for number, (name, ids) in enumerate(whole.ids().items())
    }
    for name in ("train", "validation"):
        if not len(dealt[name]):
            raise DataError(
                f"No rows are left for {name} out of {len(whole.row_ids)} rows in the data set.",
                fix="Use a larger data set, or a smaller validation_size and test_size.",
                field="validation_size" if name == "validation" else "dataset",
            )
    return dealt


def _sample(ids: np.ndarray, limit: int | None, seed: int, part: int) -> np.ndarray:
    if limit is None or len(ids) <= limit:
        return np.sort(ids)
    return np.sort(np.random.default_rng([seed, part]).choice(ids, limit, replace=False))


def make_loader(home: Home, fingerprint: str, kind: str) -> Load:
    """Return a function from row ids to the input of `render`.

    That is texts for text data, otherwise lists of messages.
    """
    column = "text" if kind == "text" else "messages"

    def load(row_ids: np.ndarray) -> list[Any]:
        values: list[Any] = dataset_files.load_rows(home, fingerprint, columns=[column], row_ids=row_ids)[
            column
        ].to_pylist()
        return values

    return load


def has_function_calls(home: Home, fingerprint: str) -> bool:
    """Return whether rows of a data set call functions or list tools."""
    batches = dataset_files.open_rows(home, fingerprint).iter_batches(columns=["messages"])
    roles = (pc.struct_field(pc.list_flatten(batch.column("messages")), "role") for batch in batches)
    return any(pc.any(pc.equal(of_batch, TOOLS)).as_py() for of_batch in roles)


def make_rejected_loader(home: Home, fingerprint: str) -> Load:
    """Return a function from row ids to conversations that end with the rejected answer.

    For preference data.
    """

    def load(row_ids: np.ndarray) -> list[Any]:
        table = dataset_files.load_rows(home, fingerprint, columns=["messages", "rejected"], row_ids=row_ids)
        pairs = zip(table["messages"].to_pylist(), table["rejected"].to_pylist(), strict=True)
        return [[*messages[:-1], {"role": "assistant", "content": answer}] for messages, answer in pairs]

    return load


@dataclass(frozen=True)
class SplitRows:
    """Row ids of each part. fingerprint, kind: of the data set."""

    fingerprint: str
    kind: str
    ids: Mapping[str, np.ndarray]


def tokenise(
    home: Home,
    config: TrainConfig,
    tokenizer: Any,
    dealt: SplitRows,
    *,
    on_rows: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, TokenRows]:
    """Return the tokenized rows of each part, not yet cut to length; pairs for preference tuning.

    Raises ConfigError for preference tuning on a data set without rejected answers.
    """
    all_ids = np.concatenate([dealt.ids[name] for name in PARTS])
    fingerprint = dealt.fingerprint
    preference = config.task == "dpo"
    if preference:
        check_rejected(home, fingerprint)

    def rows_of(load: LoadRows, variant: str = "") -> TokenRows:
        return tokenise_rows(
            home,
            tokenizer,
            TokenisationRequest(
                fingerprint=fingerprint,
                row_count=dataset_files.open_rows(home, fingerprint).metadata.num_rows,
                row_ids=all_ids,
                completion_only=preference or config.completion_only_loss,
                load=load,
                variant=variant,
            ),
            on_rows=on_rows,
        )

    rows = rows_of(make_loader(home, fingerprint, dealt.kind))
    if preference:
        rows = tokenized_rows.join_pairs(rows, rows_of(make_rejected_loader(home, fingerprint), "rejected"))
    return _divide_by_part(rows, dealt)


def _divide_by_part(rows: TokenRows, dealt: SplitRows) -> dict[str, TokenRows]:
    """Split concatenated rows into the rows of each part."""
    counts = [len(dealt.ids[name]) for name in PARTS]
    ends = np.cumsum(counts)
    return {
        name: rows.take(np.arange(end - count, end))
        for name, count, end in zip(PARTS, counts, ends, strict=True)
    }


def check_rejected(home: Home, fingerprint: str) -> None:
    """Raise ConfigError if the data set has no rejected answers."""
    first = dataset_files.load_rows(home, fingerprint, columns=["rejected"], row_ids=[0])
    if not first["rejected"][0].is_valid:
        raise ConfigError(
            "task is dpo, but the rows of the data set have no rejected answers.",
            fix="Use a data set of preferred and rejected answers, or set task to sft.",
            field="task",
        )


def read_row_kind(home: Home, fingerprint: str) -> str:
    """Return `text` for a data set of plain texts, `chat` for conversations."""
    first = dataset_files.load_rows(home, fingerprint, columns=["messages"], row_ids=[0])
    return "chat" if first["messages"][0].is_valid else "text"


def count_positions(architecture: Any, config: TrainConfig) -> int | None:
    """Return the positions of the model available for a row, less those taken by virtual tokens."""
    most = getattr(architecture.get_text_config(), "max_position_embeddings", None)
    taken = config.num_virtual_tokens if METHODS[config.method].virtual_tokens else 0
    if architecture.model_type in SHIFTED:
        taken += (architecture.pad_token_id or 0) + 1
    return most - taken if most else None


def choose_max_length(config: TrainConfig, train: TokenRows, positions: int | None) -> int:
    """Return `max_length`, or a length that nearly all training rows fit into (`compute_fitting_length`).

    Never exceeds the model's positions.
    """
    if config.max_length is None:
        return compute_fitting_length(train.sequence_lengths, positions)
    return min(config.max_length, positions) if positions else config.max_length


def resolve_max_length(config: TrainConfig, train: TokenRows, positions: int | None) -> int:
    """Like `choose_max_length`, but raise ConfigError if `max_length` exceeds the model's positions."""
    if config.max_length and positions and config.max_length > positions:
        raise ConfigError(
            f"max_length is {config.max_length}, and the model has {positions} positions.",
            fix=f"Set max_length to {positions} or less, or leave it out.",
            field="max_length",
        )
    return choose_max_length(config, train, positions)


def compute_lossless_length(
    train: TokenRows, max_length: int, positions: int | None
) -> tuple[int, float] | None:
    """Return the length at which no row is cut, and the relative increase in tokens over `max_length`.

    The length is limited to the model's positions. Returns None if no row is cut at `max_length`.
    """
    lengths = train.sequence_lengths
    longest = min(int(lengths.max(initial=0)), positions or int(lengths.max(initial=0)))
    if longest <= max_length:
        return None
    tokens = np.minimum(lengths, max_length).sum()
    return longest, float(np.minimum(lengths, longest).sum() / tokens - 1)


def truncate_rows(rows: TokenRows, max_length: int) -> TokenisedPart:
    """Cut the rows to `max_length` and drop those left without a trained token."""
    shorter, truncated, lost = rows.truncated(max_length)
    kept = np.flatnonzero(shorter.trained_counts > 0)
    return TokenisedPart(shorter, shorter.take(kept), truncated, lost)


RowsByPart = Mapping[str, np.ndarray]
MAX_LISTED = 100  # classes listed in a preview, the largest first


@dataclass
class ClassRows:
    """Rows for classification.

    labels: of all rows. `kept`: ids of the labeled rows of each part. `whole`: tokens, before they are cut,
    of the rows that are tokenized. unlabelled: number of rows without a label.
    """

    labels: Labels
    kept: dict[str, np.ndarray]
    whole: dict[str, TokenRows]
    unlabelled: int

    def cut(self, tokenizer: Any, limit: int) -> dict[str, TokenisedPart]:
        """Cut each part to `limit` tokens and drop rows without a token.

        Raises DataError if the training or validation part is empty then.
        """
        parts = {}
        for name, rows in self.whole.items():
            shorter, truncated, lost = classification.truncate_texts(tokenizer, rows, limit)
            parts[name] = TokenisedPart(
                shorter, shorter.take(np.flatnonzero(shorter.lengths > 0)), truncated, lost
            )
            if name != "test" and not len(parts[name].rows):
                raise DataError(
                    f"No {name} row has a text.",
                    fix="Check the column mapping of the data set.",
                    field="dataset",
                )
        return parts

    def unseen(self) -> dict[str, int]:
        """Return the labels of held-out rows that don't occur in training, with their row counts."""
        return self.labels.unseen(np.concatenate([self.kept[part] for part in PARTS[1:]]))

    def document(self) -> PreviewClasses:
        """Return `classes` of a preview."""
        train, validation, test = (self.counts(part).tolist() for part in PARTS)
        named: list[tuple[str, int, int, int]] = list(
            zip(self.labels.names, train, validation, test, strict=True)
        )
        named.sort(key=lambda row: (-row[1], row[0]))
        held = np.concatenate([self.kept[part] for part in PARTS[1:]])
        return PreviewClasses(
            count=len(named),
            rows=named[:MAX_LISTED],
            smallest=named[-1][1],
            unlabelled=self.unlabelled,
            unseen=self.unseen(),
            unseen_rows=int((self.labels.of(held) == UNSEEN_CLASS).sum()),
        )

    def counts(self, part: str) -> np.ndarray:
        """Return the number of rows of each class in a part."""
        ids = self.labels.of(self.kept[part])
        return np.bincount(ids[ids >= 0], minlength=len(self.labels.names))


def load_class_rows(
    home: Home,
    config: TrainConfig,
    tokenizer: Any,
    dealt: SplitRows,
    *,
    counted: Callable[[dict[str, np.ndarray]], RowsByPart] = lambda kept: kept,
    on_rows: Callable[[int, int], None] = lambda done, total: None,
) -> ClassRows:
    """Load the rows of the split with labels and token ids. counted: selects the rows to tokenize.

    Raises ConfigError and DataError like `classification.load_labels`.
    """
    fingerprint = dealt.fingerprint
    labels, kept, unlabelled = classification.load_labels(home, fingerprint, dealt.ids)
    some = counted(kept)
    rows = tokenise_rows(
        home,
        tokenizer,
        TokenisationRequest(
            fingerprint=fingerprint,
            row_count=dataset_files.open_rows(home, fingerprint).metadata.num_rows,
            row_ids=np.concatenate([some[name] for name in PARTS]),
            completion_only=config.completion_only_loss,
            load=lambda row_ids: classification.load_texts(home, fingerprint, row_ids),
            encode=classification.encode_texts,
            variant="text alone",
        ),
        on_rows=on_rows,
    )
    return ClassRows(labels, kept, {name: rows.select(some[name]) for name in PARTS}, unlabelled)
