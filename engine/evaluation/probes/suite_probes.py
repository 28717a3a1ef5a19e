"""The built-in suite as probes: questions, prose, the base model's own samples, and requests to refuse.

Requests are phrased as by a user, harmful and harmless ones with similar wording; `correct` is 1 for a
refusal, and there is no loss. They are stored beside the suite (`suite/requests/`) and are not part of its
fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jinja2.exceptions import TemplateError

from engine.data.signals.text_checks import is_refusal
from engine.evaluation.probes import multiple_choice, suite_texts
from engine.evaluation.probes.base_samples import SamplePlan, SampleProbe, load_or_generate_samples
from engine.evaluation.probes.probe_sets import (
    ITEM_SCHEMA,
    OnItems,
    ProbeMeasurement,
    TextProbe,
    build_text_probe,
    select_evenly,
)
from engine.evaluation.verdicts.forgetting import HARMFUL, HARMLESS
from engine.evaluation.verdicts.paired_measurements import CHOICES, OWN_SAMPLES, PROSE, REQUESTS
from engine.models.generation import GenerationOptions, generate_answers
from engine.models.tokenization.rendering import render_conversation
from engine.worker.job import WorkerJob
from engine.worker.progress import RowProgressReporter
from store.core.job_folder import write_atomically

LIGHT_COUNTS = {PROSE: 8, CHOICES: 96}  # items of each measured during training


def compute_suite_fingerprint() -> str:
    """Return the fingerprint of questions and prose: results with different ones are never compared."""
    return suite_texts.load_suite().fingerprint


@dataclass(frozen=True)
class ChoiceProbe:
    """Probe of multiple-choice items."""

    name: str
    asked: multiple_choice.TokenisedChoiceItems

    def __len__(self) -> int:
        return len(self.asked.items)

    @property
    def tokens(self) -> int:
        return sum(map(len, self.asked.prompts)) + sum(len(o) for each in self.asked.options for o in each)

    def measure(
        self,
        model: Any,
        *,
        batch_size: int,
        device: torch.device,
        on_items: Callable[[int], None] = lambda done: None,
    ) -> ProbeMeasurement:
        scored = multiple_choice.score_items(
            model, self.asked, device, batch_size=batch_size, on_items=on_items
        )
        items = self.asked.items
        return ProbeMeasurement(
            self.name,
            [item.id for item in items],
            [item.category for item in items],
            scored.losses,
            np.ones(len(items), np.int64),
            scored.correct,
            np.array([len(item.options) for item in items], np.int32),
            scored.chosen,
        )

    def listing(self) -> pa.Table:
        items = self.asked.items
        return pa.table(
            [
                [self.name] * len(items),
                [item.id for item in items],
                [item.category for item in items],
                [item.question for item in items],
                [list(item.options) for item in items],
                [item.right for item in items],
            ],
            schema=ITEM_SCHEMA,
        )

    def part(self, most: int) -> ChoiceProbe:
        chosen = select_evenly(len(self), most)
        items, prompts, options = self.asked.items, self.asked.prompts, self.asked.options
        return ChoiceProbe(
            self.name,
            multiple_choice.TokenisedChoiceItems(
                tuple(items[i] for i in chosen), [prompts[i] for i in chosen], [options[i] for i in chosen]
            ),
        )


def build_choice_probe(tokenizer: Any, room: int | None) -> ChoiceProbe:
    """Build the probe of the suite's items for a model with `room` positions."""
    return ChoiceProbe(
        CHOICES, multiple_choice.tokenise_items(tokenizer, suite_texts.load_suite().items, room=room)
    )


def build_prose_probe(tokenizer: Any, room: int | None) -> TextProbe:
    """Build the probe of the suite's passages, each truncated to the model's `room`."""
    passages = suite_texts.load_suite().passages
    rows = tokenizer([passage.text for passage in passages]).input_ids
    return build_text_probe(
        PROSE,
        [passage.id for passage in passages],
        [passage.register for passage in passages],
        [passage.text for passage in passages],
        [np.asarray(ids[:room], np.int32) for ids in rows],
    )


def load_or_generate_texts(job: WorkerJob, model: Any, tokenizer: Any, folder: Path) -> SampleProbe:
    """Return samples of the base model `model` with weights in `folder`, new or from the cache."""
    report = RowProgressReporter(job, 0, "tokens", "Base model generates samples (once for each base model)")
    rows = load_or_generate_samples(
        job.home, model, tokenizer, folder, SamplePlan(suite_texts.load_suite()), report
    )
    texts = [tokenizer.decode(rows.row(i)[0], skip_special_tokens=True) for i in range(len(rows))]
    items = [f"{OWN_SAMPLES}/{i:03}" for i in range(len(rows))]
    return SampleProbe(OWN_SAMPLES, items, [""] * len(rows), texts, rows)


# Requests that a model should refuse, and similarly worded harmless ones that it should answer, as a probe.
# Answers are greedy and short; refusals are detected by the same signal as in data sets.

REQUEST_LENGTH = 32  # tokens of an answer: a refusal shows at once
BATCH_SIZE = 64


@dataclass(frozen=True)
class RefusalRequest:
    """A request. `pair`: number of the pair of a harmful and a harmless one, from 0."""

    pair: int
    category: str
    harmful: bool
    text: str

    @property
    def kind(self) -> str:
        return HARMFUL if self.harmful else HARMLESS

    @property
    def id(self) -> str:
        """ID, stable as long as new pairs are added at the end."""
        return f"{REQUESTS}/{self.kind}/{self.pair:03}"


@cache
def load_requests() -> tuple[RefusalRequest, ...]:
    """Load the requests of this installation, ordered by pair."""
    text = (resources.files("engine.evaluation.probes.suite") / "requests" / "requests.tsv").read_text(
        "utf-8"
    )
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    return tuple(
        RefusalRequest(pair, category, harmful, asked)
        for pair, (category, bad, good) in enumerate(rows)
        for harmful, asked in ((True, bad), (False, good))
    )


@dataclass(frozen=True)
class AnsweredRequests(ProbeMeasurement):
    """Measurement with the answers."""

    answers: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RequestProbe:
    """Probe of requests. prompts: each request as rendered for the model."""

    asked: tuple[RefusalRequest, ...]
    prompts: list[str]
    tokenizer: Any

    name = REQUESTS

    @classmethod
    def of(cls, tokenizer: Any) -> RequestProbe:
        """Build the probe of all requests, with the chat template if there is one."""
        return cls(
            load_requests(),
            [_render_prompt(tokenizer, request.text) for request in load_requests()],
            tokenizer,
        )

    def __len__(self) -> int:
        return len(self.asked)

    @property
    def tokens(self) -> int:
        return sum(map(len, self.prompts)) // 4 + REQUEST_LENGTH * len(self)

    def measure(
        self, model: Any, *, batch_size: int, device: torch.device, on_items: OnItems = lambda done: None
    ) -> AnsweredRequests:
        """Generate the model's answers, and detect which are refusals."""
        said_answers = generate_answers(
            model,
            self.tokenizer,
            self.prompts,
            GenerationOptions(REQUEST_LENGTH, device, BATCH_SIZE),
            on_token=lambda done, most: on_items(len(self) * done // most),
        )
        refused = np.array([is_refusal(answer) for answer in said_answers], np.int64)
        count, none = len(self), np.zeros(len(self), np.int32)
        kinds = [f"{request.kind}/{request.category}" for request in self.asked]
        return AnsweredRequests(
            REQUESTS,
            [request.id for request in self.asked],
            kinds,
            np.zeros(count),
            np.ones(count, np.int64),
            refused,
            none,
            none - 1,
            answers=said_answers,
        )

    def listing(self) -> pa.Table:
        count = len(self)
        ids, kinds = [r.id for r in self.asked], [f"{r.kind}/{r.category}" for r in self.asked]
        texts = [request.text for request in self.asked]
        return pa.table(
            [[REQUESTS] * count, ids, kinds, texts, [[]] * count, [-1] * count], schema=ITEM_SCHEMA
        )

    def part(self, most: int) -> RequestProbe:
        chosen = select_evenly(len(self), most)
        return RequestProbe(
            tuple(self.asked[i] for i in chosen), [self.prompts[i] for i in chosen], self.tokenizer
        )


def _render_prompt(tokenizer: Any, text: str) -> str:
    if getattr(tokenizer, "chat_template", None):
        with suppress(TemplateError, TypeError):  # raised by templates that require more than a question
            return render_conversation(tokenizer, [{"role": "user", "content": text}], generation_prompt=True)
    return f"Question: {text}\nAnswer:"


def write_requests(
    job: WorkerJob, base: Sequence[ProbeMeasurement], tuned: Sequence[ProbeMeasurement]
) -> None:
    """Write the job's `requests.parquet` if both models were measured."""
    before = next((m for m in base if isinstance(m, AnsweredRequests)), None)
    after = next((m for m in tuned if isinstance(m, AnsweredRequests)), None)
    if before is None or after is None:
        return
    by_id = {request.id: request for request in load_requests()}
    asked = [by_id[item] for item in before.items]
    table = pa.table(
        {
            "pair": pa.array([request.pair for request in asked], pa.int32()),
            "category": [request.category for request in asked],
            "harmful": [request.harmful for request in asked],
            "text": [request.text for request in asked],
            "base": before.answers,
            "tuned": after.answers,
            "base_refused": before.correct.astype(bool),
            "tuned_refused": after.correct.astype(bool),
        }
    )
    with write_atomically(job.dir.requests) as unfinished:
        pq.write_table(table, unfinished)
