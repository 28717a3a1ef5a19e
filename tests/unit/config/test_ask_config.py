"""What a worker is asked with: a field of the wrong kind is named, and a fingerprint is no path."""

from __future__ import annotations

from typing import Any

import pytest

from store.core.errors import ConfigError
from store.data.config import CostQuery, RenderingQuery

COSTS = {"config": {}, "fingerprint": "f00d"}
RENDERING = {"fingerprint": "f00d", "kind": "chat", "model": "tiny"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("config", 5),
        ("config", [1]),
        ("fingerprint", 5),
        ("fingerprint", "../../token"),
        ("fingerprint", ""),
        ("fingerprint", "a/b"),
        ("fingerprint", "a\x00"),
        ("row", "x"),
        ("row", -1),
        ("row", {}),
        ("split", 5),
    ],
)
def test_costs_are_asked_with_fields_of_their_kinds(field: str, value: Any) -> None:
    CostQuery.parse(COSTS)
    with pytest.raises(ConfigError) as caught:
        CostQuery.parse(COSTS | {field: value})
    assert caught.value.field.startswith(field)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_length", [1]),
        ("max_length", 0),
        ("row", "nan"),
        ("chat_template", 5),
        ("kind", "x"),
        ("model", {}),
        ("model", ""),
    ],
)
def test_a_rendering_is_asked_with_fields_of_their_kinds(field: str, value: Any) -> None:
    assert RenderingQuery.parse(RENDERING | {"chat_template": " x\n"}).chat_template == " x\n"
    with pytest.raises(ConfigError) as caught:
        RenderingQuery.parse(RENDERING | {field: value})
    assert caught.value.field == field


def test_a_message_is_never_endless() -> None:
    with pytest.raises(ConfigError) as caught:
        RenderingQuery.parse(RENDERING | {"x" * 9_000: 1})
    assert len(caught.value.message) <= ConfigError.MAX_CHARACTERS
    assert len(caught.value.field) <= ConfigError.MAX_CHARACTERS
