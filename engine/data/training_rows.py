"""From a data set and a config to the rows that are trained, validated and judged on, tokenised or with
classes.

Which rows those are is a function of data, split and `split_seed` alone: runs that differ in model, method
or seed see the same rows. Rows without a trained token are dropped here, counted, never silently.
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

# From a data set and a config to the rows that are trained, validated and judged on, tokenised.
#
# Which rows those are is a function of the data, the split and `split_seed` alone: runs that differ in model,
# method or seed see the same rows. Rows without a trained token are dropped here, counted, never silently.

PARTS = partition.PARTS


@dataclass
class TokenisedPart:
    """The rows of one part. `rows`: cut to length, each with a trained token; `whole`: before that."""

    whole: TokenRows
    rows: TokenRows
    truncated: int
    lost_tokens: int

    @property
    def untrained(self) -> int:
        """Rows that were dropped because no token of theirs is trained."""
        return len(self.whole) - len(self.rows)


def assign_parts(home: Home, fingerprint: str, parts: Split, config: TrainConfig) -> dict[str, np.ndarray]:
    """Row ids of each part, sorted, after `max_train_rows` and `max_eval_rows`.

    Raises DataError where the data set has no rows to train or to validate on.
    """
    return select_rows(dataset_split.assign_rows(home, fingerprint, parts), parts, config)


def load_split_rows(
    job: WorkerJob, fingerprint: str, parts: Split, config: TrainConfig
) -> dict[str, np.ndarray]:
    """The rows of each part; those of the first attempt where the run is resumed, though more may be known of
    the duplicates by now."""
    if job.resume and job.dir.split.exists():
        return read_previous_split(job)
    whole = dataset_split.assign_rows(job.home, fingerprint, parts)
    dealt = select_rows(whole, parts, config)
    if "opened_by" in job.spec:  # more or less may be known of the duplicates here
        dealt = _read_bundled_split(job, len(whole.row_ids))
    if later := dataset_split.describe_later_rows(whole.later):
        job.alert(later)
    job.facts(split_kept=list(whole.kept), leaks=leakage.find_leaks(job.home, fingerprint, dealt))
    names = [name for name in PARTS for _ in dealt[name]]
    ids = np.concatenate([dealt[name] for name in PARTS])
    with write_atomically(job.dir.split, flush=False) as unfinished:  # a resumed run goes by it
        pq.write_table(pa.table({"row_id": ids, "split": names}), unfinished)
    return dealt


def read_previous_split(job: WorkerJob) -> dict[str, np.ndarray]:
    """The rows of each part as they were dealt to this job."""
    return _read_split(job.dir.split)


def _read_bundled_split(job: WorkerJob, row_count: int) -> dict[str, np.ndarray]:
    """The rows of each part as the bundle has them, from which the run was launched. Raises DataError where
    these are no rows of the data set."""
    path = JobDir(job.home.jobs / job.spec["opened_by"]).split
    if not path.exists():
        raise DataError("The opened bundle no longer exists.", fix="Reproduce the bundle again.")
    dealt = _read_split(path)
    check_split(dealt, row_count)
    return dealt


def check_split(dealt: Mapping[str, np.ndarray], row_count: int) -> None:
    """Raise DataError where a split that came from elsewhere is not one of so many rows."""
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
    """The rows of a deal that a run takes; as `deal`."""
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
    """Row ids to what `render` takes: texts of a text data set, else lists of messages."""
    column = "text" if kind == "text" else "messages"

    def load(row_ids: np.ndarray) -> list[Any]:
        values: list[Any] = dataset_files.load_rows(home, fingerprint, columns=[column], row_ids=row_ids)[
            column
        ].to_pylist()
        return values

    return load


def has_function_calls(home: Home, fingerprint: str) -> bool:
    """Whether rows of a data set call functions, or say which could be called."""
    batches = dataset_files.open_rows(home, fingerprint).iter_batches(columns=["messages"])
    return any(_has_tools(batch.column("messages")) for batch in batches)


def _has_tools(conversations: pa.Array) -> bool:
    roles = pc.struct_field(pc.list_flatten(conversations), "role")
    return bool(pc.any(pc.equal(roles, TOOLS)).as_py())


def make_rejected_loader(home: Home, fingerprint: str) -> Load:
    """Row ids to the conversations of a preference data set that end with the rejected answer."""

    def load(row_ids: np.ndarray) -> list[Any]:
        table = dataset_files.load_rows(home, fingerprint, columns=["messages", "rejected"], row_ids=row_ids)
        pairs = zip(table["messages"].to_pylist(), table["rejected"].to_pylist(), strict=True)
        return [[*messages[:-1], {"role": "assistant", "content": answer}] for messages, answer in pairs]

    return load


@dataclass(frozen=True)
class SplitRows:
    """The rows of each part, by id. fingerprint, kind: of the data set."""

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
    """The rows of each part as the model sees them, not yet cut to length; pairs for preference tuning.

    Raises ConfigError where preference tuning is asked of a data set without rejected answers.
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
    """The rows of each part out of those of all parts, one part after the other."""
    counts = [len(dealt.ids[name]) for name in PARTS]
    ends = np.cumsum(counts)
    return {
        name: rows.take(np.arange(end - count, end))
        for name, count, end in zip(PARTS, counts, ends, strict=True)
    }


def check_rejected(home: Home, fingerprint: str) -> None:
    """Raise ConfigError unless the data set has rejected answers beside the chosen ones."""
    first = dataset_files.load_rows(home, fingerprint, columns=["rejected"], row_ids=[0])
    if not first["rejected"][0].is_valid:
        raise ConfigError(
            "task is dpo, but the rows of the data set have no rejected answers.",
            fix="Use a data set of preferred and rejected answers, or set task to sft.",
            field="task",
        )


def read_row_kind(home: Home, fingerprint: str) -> str:
    """`text` for a data set of plain texts, `chat` for one of conversations."""
    first = dataset_files.load_rows(home, fingerprint, columns=["messages"], row_ids=[0])
    return "chat" if first["messages"][0].is_valid else "text"


def count_positions(architecture: Any, config: TrainConfig) -> int | None:
    """Positions that the model has for a row; tokens that the method puts before each row take some."""
    most = getattr(architecture.get_text_config(), "max_position_embeddings", None)
    taken = config.num_virtual_tokens if METHODS[config.method].virtual_tokens else 0
    if architecture.model_type in SHIFTED:
        taken += (architecture.pad_token_id or 0) + 1
    return most - taken if most else None


def choose_max_length(config: TrainConfig, train: TokenRows, positions: int | None) -> int:
    """`max_length`, or what nearly all training rows fit into (`compute_fitting_length`); never beyond the
    model's
    positions."""
    if config.max_length is None:
        return compute_fitting_length(train.sequence_lengths, positions)
    return min(config.max_length, positions) if positions else config.max_length


def resolve_max_length(config: TrainConfig, train: TokenRows, positions: int | None) -> int:
    """As `fitting`; raises ConfigError where `max_length` is beyond the model's positions."""
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
    """The limit at which no row would be cut that the model has positions for, and how many more tokens the
    rows have then than at `max_length`, as a share; None where none is cut."""
    lengths = train.sequence_lengths
    longest = min(int(lengths.max(initial=0)), positions or int(lengths.max(initial=0)))
    if longest <= max_length:
        return None
    tokens = np.minimum(lengths, max_length).sum()
    return longest, float(np.minimum(lengths, longest).sum() / tokens - 1)


def truncate_rows(rows: TokenRows, max_length: int) -> TokenisedPart:
    """The rows cut to `max_length`, without those that have no trained token then."""
    shorter, truncated, lost = rows.truncated(max_length)
    kept = np.flatnonzero(shorter.trained_counts > 0)
    return TokenisedPart(shorter, shorter.take(kept), truncated, lost)


RowsByPart = Mapping[str, np.ndarray]
MAX_LISTED = 100  # that a preview lists, the largest


@dataclass
class ClassRows:
    """labels of all rows; `kept`: ids of the rows of each part that have a label; `whole`: the tokens, before
    they are cut, of those that are counted; unlabelled: rows without a label."""

    labels: Labels
    kept: dict[str, np.ndarray]
    whole: dict[str, TokenRows]
    unlabelled: int

    def cut(self, tokenizer: Any, limit: int) -> dict[str, TokenisedPart]:
        """Each part cut to `limit` tokens, without rows that have no token. Raises DataError for a part that
        training needs and that is empty then."""
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
        """Labels of held-out rows that training doesn't know, with their rows."""
        return self.labels.unseen(np.concatenate([self.kept[part] for part in PARTS[1:]]))

    def document(self) -> PreviewClasses:
        """`classes` of a preview."""
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
        """Rows of each class in a part."""
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
    """The dealt rows with their labels and token ids. counted: picks the rows that are tokenised. Raises
    ConfigError and DataError as `labelled` does."""
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
