"""What a note from elsewhere says of its base, and what of it comes out in exports."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.export.export_subject import ExportSubject, describe_public_base
from engine.models import provenance, saved_models
from engine.models.saved_models import EarlierRun
from store.core.home import Home
from store.core.job_folder import write_json
from store.training.train_config import TrainConfig

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def subject(home: Home, model: str, settings: dict[str, Any], **note: Any) -> ExportSubject:
    """An adapter in a folder, and what lies beside it."""
    folder = home.path / "from-elsewhere"
    folder.mkdir()
    whole = {"base_model": model, "method": "lora", "adapter": True, "held": "", "merges": True}
    write_json(folder / provenance.NOTE, whole | note)
    write_json(folder / "adapter_config.json", settings)
    files: Any = SimpleNamespace(model=folder, base=folder / "no-base")
    return ExportSubject("n", "n", EarlierRun(files, TrainConfig(model=model, dataset="d"), ""), None)


def base_of(subject: ExportSubject, home: Home) -> Any:
    job: Any = SimpleNamespace(home=home)
    return describe_public_base(subject, job)


@pytest.mark.parametrize(
    "base",
    [
        {"name": "x](http://evil)<img>\n# h", "hub_id": "x](http://evil)<img>\n# h", "revision": None},
        {"name": "owner/name", "hub_id": "owner/name", "revision": "main` <script>"},
        {"name": "/home/alice/secret", "hub_id": None, "revision": None},
        {"name": "another/name", "hub_id": "owner/name", "revision": COMMIT},
        {"hub_id": None},
        "oops",
        ["a"],
    ],
)
def test_a_base_that_no_run_would_have_noted_is_not_known(tmp_path: Path, base: Any) -> None:
    home = Home(tmp_path / "home").create()
    stated = subject(home, "org/model", {}, base=base)
    assert base_of(stated, home) == {"name": "org/model", "hub_id": "org/model", "revision": None}
    assert saved_models.read_base(stated.folder) == {"name": "org/model", "hub_id": None, "revision": None}


@pytest.mark.parametrize(
    "note", [{"method": "magic"}, {"base_model": 3}, {"held": "2 bits"}, {"labels": "a"}]
)
def test_a_note_that_is_none_is_left_out(tmp_path: Path, note: dict[str, Any]) -> None:
    home = Home(tmp_path / "home").create()
    assert provenance.read_note(subject(home, "org/model", {}, **note).folder) is None


def test_a_base_that_a_run_noted_is_taken(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    base = {"name": "org/model", "hub_id": "org/model", "revision": COMMIT}
    assert base_of(subject(home, "org/model", {}, base=base), home) == base


def test_a_hub_id_without_an_owner_is_one(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    adapter = subject(home, "gpt2", {"base_model_name_or_path": "gpt2", "revision": COMMIT})
    assert base_of(adapter, home) == {"name": "gpt2", "hub_id": "gpt2", "revision": COMMIT}
