"""Sources of a round's prompts and answers: data set rows answered in evaluations, a file (which may have
answers itself), or answered requests.

Rows are identified by an integer: the data set row, or the position in the file or among the requests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow.parquet as pq

from engine.data.cleaning.row_queries import find_matching_rows
from engine.data.similarity.equality import hash_folded_text
from engine.rating import notices_text
from engine.rating.prompts_file import locate_held_file, read_prompts
from engine.worker.job import WorkerJob
from store.core.errors import ConfigError, DataError
from store.core.job_folder import JobDir
from store.core.rating_schemas import PromptTurn, RoundSystem
from store.data import dataset_files
from store.data.cleaning_text import describe_filter
from store.data.filters import Filter
from store.rating.config import RoundConfig

REQUESTS = "requests.parquet"  # stored for a round of requests: turns (JSON), answers, weight


class GivenAnswer(NamedTuple):
    """A model's answer to a prompt; `prompt` is the rendered prompt, if known."""

    prompt: str | None
    prediction: str
    reference: str | None


AnswersByRow = dict[int, GivenAnswer]


class PromptSource(Protocol):
    """Prompts of a round.

    dataset_id: None unless the rows are of a data set. notices: information about the prompts; they name
    no model, as raters can read them.
    """

    dataset_id: str | None
    notices: list[str]

    def answered(self) -> list[AnswersByRow]:
        """Return each model's answers by row."""

    def meant(self, row_ids: np.ndarray) -> np.ndarray:
        """Return the rows that the round's filter matches. Raises ConfigError (where) if there are none."""

    def digests(self) -> np.ndarray:
        """Return uint64 digests by row number, equal for equal prompts, for sampling."""

    def turns(self, row_ids: np.ndarray, answers: AnswersByRow) -> list[list[PromptTurn]]:
        """Return the prompt turns of each row."""

    def weights(self, row_ids: np.ndarray) -> np.ndarray:
        """Return 1 / the sampling probability of each row."""


def open_prompt_source(job: WorkerJob, config: RoundConfig) -> PromptSource:
    """Open the source in the round's config. Raises DataError if a file can't be read."""
    if config.requests:
        return RequestPrompts(job, config)
    return FilePrompts(job, config) if config.prompts_file else DatasetPrompts(job, config)


class DatasetPrompts:
    """Rows of a data set, answered in evaluations."""

    def __init__(self, job: WorkerJob, config: RoundConfig) -> None:
        self.job, self.config = job, config
        self.systems: Sequence[RoundSystem] = job.spec["systems"]
        self.dataset_id: str | None = job.spec["dataset"]["dataset_id"]
        self.notices: list[str] = []

    def answered(self) -> list[AnswersByRow]:
        filters = [Filter.parse(each) for each in self.job.spec["filters"] if each]
        self.notices += notices_text.describe_filters(self.config.where, filters)
        return [read_answers(self.job, str(system.evaluation_id), system.name) for system in self.systems]

    def meant(self, row_ids: np.ndarray) -> np.ndarray:
        where = self.config.where
        if not where:
            return row_ids
        meant = row_ids[np.isin(row_ids, find_matching_rows(self.job, self.job.spec["dataset"], where))]
        if not len(meant):
            raise ConfigError(
                f"No answered prompt matches the filter {describe_filter(where)}.",
                fix="Choose another filter, or other evaluations.",
                field="where",
            )
        self.notices.append(notices_text.describe_own_filter(where))
        return meant

    def digests(self) -> np.ndarray:
        fingerprint = self.job.spec["dataset"]["fingerprint"]
        digests: np.ndarray = dataset_files.load_rows(self.job.home, fingerprint, columns=["digest"])[
            "digest"
        ].to_numpy()
        return digests

    def turns(self, row_ids: np.ndarray, answers: AnswersByRow) -> list[list[PromptTurn]]:
        fingerprint = self.job.spec["dataset"]["fingerprint"]
        table = dataset_files.load_rows(self.job.home, fingerprint, columns=["messages"], row_ids=row_ids)
        rows = zip(row_ids.tolist(), table["messages"].to_pylist(), strict=True)
        return [build_prompt_turns(messages, answers[row_id].prompt) for row_id, messages in rows]

    def weights(self, row_ids: np.ndarray) -> np.ndarray:
        return np.ones(len(row_ids))


class FilePrompts:
    """Rows of a file, answered in it or by jobs that the round waited for."""

    def __init__(self, job: WorkerJob, config: RoundConfig) -> None:
        self.job, self.config = job, config
        self.dataset_id: str | None = None
        self.path = locate_held_file(job.dir)
        read = read_prompts(job.home, self.path, check=lambda _: job.check_cancelled())
        self.prompts = {prompt.row_id: prompt for prompt in read.prompts}
        self.names = read.answered
        self.notices = notices_text.describe_prompts_file(len(self.prompts), self.path.name, read.left_out)

    def answered(self) -> list[AnswersByRow]:
        answered = [self._of_model(place) for place in range(len(self.config.models))]
        if lacking := len(self.prompts) - len(set(self.prompts).intersection(*answered)):
            self.notices.append(notices_text.describe_unanswered(lacking))
        return answered

    def _of_model(self, place: int) -> AnswersByRow:
        name = self.config.models[place].answers
        if not name:
            system = self.job.spec["systems"][place]
            return read_answers(self.job, self.job.config["answering"][place], system.name)
        if name not in self.names:
            there = ", ".join(name_there for name_there, _ in self.names.most_common(20)) or "nobody"
            raise DataError(
                f"{self.path.name} has no answers of {name!r}.",
                fix=f"It has answers of {there}.",
                field=f"models.{place}.answers",
            )
        return {
            row_id: GivenAnswer(None, prompt.answers[name], prompt.reference)
            for row_id, prompt in self.prompts.items()
            if name in prompt.answers
        }

    def meant(self, row_ids: np.ndarray) -> np.ndarray:
        return row_ids

    def digests(self) -> np.ndarray:
        digests = np.zeros(max(self.prompts) + 1, np.uint64)
        for row_id, prompt in self.prompts.items():
            digests[row_id] = int.from_bytes(hash_folded_text(prompt.turns[-1]["content"]), "little")
        return digests

    def turns(self, row_ids: np.ndarray, answers: AnswersByRow) -> list[list[PromptTurn]]:
        return [self.prompts[row_id].turns for row_id in row_ids.tolist()]

    def weights(self, row_ids: np.ndarray) -> np.ndarray:
        return np.ones(len(row_ids))


class RequestPrompts:
    """Requests that an endpoint answered, as sampled by the engine.

    All are used, in order, so an item's id is its request's index.
    """

    def __init__(self, job: WorkerJob, config: RoundConfig) -> None:
        self.dataset_id: str | None = None
        self.notices: list[str] = list(job.config["notices"])
        path = job.dir.held / REQUESTS
        if not path.exists():
            raise DataError("The round's requests no longer exist.", fix="Create the round again.")
        self.rows = pq.read_table(path).to_pylist()
        self.systems = len(config.models)

    def answered(self) -> list[AnswersByRow]:
        return [
            {place: GivenAnswer(None, row["answers"][system], None) for place, row in enumerate(self.rows)}
            for system in range(self.systems)
        ]

    def meant(self, row_ids: np.ndarray) -> np.ndarray:
        return row_ids

    def digests(self) -> np.ndarray:
        return np.zeros(len(self.rows), np.uint64)

    def turns(self, row_ids: np.ndarray, answers: AnswersByRow) -> list[list[PromptTurn]]:
        return [json.loads(self.rows[place]["turns"]) for place in row_ids.tolist()]

    def weights(self, row_ids: np.ndarray) -> np.ndarray:
        return np.array([self.rows[place]["weight"] for place in row_ids.tolist()])


def read_answers(job: WorkerJob, job_id: str, name: str) -> AnswersByRow:
    """Read a job's predictions. Raises DataError if they no longer exist."""
    path = JobDir(job.home.jobs / job_id).predictions
    if path.parent.parent != job.home.jobs or not path.exists():
        raise DataError(f"The answers of {name} no longer exist.", fix="Run the evaluation again.")
    table = pq.read_table(path, columns=["row_id", "prompt", "prediction", "reference"])
    return {
        row["row_id"]: GivenAnswer(row["prompt"], row["prediction"], row["reference"])
        for row in table.to_pylist()
        if row["prediction"] is not None
    }


def build_prompt_turns(messages: Sequence[Mapping[str, str]] | None, prompt: str | None) -> list[PromptTurn]:
    """Return the conversation up to the generated answer; for plain text, the text that was continued."""
    if not messages:
        return [{"role": "user", "content": prompt or ""}]
    end = len(messages)
    while end and messages[end - 1]["role"] == "assistant":
        end -= 1
    return [{"role": turn["role"], "content": turn["content"]} for turn in messages[:end]]
