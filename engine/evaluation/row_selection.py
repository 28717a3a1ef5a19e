"""Row selection of an evaluation: from the run's own split, the data set's, or another evaluation.

A filter may reduce the rows. If there are more than requested, rows are ordered by a seeded hash of
themselves and the first ones are taken: the selection depends on the rows and never on how many others there
are. So a model by name and a run that trained on the same split answer the same rows, whatever the run's own
evaluation was limited to. The chosen rows become questions, in order, with their groups.
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

ALL, EXAMPLES = 2**31, 2**32  # offsets beyond every split seed
CHUNK = 256  # rows searched for questions at a time


@dataclass(frozen=True)
class RowSelection:
    """Selected rows. `row_ids`: int64, sorted. notices: what a reader should know about them."""

    row_ids: np.ndarray
    notices: list[str]


def select_rows(job: WorkerJob, config: EvaluateConfig) -> RowSelection:
    """Select the rows.

    Raises DataError for a part without rows, or if the other evaluation's rows are gone, and ConfigError
    (where) for a filter that is invalid or matches none of them.
    """
    fingerprint = job.spec["dataset"]["fingerprint"]
    own = _find_training_split(job, config, fingerprint)
    if config.rows_of:
        ids = _read_evaluation_rows(job, config.rows_of)  # already filtered when they were drawn
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
        # over all rows, the hash of the split would put the test rows first
        seed = config.seed + (ALL if config.part == "all" else 0)
        ids = partition.select_by_hash(digests, ids, config.max_rows, seed)
    return RowSelection(np.sort(ids).astype(np.int64), notices)


def _apply_filter(job: WorkerJob, config: EvaluateConfig, ids: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the rows that match the filter, and a notice that describes them."""
    if not config.where:
        return ids, []
    meant = ids[np.isin(ids, find_matching_rows(job, job.spec["dataset"], config.where))]
    if not len(meant):
        raise ConfigError(
            f"No row of the {'data set' if config.part == 'all' else f'{config.part} part'} matches the"
            f" filter: {describe_filter(config.where)}.",
            fix="Choose another filter, or another part.",
            field="where",
        )
    counted = f"{len(meant):,} of {plural(len(ids), 'row')}"
    return meant, [f"Only rows where {describe_filter(config.where)}: {counted}."]


def draw_choice_examples(
    job: WorkerJob, config: EvaluateConfig, row_ids: np.ndarray
) -> dict[int, list[ChoiceQuestion]]:
    """Draw `choice_examples` answered rows of the training part for each row, never the row itself or a copy;
    a model and a run on one split get the same ones. Raises ConfigError if there are too few.
    """
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
            f"choice_examples is {config.choice_examples}, but there are only {len(pool)} training"
            " questions.",
            fix="Lower it: the questions must be one more than the examples per question.",
            field="choice_examples",
        )
    few = pool[: config.choice_examples + 1]
    return {
        row_id: [each for each in few if digests[each.row_id] != digests[row_id]][: config.choice_examples]
        for row_id in row_ids.tolist()
    }


def _describe_trained_rows(ids: np.ndarray, own: dict[str, np.ndarray] | None) -> list[str]:
    count = int(np.isin(ids, own["train"]).sum()) if own else 0
    return [f"{plural(count, 'row')} of these were used for training."] if count else []


def _list_candidate_rows(
    job: WorkerJob, config: EvaluateConfig, fingerprint: str, own: dict[str, np.ndarray] | None
) -> np.ndarray:
    """Return the rows to select from."""
    if config.part == "all":
        return np.arange(dataset_files.open_rows(job.home, fingerprint).metadata.num_rows)
    if own is not None and config.part == "train":
        return own["train"]
    dealt = _find_split(job, config, fingerprint, own)[config.part]
    if own is None:
        return dealt
    # a run's `max_eval_rows` limits how many of them its own evaluation used: the others were held out as
    # well
    others = np.concatenate([own[part] for part in partition.PARTS if part != config.part])
    return np.union1d(own[config.part], np.setdiff1d(dealt, others))  # duplicates may have been found since


def _find_split(
    job: WorkerJob, config: EvaluateConfig, fingerprint: str, own: dict[str, np.ndarray] | None
) -> dict[str, np.ndarray]:
    """Return all rows by part: of the run's split if it was trained on this data, otherwise of the data
    set's.
    """
    spec = job.spec
    run = evaluated_model.find_trained_model(job, config)
    if own is not None and run is not None:
        spec = parse_document(JobSpec, read_json(run.folder.config))
    return dataset_split.assign_rows_unchecked(job.home, fingerprint, Split.parse(spec["split"])).ids()


def _find_training_split(
    job: WorkerJob, config: EvaluateConfig, fingerprint: str
) -> dict[str, np.ndarray] | None:
    """Return which rows the run or version used for what, if it was trained on this data; otherwise None."""
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
            f"The rows of the evaluation {evaluation_id} no longer exist.",
            fix="Choose another evaluation, or a part.",
            field="rows_of",
        )
    return np.sort(pq.read_table(path, columns=["row_id"])["row_id"].to_numpy())


def build_questions(tokenizer: Any, home: Home, fingerprint: str, row_ids: np.ndarray) -> list[RowQuestion]:
    """Build a question for each of the rows, in order."""
    rows = read_contents(home, fingerprint, row_ids)
    return [
        build_question(tokenizer, row_id, content, label)
        for row_id, (content, label) in zip(row_ids.tolist(), rows, strict=True)
    ]


def read_contents(home: Home, fingerprint: str, row_ids: np.ndarray) -> list[tuple[Any, str | None]]:
    """Return each row's messages or text, and its label."""
    table = dataset_files.load_rows(home, fingerprint, columns=["messages", "text", "label"], row_ids=row_ids)
    rows = zip(*(table[name].to_pylist() for name in ("messages", "text", "label")), strict=True)
    return [(messages or text, label or None) for messages, text, label in rows]


def read_groups(
    home: Home, fingerprint: str, column: str | None, row_ids: np.ndarray
) -> list[int | None] | None:
    """Return each row's group by that column, None for a row without a value. Raises ConfigError
    (group_by).
    """
    if column is None:
        return None
    try:
        values = read_values(home, fingerprint, column)[row_ids]
    except ConfigError as error:
        raise ConfigError(error.message, fix=error.fix, field="group_by") from error
    return [None if value < 0 else value for value in values.tolist()]
