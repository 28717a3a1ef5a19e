"""Tools that lead to a run: advice, a preview with what the run would cost, and the launch.

A launch takes the code of a preview. A code belongs to one config, to the letter, and to one use; it is worth
nothing after `CODE_SECONDS`, and codes of another process are none. So nothing is launched whose cost was not
shown just before.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from engine.diagnostics.launch import advisor
from pages.shared import quantities
from store.config.training.train_config import BUNDLED_MODEL, Split, TrainConfig, split_of
from store.contract.errors import StateError
from store.documents.asks.advice import Advice
from store.documents.asks.preview import Preview
from store.documents.tables.machine import HourPrice
from store.queries import settings
from store.queries.data import datasets
from store.queries.runs import runs
from tunebench.agents.reading import Connect

CODE_SECONDS = 900
PREVIEW_SECONDS = 150.0


class LaunchTools:
    """The tools over one engine; `clock` in seconds, for the codes."""

    def __init__(self, connect: Connect, clock: Callable[[], float] = time.monotonic) -> None:
        self.connect, self.clock = connect, clock
        self._codes: dict[str, tuple[str, float]] = {}  # code -> config, until when
        self._lock = threading.Lock()

    def advise(self, dataset: str, model: str = BUNDLED_MODEL, task: str = "sft") -> object:
        """Which training method to take for a data set and a model on this machine: memory, time and cost of
        each with their ranges, what earlier runs gained with it, and the recommendation with its reasons.
        task: sft, classification or dpo."""
        client = self.connect()
        version = datasets.get_dataset(client, dataset)
        config = TrainConfig.parse({"dataset": dataset, "model": model, "task": task})
        asked = config.model_dump(exclude_unset=True)
        body = {"config": asked, "fingerprint": version["fingerprint"], "split": split_of(asked, version)}
        answer: Advice = client.ask("advice", body, timeout=PREVIEW_SECONDS)
        price = settings.price(client)
        return {
            "recommendation": answer["recommendation"]["sentence"],
            "reasons": answer["recommendation"]["reasons"],
            "methods": [
                {
                    "method": option["method"],
                    "title": option["title"],
                    "problem": option["problem"],
                    "memory": quantities.gib_between(option["low_gib"], option["high_gib"]),
                    "fits": option["fits"],
                    "time": quantities.span_between(option["low_seconds"], option["high_seconds"]),
                    "cost": _cost_words(advisor.cost(option, price["per_hour"]), price),
                }
                for option in answer["options"]
            ],
        }

    def preview_launch(self, config: dict[str, Any]) -> object:
        """What a run would do and cost before it is launched: rows, memory, time and price with their ranges,
        problems that would refuse it, and the code that `launch_run` asks for. config: fields as in the YAML
        of `tunebench launch`; `dataset` is needed, `model` and `method` have defaults."""
        client = self.connect()
        parsed = TrainConfig.parse(config)
        version = datasets.get_dataset(client, parsed.dataset)
        asked = parsed.model_dump(exclude_none=True)
        if parsed.init_from:
            asked["init_from"] = runs.get_run(client, parsed.init_from)["run_id"]
        split = Split.parse(split_of(asked, version)).fields()
        body = {"config": asked, "fingerprint": version["fingerprint"], "split": split, "row": 0}
        preview: Preview = client.ask("preview", body | {"time_steps": True}, timeout=PREVIEW_SECONDS)
        errors = [problem for problem in preview["problems"] if problem["level"] == "error"]
        answer = _previewed(preview, settings.price(client))
        if errors:
            return answer | {"confirmation": None, "refused": "Mend the problems of level error first."}
        return answer | {"confirmation": self._code(parsed), "confirmation_seconds": CODE_SECONDS}

    def launch_run(self, config: dict[str, Any], confirmation: str) -> object:
        """Launch a run. confirmation: the code that `preview_launch` gave for exactly this config, after its
        cost was shown to whoever decides. A code works once."""
        parsed = TrainConfig.parse(config)
        self._take(parsed, confirmation)
        run_id = self.connect().command("launch", parsed.model_dump(exclude_none=True))["run_id"]
        return {"run_id": run_id, "next": "Ask run_status until it has ended, then get_run."}

    def _code(self, config: TrainConfig) -> str:
        code, now = secrets.token_urlsafe(9), self.clock()
        with self._lock:
            self._codes = {code: kept for code, kept in self._codes.items() if kept[1] > now}
            self._codes[code] = _digest(config), now + CODE_SECONDS
        return code

    def _take(self, config: TrainConfig, code: str) -> None:
        """Use the code up. Raises StateError for one that is none of this config."""
        with self._lock:
            digest, until = self._codes.get(code, ("", 0.0))
            if until <= self.clock():
                raise StateError(
                    "This is no confirmation of a preview, or it is over or used.",
                    fix="Call preview_launch with the config, show what it costs, and take its code.",
                    field="confirmation",
                )
            if not hmac.compare_digest(digest, _digest(config)):
                raise StateError(
                    "The confirmation belongs to another config than this one.",
                    fix="Call preview_launch with exactly the config that is to be launched.",
                    field="confirmation",
                )
            del self._codes[code]


def _digest(config: TrainConfig) -> str:
    return hashlib.sha256(json.dumps(config.model_dump(), sort_keys=True).encode()).hexdigest()


def _previewed(preview: Preview, price: HourPrice) -> dict[str, Any]:
    memory, span = preview["memory"], preview["time"]
    seconds = span["low_seconds"], span["seconds"], span["high_seconds"]
    per_hour = price["per_hour"]
    cost = None
    if per_hour is not None:
        low, expected, high = (each / 3600 * per_hour for each in seconds)
        cost = low, expected, high
    return {
        "method": preview["method"],
        "rows": dict(preview["rows"]),
        "steps": preview["steps"],
        "trainable_parameters": preview["trainable_parameters"],
        "memory": {
            "expected": quantities.gib(memory["peak_gib"]),
            "range": quantities.gib_between(memory["low_gib"], memory["high_gib"]),
            "free": quantities.gib(memory["available_gib"]),
            "fits": memory["fits"],
            "basis": memory["basis"],
        },
        "time": {
            "expected": quantities.span(span["seconds"]),
            "range": quantities.span_between(span["low_seconds"], span["high_seconds"]),
            "basis": span["basis"],
        },
        "cost": _cost_words(cost, price),
        "problems": [_problem(problem) for problem in preview["problems"]],
    }


def _problem(problem: Mapping[str, Any]) -> dict[str, Any]:
    return {name: problem.get(name) for name in ("level", "field", "message", "fix")}


def _cost_words(cost: tuple[float, float, float] | None, price: HourPrice) -> str:
    if cost is None:
        return "not known: nobody has set the price of an hour"
    low, expected, high = cost
    return f"{expected:,.2f} {price['currency']} ({low:,.2f} to {high:,.2f})"
