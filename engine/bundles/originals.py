"""The run that a bundle says it is of, where it is in this home too: what the bundle says of it beside what
it is, field by field. The engine asks this, which knows its runs; nothing here loads a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.bundles import archive, fields, row_scores
from engine.diagnostics.verdicts import run_figures
from engine.models import base_names
from store.contract.errors import DataError
from store.contract.jobdir import JobDir
from store.documents.runs.bundle import FieldDifference
from store.documents.tables.run import Run
from store.documents.verdicts.verdict import read_verdict

RENAMED = {"name", "notes"}  # may be changed after a run, and change nothing of it


def differences(manifest: dict[str, Any], run: Run, kind: str, folder: Path) -> list[FieldDifference]:
    """manifest: of the bundle; run: of the same id in this home, whose folder is `folder`."""
    bundled = {
        "run": {name: manifest["run"].get(name) for name in ("created_at", "kind")},
        "config": _without_names(manifest["config"]),
        "data": {"fingerprint": manifest["data"]["fingerprint"]},
        "files": _sums(manifest["files"]),
        "figures": manifest["figures"],
        "verdict": manifest.get("verdict"),
        "facts": manifest.get("facts"),
    }
    here = {
        "run": {"created_at": run["created_at"].isoformat(), "kind": kind},
        "config": _without_names(run["config"] | {"model": base_names.plain_name(run["model"])}),
        "data": {"fingerprint": run["data_fingerprint"]},
        "files": _own_sums(JobDir(folder)),
        "figures": _figures(run, folder),
        "verdict": read_verdict(run["verdict"]),
        "facts": run["facts"],
    }
    return fields.differing(bundled, _as_read(here))


def _without_names(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in RENAMED}


def _as_read(document: Any) -> Any:
    """As a manifest has it that was written and read."""
    return json.loads(json.dumps(document))


def _figures(run: Run, folder: Path) -> list[Any]:
    """As the run's bundle has them: its verdict, and the rows that give losses their intervals."""
    verdict = read_verdict(run["verdict"])
    try:
        rows = row_scores.read(JobDir(folder).row_losses)
    except DataError:  # they are gone
        rows = None
    return [] if verdict is None else [{**figure} for figure in run_figures.figures_of(verdict, rows)]


def _sums(files: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Checksums of what a run leaves as it is."""
    return {file["path"]: file["sha256"] for file in files if file["path"] in (archive.SPLIT, archive.LOSSES)}


def _own_sums(folder: JobDir) -> dict[str, str]:
    files = {archive.SPLIT: folder.split, archive.LOSSES: folder.row_losses}
    return {name: archive.checksum(path)["sha256"] for name, path in files.items() if path.exists()}
