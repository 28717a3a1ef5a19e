"""The card of every form is one that the hub's own library reads, whatever names hold; its code loads it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard_data import model_index_to_eval_results

from engine.export import model_card, model_export
from engine.export.export_subject import ExportSubject
from engine.models.saved_models import EarlierRun
from engine.worker.job import WorkerJob
from store.core.export_schemas import CardEvaluation
from store.core.figure_schemas import FigureSummary
from store.core.home import Home
from store.core.job_folder import JobDir, read_json, write_json
from store.evaluation.verdict_schemas import TrainingStop
from store.export.config import ModelExport
from store.export.forms import FORMS
from store.runs import card_text
from store.training.train_config import TrainConfig
from tests.engine.exporting import export_job, home_with_model, read_here, trained
from tests.engine.exports.hub_readers import logits
from tests.export_samples import parity_report, run_card
from tests.tiny import conversations, write_rows

HOSTILE = "evil\n---\nlicense: gpl-3.0\n- [x]: &a *a !!python/object \u2028 {{ }} ```python # |<script>"
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def evaluation(name: str) -> CardEvaluation:
    figure = FigureSummary(
        metric="eval/accuracy", value=0.84, low=0.81, high=0.87, n=500, better="higher",
        bounds=[0.0, 1.0], failed=None, estimator="mean",
    )  # fmt: skip
    return CardEvaluation(
        name=name, dataset=name, hub_id=None, part="test", n=500, figures=[figure], units={}, probes=[]
    )


def written(folder: Path, form: str, hub: str = "", **card: Any) -> str:
    eight = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_steps": 24}
    config = TrainConfig(name="r", dataset="D", model="ada/tiny", **eight).resolved(600)
    subject = ExportSubject("model", "model", EarlierRun(JobDir(folder), config, ""), None)
    asked = ModelExport.parse({"subject": "r", "form": form, "hub": hub})
    (folder / "model-Q8_0.gguf").touch()
    course = card_text.summarise_run(
        config, 600, TrainingStop(reason="max_steps", step=24, restored_step=24), 1
    )
    document = run_card(**{"config": config.model_dump(), "course": course, **card})
    return model_card.build_export_card(
        model_card.WrittenExport(subject, asked, document, folder), parity_report(), ["It is | odd."]
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_hubs_library_reads_the_card_of_every_form(form: str, tmp_path: Path) -> None:
    text = written(
        tmp_path,
        form,
        run=HOSTILE,
        reference=HOSTILE,
        data=[{"name": HOSTILE, "hub_id": "ada/rows", "rows": 4_693, "fingerprint": "f" * 32, "steps": []}],
        base={"name": "ada/tiny", "hub_id": "ada/tiny", "revision": "c" * 40},
        base_card={"license": "apache-2.0", "license_name": None, "license_link": None, "languages": ["en"]},
        evaluations=[evaluation(HOSTILE)],
    )
    head = ModelCard(text).data
    family = FORMS[form].family
    assert head.base_model == "ada/tiny"
    relation = "adapter" if family == "adapter" else "finetune"
    assert head.to_dict()["base_model_relation"] == relation
    assert (head.license, head.language, head.datasets) == ("apache-2.0", ["en"], ["ada/rows"])
    assert (head.metrics, head.pipeline_tag) == (["accuracy"], "text-generation")
    assert head.library_name == {"adapter": "peft", "gguf": "gguf", "ollama": "gguf"}.get(
        family, "transformers"
    )
    assert {"tunebench", form} <= set(head.tags)
    (result,) = head.eval_results
    assert (result.metric_value, result.task_type) == (0.84, "text-generation")
    assert result.metric_name == "accuracy (95% 0.81 to 0.87, n 500)"
    assert result.dataset_name == " ".join(HOSTILE.split())
    # what it says reads back through the library's own model of a card
    again = ModelCardData(**ModelCard(text).data.to_dict() | {"model_name": "x"}).to_dict()
    assert model_index_to_eval_results(again["model-index"])[1] == head.eval_results
    assert "24 steps, 192 rows seen, 0.32 epochs of 600 training rows" in text
    assert "has 4,693 rows" in text
    assert "**Epochs:**" not in text
    body = text.split("\n---\n", 1)[1]
    assert "\n---\n" not in body
    assert "<script>" not in body.replace(r"\<script\>", "")


def test_without_a_hubs_base_nothing_of_it_is_made_up(tmp_path: Path) -> None:
    text = written(tmp_path, "adapter")
    head = ModelCard(text).data
    assert (head.base_model, head.license, head.language, head.datasets) == (None, None, None, None)
    assert head.eval_results is None
    assert "tiny, a folder of the machine that trained it" in text


@pytest.mark.parametrize(
    ("form", "hub", "command"),
    [
        ("gguf-q8_0", "", "llama-server -m FOLDER/model-Q8_0.gguf"),
        ("gguf-q8_0", "ada/out", "llama-server --hf-repo ada/out --hf-file model-Q8_0.gguf"),
        ("ollama", "", "cd FOLDER\nollama create model -f Modelfile"),
        ("ollama", "ada/out", "hf download ada/out --local-dir FOLDER\ncd FOLDER\nollama create model"),
    ],
)
def test_a_file_of_llamas_is_loaded_by_its_own_commands(
    form: str, hub: str, command: str, tmp_path: Path
) -> None:
    assert command in written(tmp_path, form, hub)


@pytest.mark.parametrize(
    ("head", "license_", "languages"),
    [
        ({"license": "mit", "language": "en"}, "mit", ["en"]),
        ({"license": "../etc\nx: 1", "language": ["en", 3, "x\n- y", "zh-Hans"]}, None, ["en", "zh-Hans"]),
        ({"license": ["mit"], "language": {"a": 1}}, None, []),
        ({"license": "other", "license_name": "llama3", "license_link": "javascript:alert(1)"}, "other", []),
        ({}, None, []),
    ],
)
def test_of_a_bases_card_only_what_is_of_the_hubs_form(
    head: dict[str, Any], license_: str | None, languages: list[str]
) -> None:
    stated = model_card.parse_front_matter(head)
    assert (stated["license"], stated["languages"]) == (license_, languages)
    assert stated["license_link"] is None


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = home_with_model(tmp_path_factory.mktemp("cards"))
    (home.models / "tiny" / "README.md").write_text("---\nlicense: mit\n---\n")
    trained(home)
    return home


def exported(home: Home, form: str, patch: pytest.MonkeyPatch, **fields: Any) -> tuple[Path, str]:
    read_here(patch)
    result = model_export.run(export_job(home, form, **fields))
    folder = home.path / result.folder
    return folder, (folder / "README.md").read_text(encoding="utf-8")


def run_code(text: str, folder: Path, base: Path) -> dict[str, Any]:
    (code,) = CODE.findall(text)
    names: dict[str, Any] = {}
    exec(code.replace("FOLDER OF THE BASE MODEL", str(base)).replace('"FOLDER"', f'"{folder}"'), names)
    return names


@pytest.mark.parametrize("form", ["adapter", "merged"])
def test_the_code_of_the_card_loads_it(home: Home, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, text = exported(home, form, monkeypatch)
    loaded = run_code(text, folder, home.models / "tiny")
    assert loaded["tokenizer"].chat_template
    ours = run_code((home.jobs / "run" / "model" / "README.md").read_text(), home.jobs / "run" / "model",
                    home.models / "tiny")  # fmt: skip
    torch.testing.assert_close(logits(loaded["model"]), logits(ours["model"]), atol=1e-4, rtol=1e-4)
    assert ModelCard(text).data.license == "mit"  # as the base's own card has it, here in its folder


def test_a_folder_that_says_what_it_was_made_of_is_not_that_model(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chat model's config.json may name the model that it was tuned from: other weights."""
    settings = read_json(home.models / "tiny" / "config.json")
    write_json(home.models / "tiny" / "config.json", settings | {"_name_or_path": "owner/before"})
    folder, text = exported(home, "adapter", monkeypatch)
    write_json(home.models / "tiny" / "config.json", settings)
    assert read_json(folder / "adapter_config.json")["base_model_name_or_path"] == "tiny"
    assert "owner/before" not in text
    assert "is a local folder, tiny" in text


def test_of_a_registered_version_nothing_but_the_model_leaves(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a version's files lie its split and its config, which has a path of this machine."""
    import shutil

    target = home.registry / "model-x" / "1"
    shutil.copytree(home.jobs / "run" / "model", target)
    shutil.copyfile(home.jobs / "run" / "split.parquet", target / "split.parquet")
    write_json(target / "training.json", {"config": {"model": "/home/ada/tiny"}})
    read_here(monkeypatch)
    job = export_job(home, "adapter")
    spec = read_json(job.dir.config)
    version = {"model_id": "model-x", "name": "x", "version": 1, "run_id": "run"}
    spec["export"]["version"] = version | {"folder": "registry/model-x/1"}
    write_json(job.dir.config, spec)
    result = model_export.run(WorkerJob(job.dir.path))
    names = {file.path for file in result.files}
    assert not names & {"training.json", "split.parquet", "tunebench.json"}
    assert "adapter_model.safetensors" in names


def test_an_adapter_on_an_earlier_runs_model_says_that_no_hub_has_it(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(home, "further", init_from="run", init_mode="merge")
    folder, text = exported(home, "adapter", monkeypatch, run="further")
    assert read_json(folder / "adapter_config.json")["base_model_name_or_path"] == "further-base"
    assert "was trained by an earlier run" in text
    assert ModelCard(text).data.base_model is None


def test_the_code_of_a_classifiers_card_loads_it_with_its_labels(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.engine.exports.test_forms import trained_head

    labels: list[str | None] = [["red", "green", "b'l\"ue"][i % 3] for i in range(160)]
    write_rows(home, "labelled", conversations(160), labels=labels)
    trained_head(home)
    asked = {"run": "head", "rows": "labelled", "max_rows": 160}
    folder, text = exported(home, "adapter", monkeypatch, **asked)
    ours = run_code(text, folder, home.models / "tiny")["model"]
    assert sorted(ours.config.id2label.values()) == sorted(map(str, set(labels)))
    assert ModelCard(text).data.pipeline_tag == "text-classification"
    # as a reader would whose base is found by its name
    settings = read_json(folder / "adapter_config.json")
    write_json(
        folder / "adapter_config.json", settings | {"base_model_name_or_path": str(home.models / "tiny")}
    )
    from store.runs import card_text

    code = card_text.format_loading_code("FOLDER", card_text.AdapterBase("ada/tiny"), headed=True)
    theirs = run_code(code, folder, home.models / "tiny")["model"]
    assert theirs.config.id2label == ours.config.id2label
    ids = torch.arange(2, 12)[None]
    with torch.inference_mode():
        torch.testing.assert_close(theirs(input_ids=ids).logits, ours(input_ids=ids).logits)
