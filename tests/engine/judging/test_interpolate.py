"""Between base and tuned model without training: both ends are exact, and each α is scored on both axes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from engine.evaluation import evaluated_model, interpolated_model
from engine.evaluation.probes import suite_probes
from engine.models import adapter_weights
from engine.models.losses import compute_row_losses
from engine.training import interpolation_job, train_job, variant_job
from engine.worker.job import WorkerJob
from store.core.errors import ConfigError, NotFoundError
from store.core.home import Home
from store.core.job_folder import read_json, write_json
from store.evaluation.config import EvaluateConfig
from store.evaluation.verdict_schemas import Interpolation, Verdict
from store.runs.config import Interpolate, Variant, explain_refusal
from store.training.methods import METHODS
from store.training.train_config import TrainConfig
from tests.engine.job_events import QUICK, facts
from tests.shapes import held_to
from tests.tiny import conversations, make_job, write_model, write_rows

FAST = QUICK | {"probes": False, "sample_prompts": 0, "learning_rate": 1e-2, "num_train_epochs": 3}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny")
    write_rows(home, "rows", conversations(60))
    for name in ("build_prose_probe", "build_choice_probe"):
        whole = getattr(suite_probes, name)
        monkeypatch.setattr(suite_probes, name, lambda *given, whole=whole: whole(*given).part(12))
    return home


def interpolated(home: Home, **config: Any) -> tuple[WorkerJob, Interpolation]:
    folder = home.jobs / "between"
    folder.mkdir()
    order = {"job_id": "between", "kind": "interpolate", "home": str(home.path), "device": "cpu"}
    write_json(folder / "config.json", order | {"config": config})
    job = WorkerJob(folder)
    return job, held_to(Interpolation, interpolation_job.run(job))


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
    train_job.run(run)
    job, result = interpolated(home, run_id="run", alphas=[0.5])
    judged = pq.read_table(run.dir.row_losses)
    rows = pq.read_table(job.dir.interpolation)
    held = rows.filter(pc.equal(rows["probe"], "held_out"))
    assert [point.alpha for point in result.points] == [0.0, 0.5, 1.0]
    for alpha, column in ((0.0, "base_loss"), (1.0, "tuned_loss")):
        part = held.filter(pc.equal(held["alpha"], alpha))
        assert part["item"].to_pylist() == [str(i) for i in judged["row_id"].to_pylist()]
        assert np.allclose(part["loss_sum"].to_numpy(), judged[column].to_numpy(), atol=1e-4)
    start, middle, end = (point.loss.value for point in result.points)
    assert end < middle < start  # on this short way the loss falls all along
    gain = result.points[2].gain
    assert gain.value == pytest.approx(start - end)
    assert gain.low < gain.value < gain.high
    assert result.points[0].text.change.value == 0
    assert result.points[2].text.change.value != 0
    assert result.points[2].choices.n == 12
    assert result.split == "test"
    assert set(rows["probe"].to_pylist()) == {"held_out", "prose", "choices"}


def kept(home: Home, name: str, run_id: str, alpha: float) -> tuple[WorkerJob, Verdict]:
    """A variant as the engine orders it."""
    spec = read_json(home.jobs / run_id / "config.json")
    folder = home.jobs / name
    folder.mkdir()
    write_json(folder / "config.json", spec | {"job_id": name, "mixed_from": run_id, "alpha": alpha})
    job = WorkerJob(folder)
    return job, variant_job.run(job)["verdict"]


def test_data_sets_that_are_probes_are_scored_at_every_share(home: Home) -> None:
    others = [[{"role": "user", "content": f"Say {i}"}, {"role": "assistant", "content": f"so {i}"}]
              for i in range(30)]  # fmt: skip
    write_rows(home, "Other", others)
    run = make_job(home, "run", **(FAST | {"probes": True, "probe_datasets": ["Other"], "probe_rows": 9}))
    run.spec["probes"] = [{"name": "Other", "kind": "chat", "fingerprint": "Other"}]
    write_json(run.dir.config, run.spec)
    judged = train_job.run(run)["verdict"].forgetting.texts[-1]
    job, result = interpolated(home, run_id="run", alphas=[0.5])
    start, middle, end = (point.named[0] for point in result.points)
    assert {part.probe for part in (start, middle, end)} == {"data/Other"}
    assert start.change.value == 0
    assert end == judged  # the ends are the run's own figures
    assert middle.change.n == 9
    assert middle.change.low < middle.change.value < middle.change.high
    assert start.after != middle.after != end.after
    rows = pq.read_table(job.dir.interpolation)
    asked = rows.filter(pc.equal(rows["probe"], "data/Other"))
    assert asked["alpha"].to_pylist() == [0.0] * 9 + [0.5] * 9 + [1.0] * 9


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_share_of_the_way_is_kept_as_a_run(home: Home, method: str) -> None:
    fields = FAST | {"method": method, "learning_rate": 1e-3, "probes": True, "sample_prompts": 2}
    run = make_job(home, "run", **fields)
    trained = train_job.run(run)["verdict"]
    asked = sorted((home.cache / "base_probes").iterdir())
    between, result = interpolated(home, run_id="run", alphas=[0.25])
    point = result.points[1]
    job, verdict = kept(home, "quarter", "run", 0.25)
    gain = verdict.gain
    question, whole = verdict.parts.question, trained.parts.question
    assert question.n == whole.n
    assert verdict.parts.total.value == pytest.approx(gain.value, rel=1e-5)
    assert 0 < abs(question.value) < abs(whole.value)
    assert sorted((home.cache / "base_probes").iterdir()) == asked  # what the base model lost is remembered
    for file in asked:
        file.unlink()
    _, anew = kept(home, "anew", "run", 0.25)  # and asked again where it isn't
    assert anew.parts.question.value == pytest.approx(question.value, abs=1e-5)
    assert gain.value == pytest.approx(point.gain.value, abs=1e-5)
    assert gain.n == point.gain.n
    change = verdict.forgetting.texts[0].change.value
    assert change == pytest.approx(point.text.change.value, abs=1e-5)
    kl = verdict.forgetting.divergence[0].kl.value
    assert point.kl.value == pytest.approx(kl, abs=1e-5)
    assert verdict.overfitting is None
    assert verdict.advice == verdict.forgetting.advice == []
    assert "α 0.25" in verdict.sentences[0]
    base = pq.read_table(run.dir.row_losses)["base_loss"].to_numpy()
    assert np.allclose(pq.read_table(job.dir.row_losses)["base_loss"].to_numpy(), base, atol=1e-4)
    assert pq.read_table(job.dir.predictions).num_rows == 2

    config = EvaluateConfig(run="quarter", dataset="rows", metrics=["perplexity"])
    again = evaluated_model.load_model(job, config)  # what evaluations load
    rows = interpolated_model.ModelInterpolation(between, "run").rows
    own = compute_row_losses(again.model, rows, batch_size=8, device="cpu")
    assert own.loss == pytest.approx(point.loss.value, abs=1e-5)

    on = make_job(home, "on", **(fields | {"init_from": "quarter", "init_mode": "stack", "max_steps": 1}))
    assert train_job.run(on)["verdict"].continued_from.run_id == "quarter"


def test_the_ends_are_taken_over_from_the_verdict(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_job(home, "run", **(FAST | {"probes": True}))
    train_job.run(run)
    measured: list[float] = []
    measure = interpolated_model.ModelInterpolation.measure

    def noted(self: interpolated_model.ModelInterpolation, alpha: float, tell: Any) -> Any:
        measured.append(alpha)
        return measure(self, alpha, tell)

    monkeypatch.setattr(interpolated_model.ModelInterpolation, "measure", noted)
    _, result = interpolated(home, run_id="run", alphas=[0.5])
    assert measured == [0.5]
    assert result.points[2].gain.value > 0
    assert [bool(point.seconds) for point in result.points] == [False, True, False]
    # how long another share takes is known from the run before any was scored
    assert {"held_out", "prose", "choices", "own_samples"} <= set(facts(run)["judged_seconds"])


def test_whole_weights_are_mixed_with_one_model_in_memory(tmp_path: Path) -> None:
    """Both ends are read from the disk, a matrix at a time: under twice what the model takes."""
    code = """
import sys, torch
from pathlib import Path
from engine.models.adapter_weights import interpolate_weights
folder = Path(sys.argv[1])
model = torch.nn.Sequential(*(torch.nn.Linear(1024, 1024, bias=False) for _ in range(64)))
for i, layer in enumerate(model):
    layer.weight.data.fill_(i + 1.0)
line = interpolate_weights(model, (folder / "base", folder / "tuned"), None, folder / "aside")
line.go(0.25)
assert model[7].weight[3, 4].item() == 7.25
line.go(0.0)
assert model[7].weight[3, 4].item() == 7.0
anonymous = [l for l in open("/proc/self/status") if l.startswith("RssAnon")][0].split()[1]
print(len(line.parameters), int(anonymous) // 1024)
"""
    for side, add in (("base", 0.0), ("tuned", 1.0)):
        (tmp_path / side).mkdir()
        layers = {f"{i}.weight": torch.full((1024, 1024), i + add) for i in range(64)}  # 256 MiB
        save_file(layers, tmp_path / side / "model.safetensors")
    del layers
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    parameters, mib = map(int, done.stdout.split())
    assert parameters == 64
    assert mib < 256 * 1.5 + 250  # torch itself takes some 200


def test_weights_under_other_names_are_written_aside(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 3)
    for side in ("base", "tuned"):
        (tmp_path / side).mkdir()
        save_file({"of another name": torch.zeros(1)}, tmp_path / side / "model.safetensors")

    def load(folder: Path) -> Any:
        made = torch.nn.Linear(3, 3)
        made.weight.data.fill_(folder.name == "tuned")
        made.bias.data.fill_(2.0)
        return made

    model.load_state_dict(load(tmp_path / "tuned").state_dict())
    line = adapter_weights.interpolate_weights(
        model, (tmp_path / "base", tmp_path / "tuned"), load, tmp_path / "aside"
    )
    line.go(0.75)
    assert model.weight.data.flatten().tolist() == [0.75] * 9
    assert list(line.parameters) == ["weight"]  # the bias was not moved


def test_a_run_without_a_model_is_named(home: Home) -> None:
    with pytest.raises(NotFoundError, match="has no saved model"):
        interpolated(home, run_id="gone", alphas=[0.5])


def test_methods_without_a_straight_line_are_refused_with_their_reason() -> None:
    refused = {
        name for name in METHODS if explain_refusal(TrainConfig.parse({"dataset": "d", "method": name}))
    }
    prompts = {"prompt_tuning", "prefix_tuning", "p_tuning", "llama_adapter"}
    assert refused == {*prompts, "oft", "bottleneck"}
    assert "DoRA" in explain_refusal(TrainConfig(dataset="d", use_dora=True))
    assert "instruction tuning" in explain_refusal(TrainConfig(dataset="d", task="dpo"))


@pytest.mark.parametrize("body", [{"alphas": [0.5, 1.5]}, {"alphas": []}, {"alphas": ["x"]}])
def test_a_bad_share_names_its_field(body: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        Interpolate.parse({"run": "r"} | body)
    assert caught.value.field.split(".")[0] == next(iter(body))


@pytest.mark.parametrize("alpha", [0, 1, -0.5, "half", None])
def test_only_a_share_in_between_can_be_kept(alpha: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Variant.parse({"run": "r", "alpha": alpha})
    assert caught.value.field == "alpha"
