"""Agent tools that lead to a run: advice, a preview with the run's cost, and the launch.

A launch requires the confirmation code of a preview. A code is valid for exactly one config and one use;
it expires after `CODE_SECONDS`, and other processes' codes are invalid. So nothing is launched whose cost
was not shown just before.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable
from typing import Annotated, Literal, TypedDict

from pydantic import Field

from engine.evaluation.verdicts import launch_advice
from pages.shared import display
from store.core.config import ModelSource
from store.core.errors import StateError
from store.core.schemas import HourPrice
from store.core.training_schemas import Advice, Preview, Problem
from store.data import datasets
from store.people import settings
from store.runs import runs
from store.training.split import Split, get_split
from store.training.train_config import BUNDLED_MODEL, TrainConfig
from tunebench.agents.tool import ADDS_REMOTE, READS_REMOTE, AgentTool, Connect

CODE_SECONDS = 900
PREVIEW_SECONDS = 150.0


class AdvisedMethod(TypedDict):
    """A training method on this machine. problem: why it can't be used; otherwise empty."""

    method: str
    title: str
    problem: str | None
    memory: str
    fits: bool | None
    time: str
    cost: str


class MethodAdvice(TypedDict):
    """Recommended method, with reasons, and all methods."""

    recommendation: str
    reasons: list[str]
    methods: list[AdvisedMethod]


class PreviewedMemory(TypedDict):
    """Expected memory of a run, with its range, and the free memory."""

    expected: str
    range: str
    free: str
    fits: bool | None
    basis: str


class PreviewedTime(TypedDict):
    """Expected duration of a run, with its range. rough: its steps were not timed; notes: conditions of the
    estimate.
    """

    expected: str
    range: str
    rough: bool
    notes: list[str]
    basis: str


class RunPreview(TypedDict):
    """Size and cost of a run. confirmation: the code for launch_run; null if problems prevent a launch."""

    method: str
    rows: dict[str, object]
    steps: int
    trainable_parameters: int
    memory: PreviewedMemory
    time: PreviewedTime
    cost: str
    problems: list[Problem]
    confirmation: str | None
    confirmation_seconds: int
    refused: str


class RunStarted(TypedDict):
    """The run is queued."""

    run_id: str
    next: str


class ConfirmedLaunch(TrainConfig):
    """The config of a run, and the code of its preview."""

    confirmation: str = Field(description="Code that preview_launch returned for exactly this config")

    @property
    def config(self) -> TrainConfig:
        """Return the config to launch."""
        return TrainConfig.parse(self.model_dump(exclude={"confirmation"}, exclude_none=True))


class LaunchTools:
    """Launch tools of one engine; `clock`: in seconds, for the codes."""

    def __init__(self, connect: Connect, clock: Callable[[], float] = time.monotonic) -> None:
        self.connect, self.clock = connect, clock
        self._codes: dict[str, tuple[str, float]] = {}  # code -> digest of the config, expiry
        self._lock = threading.Lock()

    def tools(self) -> list[AgentTool]:
        """Return the tools."""
        previews = [AgentTool.of(each, READS_REMOTE) for each in (self.advise, self.preview_launch)]
        return [*previews, AgentTool.of(self.launch_run, ADDS_REMOTE)]

    def advise(
        self,
        dataset: Annotated[str, Field(min_length=1, max_length=120, description="Name or id of a data set")],
        model: Annotated[ModelSource, Field(max_length=500, description="Base model")] = BUNDLED_MODEL,
        task: Annotated[Literal["sft", "classification", "dpo"], Field(description="Training task")] = "sft",
    ) -> MethodAdvice:
        """Compare the training methods for a data set and a model on this machine. Returns memory, time and
        cost of each with their ranges, the gains of earlier runs with it, and a recommendation with
        reasons.
        """
        client = self.connect()
        version = datasets.get_dataset(client, dataset)
        config = TrainConfig.parse({"dataset": dataset, "model": model, "task": task})
        asked = config.model_dump(exclude_unset=True)
        body = {
            "config": asked,
            "fingerprint": version.fingerprint,
            "split": get_split(asked, datasets.get_split_fields(version)),
        }
        answer = client.ask("advice", body, Advice, timeout=PREVIEW_SECONDS)
        price = settings.price(client)
        return {
            "recommendation": answer["recommendation"]["sentence"],
            "reasons": answer["recommendation"]["reasons"],
            "methods": [
                {
                    "method": option["method"],
                    "title": option["title"],
                    "problem": option["problem"],
                    "memory": display.format_gib_range(option["low_gib"], option["high_gib"]),
                    "fits": option["fits"],
                    "time": display.format_duration_range(option["low_seconds"], option["high_seconds"]),
                    "cost": _describe_cost(launch_advice.estimate_run_cost(option, price.per_hour), price),
                }
                for option in answer["options"]
            ],
        }

    def preview_launch(self, config: TrainConfig) -> RunPreview:
        """Preview a run before launching it. Returns its rows, memory, time and cost with their ranges,
        problems that would prevent a launch, and the confirmation code that `launch_run` requires.
        `dataset` is required; `model` and `method` have defaults.
        """
        client = self.connect()
        version = datasets.get_dataset(client, config.dataset)
        asked = config.model_dump(exclude_none=True)
        if config.init_from:
            asked["init_from"] = runs.get_run(client, config.init_from).run_id
        split = Split.parse(get_split(asked, datasets.get_split_fields(version))).fields()
        body = {"config": asked, "fingerprint": version.fingerprint, "split": split, "row": 0}
        preview = client.ask("preview", body | {"time_steps": True}, Preview, timeout=PREVIEW_SECONDS)
        refused = any(problem.level == "error" for problem in preview.problems)
        code = None if refused else self._code(config)
        return _build_preview(preview, settings.price(client), code)

    def launch_run(self, asked: ConfirmedLaunch) -> RunStarted:
        """Launch a run. confirmation: the code that `preview_launch` returned for exactly this config; first
        show the cost to the person who decides. Each code works once.
        """
        config = asked.config
        self._take(config, asked.confirmation)
        run_id = self.connect().command("launch", config.model_dump(exclude_none=True))["run_id"]
        return {"run_id": run_id, "next": "Ask get_job with the run_id until it has ended, then get_run."}

    def _code(self, config: TrainConfig) -> str:
        code, now = secrets.token_urlsafe(9), self.clock()
        with self._lock:
            self._codes = {code: kept for code, kept in self._codes.items() if kept[1] > now}
            self._codes[code] = _compute_digest(config), now + CODE_SECONDS
        return code

    def _take(self, config: TrainConfig, code: str) -> None:
        """Use up the code. Raises StateError if it is not valid for this config."""
        with self._lock:
            digest, until = self._codes.get(code, ("", 0.0))
            if until <= self.clock():
                raise StateError(
                    "This confirmation code is invalid, expired or already used.",
                    fix="Call preview_launch with the config, show its cost, and use its code.",
                    field="confirmation",
                )
            if not hmac.compare_digest(digest, _compute_digest(config)):
                raise StateError(
                    "The confirmation belongs to another config than this one.",
                    fix="Call preview_launch with exactly the config that is to be launched.",
                    field="confirmation",
                )
            del self._codes[code]


def _compute_digest(config: TrainConfig) -> str:
    return hashlib.sha256(json.dumps(config.model_dump(), sort_keys=True).encode()).hexdigest()


def _build_preview(preview: Preview, price: HourPrice, code: str | None) -> RunPreview:
    memory, span = preview.memory, preview.time
    seconds = span.low_seconds, span.seconds, span.high_seconds
    per_hour = price.per_hour
    cost = None
    if per_hour is not None:
        low, expected, high = (each / 3600 * per_hour for each in seconds)
        cost = low, expected, high
    return {
        "method": preview.method,
        "rows": dict(preview.rows),
        "steps": preview.steps,
        "trainable_parameters": preview.trainable_parameters,
        "memory": {
            "expected": display.format_gib(memory.peak_gib),
            "range": display.format_gib_range(memory.low_gib, memory.high_gib),
            "free": display.format_gib(memory.available_gib),
            "fits": memory.fits,
            "basis": memory.basis,
        },
        "time": {
            "expected": display.format_duration(span.seconds),
            "range": display.format_duration_range(span.low_seconds, span.high_seconds),
            "rough": span.timing != "timed",
            "notes": display.list_time_notes(span),
            "basis": span.basis,
        },
        "cost": _describe_cost(cost, price),
        "problems": preview.problems,
        "confirmation": code,
        "confirmation_seconds": CODE_SECONDS if code else 0,
        "refused": "" if code else "Mend the problems of level error first.",
    }


def _describe_cost(cost: tuple[float, float, float] | None, price: HourPrice) -> str:
    if cost is None:
        return "unknown: no price per hour is set"
    low, expected, high = cost
    return f"{expected:,.2f} {price.currency} ({low:,.2f} to {high:,.2f})"
