"""What a base model is called outside of the machine that holds it: its hub id and the commit that was loaded
where these are known, else the plain name of its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from store.documents.runs.saved_model import BaseReference

SNAPSHOTS = "snapshots"  # the hub's cache: models--OWNER--NAME/snapshots/COMMIT
CACHED = "models--"


def of_model(model: Any) -> BaseReference:
    """Of a model that `from_pretrained` loaded, with or without an adapter on it."""
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    return reference(base.config._name_or_path, getattr(base.config, "_commit_hash", None))


def reference(source: str, commit: str | None = None) -> BaseReference:
    """Of a folder or a hub id; commit: of the hub, as transformers says it of what it loaded."""
    folder = Path(source)
    if folder.parent.name == SNAPSHOTS and folder.parents[1].name.startswith(CACHED):
        source, commit = folder.parents[1].name.removeprefix(CACHED).replace("--", "/"), folder.name
    elif folder.is_absolute() or folder.is_dir():
        return {"name": folder.resolve().name, "hub_id": None, "revision": None}
    return {"name": source, "hub_id": source, "revision": commit}


def plain_name(model: str) -> str:
    """The name that a config has for its model, without the path of a folder."""
    return reference(str(Path(model).expanduser()) if model.startswith("~") else model)["name"]
