"""What an ask's body names is checked, so the engine knows the model of every such body."""

from __future__ import annotations

import importlib

import pytest

from engine.server.machine_access import load_query_bodies
from store.core.config import Config, get_source_kind
from store.core.job_kinds import ASKS, JOB_KINDS


@pytest.mark.parametrize("name", ASKS)
def test_a_body_that_names_something_of_the_machine_is_in_the_table(name: str) -> None:
    module = importlib.import_module(JOB_KINDS[name].module)
    bodies = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Config) and value is not Config
    ]
    marked = [body for body in bodies if any(map(get_source_kind, body.model_fields.values()))]
    checked = load_query_bodies()
    assert name in checked or not marked, f"the ask {name} names something of the machine: {marked}"
    if name in checked:  # as its worker parses it, here or where what is asked is prepared
        assert checked[name].__module__.endswith("config")


def test_the_table_is_of_asks() -> None:
    assert set(load_query_bodies()) <= set(ASKS)
