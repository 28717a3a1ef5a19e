"""Between base and tuned model without training: both ends are exact, and each α is scored on both axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from engine.evaluation import general
from engine.job import Job
from engine.jobs import interpolate, train
from engine.tuning import models, saving
from store.config import TrainConfig
from store.errors import ConfigError, NotFoundError
from store.home import Home
from store.interpolation import Interpolate, refusal
from store.jobdir import write_json
from store.methods import METHODS
from tests.engine.told import QUICK
from tests.tiny import conversations, make_job, write_model, write_rows

pytestmark = pytest.mark.usefixtures("one_thread")
FAST = QUICK | {"probes": False, "sample_prompts": 0, "learning_rate": 1e-2, "num_train_epochs": 3}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny")
    write_rows(home, "rows", conversations(60))
    for name in ("prose", "questions"):
        whole = getattr(general, name)
        monkeypatch.setattr(general, name, lambda *given, whole=whole: whole(*given).part(12))
    return home


def interpolated(home: Home, **config: Any) -> tuple[Job, dict[str, Any]]:
    folder = home.jobs / "between"
    folder.mkdir()
    order = {"job_id": "between", "kind": "interpolate", "home": str(home.path), "device": "cpu"}
    write_json(folder / "config.json", order | {"config": config})
    job = Job(folder)
    return job, interpolate.run(job)


@pytest.mark.parametrize(
    "fields",
    [
        {"method": "lora"},
        {"method": "lora", "init_lora_weights": "pissa"},
        {"method": "adalora", "r": 2, "init_r": 4},
        {"method": "vera", "r": 8},
        {"method": "ia3"},
        {"method": "full", "learning_rate": 1e-3},
    ],
)
def test_the_ends_are_the_base_and_the_tuned_model(home: Home, fields: dict[str, Any]) -> None:
    run = make_job(home, "run", **(FAST | fields))
    train.run(run)
    job, found = interpolated(home, run_id="run", alphas=[0.5])
    judged = pq.read_table(run.dir.row_losses)
    rows = pq.read_table(job.dir.interpolation)
    held = rows.filter(pc.equal(rows["probe"], "held_out"))
    assert [point["alpha"] for point in found["points"]] == [0.0, 0.5, 1.0]
    for alpha, column in ((0.0, "base_loss"), (1.0, "tuned_loss")):
        part = held.filter(pc.equal(held["alpha"], alpha))
        assert part["item"].to_pylist() == [str(i) for i in judged["row_id"].to_pylist()]
        assert np.allclose(part["loss_sum"].to_numpy(), judged[column].to_numpy(), atol=1e-4)
    start, middle, end = (point["loss"]["value"] for point in found["points"])
    assert end < middle < start  # on this short way the loss falls all along
    gain = found["points"][2]["gain"]
    assert gain["value"] == pytest.approx(start - end)
    assert gain["low"] < gain["value"] < gain["high"]
    assert found["points"][0]["text"]["change"]["value"] == 0
    assert found["points"][2]["text"]["change"]["value"] != 0
    assert found["points"][2]["choices"]["n"] == 12
    assert found["split"] == "test"
    assert set(rows["probe"].to_pylist()) == {"held_out", "prose", "choices"}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_share_of_the_way_can_be_kept_as_a_model(home: Home, method: str) -> None:
    run = make_job(home, "run", **(FAST | {"method": method, "learning_rate": 1e-3}))
    train.run(run)
    job, found = interpolated(home, run_id="run", alphas=[0.25], save=0.25)
    config = TrainConfig.parse(run.config)
    source = config.model if method == "lora" else str(job.dir.model)
    model = models.load_model(config, source, "cpu", torch.float32)
    if method == "lora":
        model = saving.load(job.dir.model, model)
    again = interpolate.Interpolation(job, Interpolate(run="run", alphas=[0.25]))
    again.tokenizer, again.probes = models.load_tokenizer(config.model), []
    _, held_out = again.held_out(256)
    own = again.measure(model, held_out, 0.25)[0]
    loss = float(own.loss_sum.sum() / own.tokens.sum())
    assert loss == pytest.approx(found["points"][1]["loss"]["value"], abs=1e-5)


def test_a_run_without_a_model_is_named(home: Home) -> None:
    with pytest.raises(NotFoundError, match="left no model"):
        interpolated(home, run_id="gone", alphas=[0.5])


def test_methods_without_a_straight_line_are_refused_with_their_reason() -> None:
    refused = {name for name in METHODS if refusal(TrainConfig.parse({"dataset": "d", "method": name}))}
    prompts = {"prompt_tuning", "prefix_tuning", "p_tuning", "llama_adapter"}
    assert refused == {*prompts, "oft", "bottleneck"}
    assert "DoRA" in refusal(TrainConfig(dataset="d", use_dora=True))
    assert "instruction tuning" in refusal(TrainConfig(dataset="d", task="dpo"))


@pytest.mark.parametrize("body", [{"alphas": [0.5, 1.5]}, {"alphas": []}, {"save": -1}, {"alphas": ["x"]}])
def test_a_bad_share_names_its_field(body: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        Interpolate.parse({"run": "r"} | body)
    assert caught.value.field.split(".")[0] == next(iter(body))
