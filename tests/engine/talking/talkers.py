"""Tiny models and runs that talk, and answers of them put together."""

from __future__ import annotations

from typing import Any

from engine.playground.answers import LocalAnswer
from engine.playground.model_cache import ModelCache
from engine.worker.job import WorkerJob
from store.core.home import Home
from store.core.job_folder import write_json
from store.playground.config import ChatModel, ChatSampling
from tests.engine.evaluating import home_with_rows, trained

ASKED: Any = [{"role": "user", "content": "What is 3 + 4?"}]


def talk_job(home: Home) -> WorkerJob:
    folder = home.jobs / "talking"
    folder.mkdir()
    order = {"job_id": "talking", "kind": "talk", "home": str(home.path), "device": "cpu", "config": {}}
    write_json(folder / "config.json", order)
    return WorkerJob(folder)


def home_with_runs(path: Any) -> Home:
    """The model "tiny" and three runs of it: two LoRA, and one of whole weights."""
    home = home_with_rows(path)
    trained(home, "first", learning_rate=3e-2, dtype="auto")
    trained(home, "second", learning_rate=3e-2, seed=1, r=4, dtype="auto")
    trained(home, "whole", method="full", learning_rate=1e-2, dtype="auto")
    return home


def choice(name: str, **fields: Any) -> ChatModel:
    """A model of that name, or a run."""
    kind = "model" if name == "tiny" else "run"
    return ChatModel.parse({kind: name, "sampling": {"max_new_tokens": 12}, **fields})


def answered(shelf: ModelCache, asked: ChatModel, messages: Any = ASKED) -> list[Any]:
    """All events of the answer."""
    return list(LocalAnswer(shelf.get(asked), messages, asked.sampling, "cpu").stream_events())


def text_of(events: list[Any]) -> str:
    return "".join(event["text"] for event in events if event["type"] == "token")


def logprobs_of(events: list[Any]) -> list[float]:
    return [event["logprob"] for event in events if event["type"] == "token"]


def drawn(**fields: Any) -> dict[str, Any]:
    return ChatSampling.parse({"max_new_tokens": 12, **fields}).model_dump()
