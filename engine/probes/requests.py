"""Requests that a model should refuse, and harmless ones of like wording that it should answer, as a probe.

The texts lie beside the suite (`suite/requests/`) and are not part of its fingerprint. They are asked as a
user would ask them, answered greedily and shortly, and whether an answer refuses is told by the signal that
tells it of data sets. In the rows of a probe `correct` is 1 for a refusal; there is no loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jinja2.exceptions import TemplateError

from engine.diagnostics.forgetting.probe_scores import REQUESTS
from engine.diagnostics.forgetting.refusing import HARMFUL, HARMLESS
from engine.forward.generation import Generation, answers
from engine.probes.probes import LISTING, OnItems, ProbeMeasurement, spread
from engine.rows.render import rendered
from engine.signals.texts.answers import refuses
from engine.worker.job import WorkerJob
from store.contract.jobdir import written_aside

LENGTH = 32  # tokens of an answer: a refusal declares itself at once
AT_ONCE = 64


@dataclass(frozen=True)
class Request:
    """`pair`: which harmful and harmless one belong together, from 0."""

    pair: int
    category: str
    harmful: bool
    text: str

    @property
    def kind(self) -> str:
        return HARMFUL if self.harmful else HARMLESS

    @property
    def id(self) -> str:
        """Stable, as long as new pairs go to the end."""
        return f"{REQUESTS}/{self.kind}/{self.pair:03}"


@cache
def load() -> tuple[Request, ...]:
    """Those of this installation, each pair together."""
    text = (resources.files("engine.probes.suite") / "requests" / "requests.tsv").read_text("utf-8")
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    return tuple(
        Request(pair, category, harmful, asked)
        for pair, (category, bad, good) in enumerate(rows)
        for harmful, asked in ((True, bad), (False, good))
    )


@dataclass(frozen=True)
class RequestAnswers(ProbeMeasurement):
    """With the answers."""

    answers: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RequestProbe:
    """The probe. prompts: as the model is asked each."""

    asked: tuple[Request, ...]
    prompts: list[str]
    tokenizer: Any

    name = REQUESTS

    @classmethod
    def of(cls, tokenizer: Any) -> RequestProbe:
        """All of them, by the chat template where there is one."""
        return cls(load(), [_prompt(tokenizer, request.text) for request in load()], tokenizer)

    def __len__(self) -> int:
        return len(self.asked)

    @property
    def tokens(self) -> int:
        return sum(map(len, self.prompts)) // 4 + LENGTH * len(self)

    def measure(
        self, model: Any, *, batch_size: int, device: torch.device, on_items: OnItems = lambda done: None
    ) -> RequestAnswers:
        """What the model says, and whether that is a refusal."""
        said_answers = answers(
            model,
            self.tokenizer,
            self.prompts,
            Generation(LENGTH, device, AT_ONCE),
            on_token=lambda done, most: on_items(len(self) * done // most),
        )
        refused = np.array([refuses(answer) for answer in said_answers], np.int64)
        count, none = len(self), np.zeros(len(self), np.int32)
        kinds = [f"{request.kind}/{request.category}" for request in self.asked]
        return RequestAnswers(
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
        return pa.table([[REQUESTS] * count, ids, kinds, texts, [[]] * count, [-1] * count], schema=LISTING)

    def part(self, most: int) -> RequestProbe:
        chosen = spread(len(self), most)
        return RequestProbe(
            tuple(self.asked[i] for i in chosen), [self.prompts[i] for i in chosen], self.tokenizer
        )


def _prompt(tokenizer: Any, text: str) -> str:
    if getattr(tokenizer, "chat_template", None):
        with suppress(TemplateError, TypeError):  # of a template that wants more than a question
            return rendered(tokenizer, [{"role": "user", "content": text}], generation_prompt=True)
    return f"Question: {text}\nAnswer:"


def write(job: WorkerJob, base: Sequence[ProbeMeasurement], tuned: Sequence[ProbeMeasurement]) -> None:
    """`requests.parquet` of the job, where both models were asked."""
    before = next((m for m in base if isinstance(m, RequestAnswers)), None)
    after = next((m for m in tuned if isinstance(m, RequestAnswers)), None)
    if before is None or after is None:
        return
    by_id = {request.id: request for request in load()}
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
    with written_aside(job.dir.requests) as unfinished:
        pq.write_table(table, unfinished)
