"""Which rows an evaluation is of: of the run's own split, of the data set's, or those of another evaluation.

A row's place is a seeded hash of itself: what is drawn hangs on the rows and never on how many others there
were. The chosen rows become questions, in their order, with the groups that they are in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from engine.data.cleaning.row_queries import find_matching_rows
from engine.data.conversion.multiple_choice import ChoiceQuestion, load_questions
from engine.data.split import dataset_split, partition
from engine.data.split.dataset_split import read_values
from engine.evaluation import evaluated_model
from engine.evaluation.row_questions import RowQuestion, build_question
from engine.worker.job import WorkerJob
from store.core.documents import parse_document
from store.core.errors import ConfigError, DataError
from store.core.formatting import plural
from store.core.home import Home
from store.core.job_folder import JobDir, read_json
from store.data import dataset_files
from store.data.cleaning_text import describe_filter
from store.evaluation.config import EvaluateConfig
from store.jobs.schemas import JobSpec
from store.training.split import Split

# Which rows an evaluation is of: of the run's own split, of the data set's, or those of another evaluation.
#
# A filter leaves some of them. Where there are more than are asked for, each row has its place by a seeded
# hash of itself, and the first ones are taken: what is drawn hangs on the rows and never on how many others
# there were to draw from. So a model by name and a run that trained on the same split answer the same rows,
# whatever the run's own evidence was cut to.

ALL, EXAMPLES = 2**31, 2**32  # beyond every seed of a deal
CHUNK = 256  # rows that are looked through at a time for questions


@dataclass(frozen=True)
class RowSelection:
    """`row_ids`: int64, sorted. notices: what a reader should know of them."""

    row_ids: np.ndarray
    notices: list[str]


def select_rows(job: WorkerJob, config: EvaluateConfig) -> RowSelection:
    """The rows. Raises DataError for a part without rows, or where the other evaluation's are gone, and
    ConfigError (where) for a filter that can't be, or that means none of them."""
    fingerprint = job.spec["dataset"]["fingerprint"]
    own = _find_training_split(job, config, fingerprint)
    if config.rows_of:
        ids = _read_evaluation_rows(job, config.rows_of)  # which its filter was held to when they were drawn
        return RowSelection(ids, _describe_trained_rows(ids, own))
    ids = _list_candidate_rows(job, config, fingerprint, own)
    if not len(ids):
        raise DataError(
            f"The data set has no {config.part} rows.",
            fix="Set part to all, or to another part.",
            field="part",
        )
    ids, notices = _apply_filter(job, config, ids)
    notices += _describe_trained_rows(ids, own) if config.part == "all" else []
    if config.max_rows is not None and len(ids) > config.max_rows:
        notices.append(f"A random {config.max_rows:,} of {plural(len(ids), 'row')}.")
        digests = dataset_files.load_rows(job.home, fingerprint, columns=["digest"])["digest"].to_numpy()
        # over all rows the hash of the deal would put the test rows first
        seed = config.seed + (ALL if config.part == "all" else 0)
        ids = partition.select_by_hash(digests, ids, config.max_rows, seed)
    return RowSelection(np.sort(ids).astype(np.int64), notices)


def _apply_filter(job: WorkerJob, config: EvaluateConfig, ids: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Those of the rows that the filter means, and a line that says which these are."""
    if not config.where:
        return ids, []
    meant = ids[np.isin(ids, find_matching_rows(job, job.spec["dataset"], config.where))]
    if not len(meant):
        raise ConfigError(
            f"No row of the {'data set' if config.part == 'all' else f'{config.part} part'} is one where"
            f" {describe_filter(config.where)}.",
            fix="Choose another filter, or another part.",
            field="where",
        )
    counted = f"{len(meant):,} of {plural(len(ids), 'row')}"
    return meant, [f"Only rows where {describe_filter(config.where)}: {counted}."]


def draw_choice_examples(
    job: WorkerJob, config: EvaluateConfig, row_ids: np.ndarray
) -> dict[int, list[ChoiceQuestion]]:
    """Of each row `choice_examples` answered rows of the training part, never the row or a copy of it; the
    same ones for a model and a run of one split. Raises ConfigError where there are too few."""
    if not config.choice_examples:
        return {}
    fingerprint = job.spec["dataset"]["fingerprint"]
    digests = dataset_files.load_rows(job.home, fingerprint, columns=["digest"])["digest"].to_numpy()
    own = _find_training_split(job, config, fingerprint)
    held = np.concatenate([own["validation"], own["test"]]) if own else np.zeros(0, np.int64)
    train = np.setdiff1d(_find_split(job, config, fingerprint, own)["train"], held)
    _, first = np.unique(digests[train], return_index=True)
    ids = partition.select_by_hash(digests, train[np.sort(first)], len(train), config.seed + EXAMPLES)
    pool: list[ChoiceQuestion] = []
    for start in range(0, len(ids), CHUNK):
        chunk = load_questions(job.home, fingerprint, ids[start : start + CHUNK])
        pool += [example for example in chunk if example]
        if len(pool) > config.choice_examples:
            break
    if len(pool) <= config.choice_examples:
        raise ConfigError(
            f"choice_examples is {config.choice_examples}, and the training part has {len(pool)} questions.",
            fix="Set it lower: one more is needed than stands before a question.",
            field="choice_examples",
        )
    few = pool[: config.choice_examples + 1]
    return {
        row_id: [each for each in few if digests[each.row_id] != digests[row_id]][: config.choice_examples]
        for row_id in row_ids.tolist()
    }


def _describe_trained_rows(ids: np.ndarray, own: dict[str, np.ndarray] | None) -> list[str]:
    count = int(np.isin(ids, own["train"]).sum()) if own else 0
    return [f"{plural(count, 'row')} of these were trained on."] if count else []


def _list_candidate_rows(
    job: WorkerJob, config: EvaluateConfig, fingerprint: str, own: dict[str, np.ndarray] | None
) -> np.ndarray:
    """The rows that there are to draw from."""
    if config.part == "all":
        return np.arange(dataset_files.open_rows(job.home, fingerprint).metadata.num_rows)
    if own is not None and config.part == "train":
        return own["train"]
    dealt = _find_split(job, config, fingerprint, own)[config.part]
    if own is None:
        return dealt
    # a run's `max_eval_rows` says how many its own evidence took of them: the others were held out as well
    others = np.concatenate([own[part] for part in partition.PARTS if part != config.part])
    return np.union1d(own[config.part], np.setdiff1d(dealt, others))  # duplicates may be known by now


def _find_split(
    job: WorkerJob, config: EvaluateConfig, fingerprint: str, own: dict[str, np.ndarray] | None
) -> dict[str, np.ndarray]:
    """Every row by its part: of the run's split where it was trained on this data, else the data set's."""
    spec = job.spec
    run = evaluated_model.find_trained_model(job, config)
    if own is not None and run is not None:
        spec = parse_document(JobSpec, read_json(run.folder.config))
    return dataset_split.assign_rows_unchecked(job.home, fingerprint, Split.parse(spec["split"])).ids()


def _find_training_split(
    job: WorkerJob, config: EvaluateConfig, fingerprint: str
) -> dict[str, np.ndarray] | None:
    """Which rows the run or version had for what, where it was trained on this very data; else None."""
    run = evaluated_model.find_trained_model(job, config)
    if run is None or run.fingerprint != fingerprint or not run.folder.split.exists():
        return None
    table = pq.read_table(run.folder.split)
    names, ids = table["split"].to_numpy(zero_copy_only=False), table["row_id"].to_numpy()
    return {part: ids[names == part] for part in partition.PARTS}


def _read_evaluation_rows(job: WorkerJob, evaluation_id: str) -> np.ndarray:
    path = JobDir(job.home.jobs / evaluation_id).predictions
    if not path.exists():
        raise DataError(
            f"The rows of the evaluation {evaluation_id} are gone.",
            fix="Choose another evaluation, or a part.",
            field="rows_of",
        )
    return np.sort(pq.read_table(path, columns=["row_id"])["row_id"].to_numpy())


def build_questions(tokenizer: Any, home: Home, fingerprint: str, row_ids: np.ndarray) -> list[RowQuestion]:
    """One for each of the rows, in their order."""
    rows = read_contents(home, fingerprint, row_ids)
    return [
        build_question(tokenizer, row_id, content, label)
        for row_id, (content, label) in zip(row_ids.tolist(), rows, strict=True)
    ]


def read_contents(home: Home, fingerprint: str, row_ids: np.ndarray) -> list[tuple[Any, str | None]]:
    """Of each row its messages or its text, and its label."""
    table = dataset_files.load_rows(home, fingerprint, columns=["messages", "text", "label"], row_ids=row_ids)
    rows = zip(*(table[name].to_pylist() for name in ("messages", "text", "label")), strict=True)
    return [(messages or text, label or None) for messages, text, label in rows]


def read_groups(
    home: Home, fingerprint: str, column: str | None, row_ids: np.ndarray
) -> list[int | None] | None:
    """The group of each row by that column, None for one without a value. Raises ConfigError (group_by)."""
    if column is None:
        return None
    try:
        values = read_values(home, fingerprint, column)[row_ids]
    except ConfigError as error:
        raise ConfigError(error.message, fix=error.fix, field="group_by") from error
    return [None if value < 0 else value for value in values.tolist()]
