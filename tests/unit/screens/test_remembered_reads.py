"""With the engine away a read answers with what it last knew itself, never with what another one did."""

from __future__ import annotations

from typing import Any

import pytest
import streamlit as st

from pages.data import dataset_queries
from pages.evaluation import evaluation_queries
from pages.shared import cached_queries
from pages.shared.session import _get_memory, fallback_to_last
from store.core.errors import EngineUnavailable
from store.core.schemas import Job
from tests.unit.store_samples import row_of


class Present:
    """An engine that has one model and one run's models."""

    def models(self) -> list[dict[str, Any]]:
        return [{"name": "tiny", "ready": True}]


class Away:
    """No engine."""

    def __getattr__(self, name: str) -> Any:
        raise EngineUnavailable("No engine runs.")


@pytest.fixture(autouse=True)
def forgotten() -> None:
    st.cache_data.clear()
    _get_memory.clear()


def test_two_reads_of_one_name_keep_their_own_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_queries, "get_client", Present)
    assert cached_queries.list_models() == [{"name": "tiny", "ready": True}]
    monkeypatch.setattr(cached_queries, "get_client", Away)
    monkeypatch.setattr(evaluation_queries, "get_client", Away)
    st.cache_data.clear()
    assert cached_queries.list_models() == [{"name": "tiny", "ready": True}]  # what it knew
    with pytest.raises(EngineUnavailable):
        evaluation_queries.list_models()  # which never had an answer


def test_arguments_tell_answers_apart() -> None:
    away = False

    @fallback_to_last
    def double(n: int, extra: int = 0) -> int:
        if away:
            raise EngineUnavailable("No engine runs.")
        return 2 * n + extra

    assert [double(1), double(2), double(1, extra=5)] == [2, 4, 7]
    away = True
    assert [double(1), double(2), double(1, extra=5)] == [2, 4, 7]
    with pytest.raises(EngineUnavailable):
        double(3)


def test_signals_are_read_anew_once_a_measurement_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a page drawn just after would neither have the signals nor know of a job that brings them."""
    queue = [row_of(Job, job_id="job-1", kind="profile")]
    measured: dict[str, object] = {}
    monkeypatch.setattr(dataset_queries, "get_client", Present)
    monkeypatch.setattr(dataset_queries.datasets, "signals", lambda client, fingerprint: dict(measured))
    monkeypatch.setattr(cached_queries, "list_queue", lambda: list(queue))
    assert dataset_queries.read_signals("f") == {}
    queue.clear()
    measured["duplicates"] = "there"
    assert dataset_queries.read_signals("f") == measured
