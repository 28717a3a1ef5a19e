"""The group `tokens`: counts by the model's own tokenizer and template, cut as training cuts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import AutoConfig

from engine.data import measurement_job
from engine.evaluation.verdicts.data_findings import Finding, find_findings
from engine.models.tokenization.rendering import compute_fitting_length, render
from store.core.errors import ConfigError, TunebenchError
from store.core.home import Home
from store.data import dataset_files
from store.data.signals import GROUPS
from tests.tiny import make_tokenizer, write_model
from tests.unit.profile_job import job_of, rows_of, sidecar
from tests.unit.recipe_samples import ROWS, folders, make, run


def test_tokens_are_those_of_the_renderer_and_the_length_is_that_of_training(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    model = str(write_model(tmp_path / "model"))
    fingerprint = rows_of(home, 12)
    messages = dataset_files.load_rows(home, fingerprint, columns=["messages"])["messages"].to_pylist()
    rows = render(make_tokenizer(), range(12), messages)

    job = job_of(home, fingerprint, "tokens", model=model)
    result = measurement_job.run(job)
    length = compute_fitting_length(rows.lengths, 256)
    assert result["options"] == {"model": model, "max_length": length, "chosen": False}
    assert sidecar(job)["tokens"].to_pylist() == rows.lengths.tolist()
    assert sidecar(job)["trained_tokens"].to_pylist() == rows.trained_counts.tolist()
    assert not any(sidecar(job)["cut"].to_pylist())

    short = job_of(home, fingerprint, "tokens", model=model, max_length=40)
    assert measurement_job.run(short)["options"] == {"model": model, "max_length": 40, "chosen": True}
    _, cut, lost = rows.truncated(40)
    assert cut == sum(sidecar(short)["cut"].to_pylist()) > 0
    assert lost == sum(sidecar(short)["lost_tokens"].to_pylist()) > 0
    with pytest.raises(ConfigError, match="256 positions"):
        measurement_job.run(job_of(home, fingerprint, "tokens", model=model, max_length=300))


def test_positions_of_a_model_that_also_reads_pictures_are_those_of_its_text_part(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    model = write_model(tmp_path / "model")  # its weights aren't read
    AutoConfig.for_model("gemma3", text_config={"max_position_embeddings": 256}).save_pretrained(model)
    with pytest.raises(ConfigError, match="256 positions"):
        measurement_job.run(job_of(home, rows_of(home, 12), "tokens", model=str(model), max_length=300))


def test_a_step_that_counts_tokens_names_a_model_that_is_missing(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    folder = make(home, ROWS)
    before = folders(home)
    with pytest.raises(TunebenchError, match="no model folder") as caught:
        run(home, folder, {"step": "normalise"}, {"step": "cap_length", "most": 8, "model": "/no/model"})
    assert caught.value.message.startswith("Step 2 (")
    assert caught.value.field == "recipe.steps.1.model"
    assert caught.value.fix
    assert {path for path in folders(home) - before if path.is_file()} == set()


def test_both_buttons_of_rows_that_are_cut_leave_none_that_is(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    model = str(write_model(tmp_path / "model"))
    folder = make(home, ROWS)

    def finding_of(fingerprint: str) -> Finding | None:
        group = measurement_job.run(job_of(home, fingerprint, "tokens", model=model, max_length=40))
        measured = find_findings(
            group["row_count"], {"tokens": SimpleNamespace(**group, outdated=False)}, GROUPS
        )
        return next((finding for finding in measured if finding.column == "cut"), None)

    finding = finding_of(folder["fingerprint"])
    assert finding is not None
    assert [fix.label for fix in finding.fixes] == ["Drop these rows", "Truncate them"]
    for fix in finding.fixes:
        cleaned = run(home, folder, *fix.steps)
        assert cleaned.changes
        assert finding_of(cleaned.result["fingerprint"]) is None
