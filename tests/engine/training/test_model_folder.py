"""What a run's `model/` folder says of itself: no path of the machine that trained it, a card of its own, and
a base model by a name that means something elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.jobs.runs import train, variant
from engine.models import base_names, saving
from engine.worker.job import WorkerJob
from store.config.training.train_config import BUNDLED_MODEL, TrainConfig
from store.contract.home import Home
from store.contract.jobdir import read_json, write_json
from store.documents.models.saved_model import ModelNote
from store.words import adapter_card
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
    verdict = train.run(job)["verdict"]
    card = check_folder(home, job.dir.model)
    assert card.startswith("---\nlibrary_name: ")
    assert "base_model" not in card.split("---")[1]  # a folder is no id of a hub
    assert verdict["headline"].split(":")[0] in card  # known by the time the run has ended
    assert "the data set rows" in card
    if fields.get("method") != "full":
        settings = json.loads((job.dir.model / "adapter_config.json").read_text())
        assert (settings["base_model_name_or_path"], settings["revision"]) == ("tiny", None)
    if name == "head":
        assert "Labels (4): blue 2" in card.replace("**", "")


def test_a_mix_is_named_as_what_it_was_mixed_from(home: Home) -> None:
    train.run(make_job(home, "before", **ONE | {"r": 4}))
    order = read_json(home.jobs / "before" / "config.json")
    folder = home.jobs / "mixed"
    folder.mkdir()
    write_json(folder / "config.json", order | {"job_id": "mixed", "mixed_from": "before", "alpha": 0.5})
    job = WorkerJob(folder)
    variant.run(job)
    card = check_folder(home, job.dir.model)
    assert "0.5 of the way from the base model to the model of the run before" in card
    assert (
        json.loads((job.dir.model / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"
    )
    assert saving.base_of(job.dir.model)["name"] == "tiny"


def test_a_model_of_a_hub_is_named_by_id_and_commit() -> None:
    hub = {"name": "owner/name", "hub_id": "owner/name", "revision": COMMIT}
    assert base_names.reference("owner/name", COMMIT) == hub
    assert base_names.reference(f"/anywhere/hub/models--owner--name/snapshots/{COMMIT}") == hub
    assert base_names.reference("/anywhere/models/tiny/")["name"] == "tiny"
    assert base_names.plain_name("~/models/tiny") == "tiny"
    assert base_names.plain_name("owner/name") == "owner/name"


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
    base = base_names.reference("owner/name", COMMIT)
    card = adapter_card.write(adapter_card.ModelCardFacts(config, note(), base))
    assert card.startswith("---\nbase_model: owner/name\nbase_model_relation: adapter\nlibrary_name: peft\n")
    assert 'AutoPeftModelForCausalLM.from_pretrained("FOLDER")' in card  # base and commit are in the settings
    assert f"revision `{COMMIT}`" in card
    assert "had not been judged" in card
    assert "# My \\*run\\*" in card


def test_what_only_seems_to_be_a_hubs_model_is_said_not_to_be() -> None:
    config = TrainConfig(model=BUNDLED_MODEL, dataset="rows", name="My *run*").resolved(10)
    unknown = base_names.reference(f"/anywhere/models/{BUNDLED_MODEL}")
    card = adapter_card.write(adapter_card.ModelCardFacts(config, note(), unknown))
    assert "base_model:" not in card
    assert "not the same" in card
    merged = adapter_card.write(adapter_card.ModelCardFacts(config, note(own_base=True), unknown))
    assert "doesn't fit any other" in merged
