"""What a run's `model/` folder says of itself: no path of the machine that trained it, a card of its own, and
a base model by a name that means something elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from engine.models import loading, provenance, saved_models
from engine.training import train_job, variant_job
from engine.training.train_job import RUN_CLASSES
from engine.worker.job import WorkerJob
from store.core.errors import ModelError
from store.core.home import Home
from store.core.job_folder import read_json, write_json
from store.core.model_schemas import ModelNote
from store.runs import card_text
from store.training.train_config import BUNDLED_MODEL, TrainConfig
from tests.engine.job_events import QUICK
from tests.tiny import conversations, make_job, write_model, write_rows

ONE = QUICK | {"num_train_epochs": 1, "learning_rate": 5e-3, "early_stopping": False}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("folders") / "a-home").create()
    write_model(home.models / "tiny")
    rows = conversations(60)
    write_rows(home, "rows", rows, labels=[row[-1]["content"] for row in rows])
    return home


def check_folder(home: Home, folder: Path) -> str:
    """The card; no file has a path of the home, or the template of another library."""
    for file in folder.rglob("*"):
        content = file.read_bytes()
        assert str(home.path).encode() not in content, file.name
        assert b"More Information Needed" not in content, file.name
    return (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("lora", {"r": 4}),
        ("full", {"method": "full"}),
        ("head", {"task": "classification"}),
        ("nf4", {"method": "qlora", "load_in_4bit": True, "max_steps": 2}),
    ],
)
def test_a_folder_has_no_path_and_a_card(home: Home, name: str, fields: dict[str, Any]) -> None:
    job = make_job(home, name, **ONE | fields)
    verdict = train_job.run(job)["verdict"]
    card = check_folder(home, job.dir.model)
    assert card.startswith("---\nlibrary_name: ")
    assert "base_model" not in card.split("---")[1]  # a folder is no id of a hub
    assert verdict.headline.split(":")[0] in card  # known by the time the run has ended
    assert "the data set rows" in card
    if fields.get("method") != "full":
        settings = json.loads((job.dir.model / "adapter_config.json").read_text())
        assert (settings["base_model_name_or_path"], settings["revision"]) == ("tiny", None)
    if name == "head":
        assert "Labels (4): blue 2" in card.replace("**", "")


def test_a_mix_is_named_as_what_it_was_mixed_from(home: Home) -> None:
    train_job.run(make_job(home, "before", **ONE | {"r": 4}))
    spec = read_json(home.jobs / "before" / "config.json")
    folder = home.jobs / "mixed"
    folder.mkdir()
    write_json(folder / "config.json", spec | {"job_id": "mixed", "mixed_from": "before", "alpha": 0.5})
    job = WorkerJob(folder)
    variant_job.run(job)
    card = check_folder(home, job.dir.model)
    assert "0.5 of the way from the base model to the model of the run before" in card
    assert (
        json.loads((job.dir.model / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"
    )
    assert saved_models.read_base(job.dir.model)["name"] == "tiny"


def test_a_model_of_a_hub_is_named_by_id_and_commit() -> None:
    hub = {"name": "owner/name", "hub_id": "owner/name", "revision": COMMIT}
    assert provenance.build_reference("owner/name", COMMIT) == hub
    assert provenance.build_reference(f"/anywhere/hub/models--owner--name/snapshots/{COMMIT}") == hub
    assert provenance.build_reference("/anywhere/models/tiny/")["name"] == "tiny"
    assert provenance.shorten_name("~/models/tiny") == "tiny"
    assert provenance.shorten_name("owner/name") == "owner/name"


def note(**fields: Any) -> ModelNote:
    own: dict[str, Any] = {
        "base_model": "owner/name",
        "method": "lora",
        "adapter": True,
        "held": "",
        "merges": True,
    }
    return own | fields  # type: ignore[return-value]


def test_the_card_says_how_to_load_it() -> None:
    config = TrainConfig(model="owner/name", dataset="rows", name="My *run*").resolved(10)
    base = provenance.build_reference("owner/name", COMMIT)
    card = card_text.format_card(card_text.ModelCardFacts(config, note(), base))
    assert card.startswith("---\nbase_model: owner/name\nbase_model_relation: adapter\nlibrary_name: peft\n")
    assert 'AutoPeftModelForCausalLM.from_pretrained("FOLDER")' in card  # base and commit are in the settings
    assert f"revision `{COMMIT}`" in card
    assert "had not been judged" in card
    assert "# My \\*run\\*" in card


def test_what_only_seems_to_be_a_hubs_model_is_said_not_to_be() -> None:
    config = TrainConfig(model=BUNDLED_MODEL, dataset="rows", name="My *run*").resolved(10)
    unknown = provenance.build_reference(f"/anywhere/models/{BUNDLED_MODEL}")
    card = card_text.format_card(card_text.ModelCardFacts(config, note(), unknown))
    assert "base_model:" not in card
    assert "not the same" in card
    merged = card_text.format_card(card_text.ModelCardFacts(config, note(own_base=True), unknown))
    assert "works only with this base model" in merged


def write_snapshot(cache: Path, *names: str) -> Path:
    """A commit as the hub's cache has it."""
    folder = cache / "models--owner--name" / "snapshots" / COMMIT
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("{}")
    return folder


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the hub, which is away, was asked for; its cache is the folder of the test."""
    asked: list[str] = []
    download = huggingface_hub.snapshot_download

    def ask(source: str, *, local_files_only: bool = False, **options: Any) -> str:
        if local_files_only:
            return str(download(source, local_files_only=True, **options))
        asked.append(source)
        raise OSError("the hub is away")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", ask)
    return asked


def test_a_commit_that_the_cache_holds_is_loaded_without_a_word_to_the_hub(
    tmp_path: Path, asked: list[str]
) -> None:
    base = provenance.build_reference("owner/name", COMMIT)
    folder = write_snapshot(tmp_path, "config.json", "tokenizer.json", "model.safetensors")
    assert provenance.find_pinned_folder("owner/name", base) == str(folder)
    assert asked == []


@pytest.mark.parametrize(
    "names",
    [
        ("config.json", "tokenizer.json"),
        ("config.json", "model.safetensors"),
        ("config.json", "tokenizer.json", "model-00001-of-00002.safetensors"),
    ],
)
def test_a_commit_of_which_the_cache_holds_a_part_is_fetched(
    tmp_path: Path, asked: list[str], names: tuple[str, ...]
) -> None:
    write_snapshot(tmp_path, *names)
    with pytest.raises(ModelError, match="neither in the hub's cache here nor to be had"):
        provenance.find_pinned_folder("owner/name", provenance.build_reference("owner/name", COMMIT))
    assert asked == ["owner/name"]


def test_a_run_is_saved_where_its_base_is_gone(home: Home, tmp_path: Path) -> None:
    write_model(tmp_path / "saved")
    before = sorted(path.name for path in (tmp_path / "saved").iterdir())
    for source in (str(tmp_path / "unmounted"), "owner/never-loaded"):
        saved_models.add_vocabulary(source, tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == before


def test_a_resume_loads_the_commit_that_the_run_began_on(
    home: Home, tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(write_snapshot(tmp_path))
    with monkeypatch.context() as patch:  # a hub that is here, at the first start
        for name in ("load_config_for", "load_tokenizer"):
            patch.setattr(loading, name, lambda *_, **__: None)
        patch.setattr(loading, "find_commit", lambda _: COMMIT)
        first = make_job(home, "began", model="owner/name")
        RUN_CLASSES["sft"](first, TrainConfig.parse(first.config)).open()
    job = make_job(home, "began", model="owner/name", resume=True)
    resumed = RUN_CLASSES["sft"](job, TrainConfig.parse(job.config))
    resumed.open()
    assert provenance.build_reference(resumed.source) == provenance.build_reference("owner/name", COMMIT)
    assert asked == []
