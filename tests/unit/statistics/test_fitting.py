"""The nearest settings that fit: over a made-up memory, whose numbers are easy to follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.evaluation.verdicts import launch_advice

CONFIG: dict[str, Any] = {
    **{"method": "full", "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2},
    **{"gradient_checkpointing": False, "max_length": 512},
}
SETTINGS = launch_advice.MemorySettings(batch_size=8, accumulation=2, checkpointing=False, max_length=512)
WEIGHTS = {"full": 8.0, "lora": 2.0, "qlora": 1.0}


def need(change: dict[str, Any]) -> tuple[float, float] | None:
    now = CONFIG | change
    tokens = now["per_device_train_batch_size"] * now["max_length"] / 512
    peak = WEIGHTS[now["method"]] + tokens * (0.2 if now["gradient_checkpointing"] else 1.0)
    return peak, 1.1 * peak


SETTINGS = launch_advice.MemorySettings(batch_size=8, accumulation=2, checkpointing=False, max_length=512)
LORA, QLORA = ({"method": method, "learning_rate": None} for method in ("lora", "qlora"))


def changes(room: float, methods: Sequence[dict[str, Any]] = (LORA, QLORA)) -> list[dict[str, Any]]:
    offers = launch_advice.find_fitting_changes(SETTINGS, need, room, methods)
    assert all(offer.high_gib <= room for offer in offers)
    return [offer.change for offer in offers]


def test_a_smaller_batch_keeps_the_rows_of_a_step() -> None:
    batch, checkpointing, method = changes(14.0)
    assert batch == {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
    assert checkpointing == {"gradient_checkpointing": True}
    assert method == {"method": "lora", "learning_rate": None}


def test_what_is_not_enough_alone_comes_together() -> None:
    first = changes(9.1, ())[0]
    assert first["gradient_checkpointing"]
    assert first["per_device_train_batch_size"] == 1
    assert changes(8.95, ())[0]["max_length"] == 256


def test_another_method_where_nothing_else_helps() -> None:
    offered = changes(2.5)
    assert offered[0]["method"] == "lora"
    assert changes(0.5) == []


def test_settings_that_do_not_go_together_are_passed_over() -> None:
    offers = launch_advice.find_fitting_changes(
        SETTINGS, lambda change: None if change.get("gradient_checkpointing") else need(change), 14.0, (LORA,)
    )
    assert [set(offer.change) for offer in offers] == [
        {"per_device_train_batch_size", "gradient_accumulation_steps"},
        {"method", "learning_rate"},
    ]
    assert offers[0].text == "Batches of 4 rows, 4 of them a step"
