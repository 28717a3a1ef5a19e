"""A base model is asked once: what is kept of it is what it answered, and no other model's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from engine.evaluation.probes import suite_probes
from engine.evaluation.probes.probe_sets import CachedProbe
from store.core.home import Home
from tests.tiny import make_model, make_tokenizer, write_model

CPU, TOKENIZER = torch.device("cpu"), make_tokenizer()


class Asked:
    """Counts how often a model was really asked."""

    def __init__(self, probe: Any) -> None:
        self.probe, self.times, self.name, self.tokens = probe, 0, probe.name, probe.tokens

    def __len__(self) -> int:
        return len(self.probe)

    def measure(self, model: Any, **how: Any) -> Any:
        self.times += 1
        return self.probe.measure(model, **how)

    def listing(self) -> Any:
        return self.probe.listing()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny")


def ask(asked: Any, home: Home, folder: Path, *, seed: int = 0, batch_size: int = 8) -> Any:
    probe = CachedProbe(asked, home, TOKENIZER, folder)
    return probe.measure(make_model(seed), batch_size=batch_size, device=CPU)


@pytest.mark.parametrize("make", [suite_probes.build_prose_probe, suite_probes.build_choice_probe])
def test_a_base_is_asked_once(make: Any, home: Home, folder: Path) -> None:
    asked = Asked(make(TOKENIZER, 200).part(6))
    first, second = ask(asked, home, folder), ask(asked, home, folder)
    assert asked.times == 1
    assert first.table(model="base").equals(second.table(model="base"))
    assert np.isfinite(second.loss_sum).all()


def test_whatever_changes_an_answer_asks_again(home: Home, folder: Path, tmp_path: Path) -> None:
    asked = Asked(suite_probes.build_prose_probe(TOKENIZER, 200).part(6))
    first = ask(asked, home, folder)
    other = ask(asked, home, write_model(tmp_path / "other", seed=1), seed=1)
    assert asked.times == 2
    assert not np.array_equal(first.loss_sum, other.loss_sum)
    ask(asked, home, folder, batch_size=2)
    assert asked.times == 3
    fewer = Asked(suite_probes.build_prose_probe(TOKENIZER, 200).part(5))
    assert len(ask(fewer, home, folder).loss_sum) == 5
    assert fewer.times == 1


def test_a_part_is_known_with_the_whole(home: Home, folder: Path) -> None:
    whole = suite_probes.build_choice_probe(TOKENIZER, 200).part(12)
    part = whole.part(4)
    model, how = make_model(), {"batch_size": 8, "device": CPU}
    small = CachedProbe(part, home, TOKENIZER, folder, whole)
    assert not small.is_cached(model, 8, CPU)
    of_whole = CachedProbe(whole, home, TOKENIZER, folder).measure(model, **how)
    assert small.is_cached(model, 8, CPU)
    of_part = small.measure(model, **how)
    asked = part.measure(model, **how)
    assert list(of_part.items) == list(asked.items)
    assert set(of_part.items) < set(of_whole.items)
    assert of_part.loss_sum == pytest.approx(asked.loss_sum, abs=1e-4)


def test_a_file_that_is_broken_is_made_anew(home: Home, folder: Path) -> None:
    asked = Asked(suite_probes.build_prose_probe(TOKENIZER, 200).part(6))
    first = ask(asked, home, folder)
    [file] = (home.cache / "base_probes").iterdir()
    file.write_bytes(b"cut")
    assert ask(asked, home, folder).table().equals(first.table())
    assert asked.times == 2
    assert pq.read_table(file).num_rows == 6
