"""The run that a bundle says it is of, where it is in this home too: what the bundle says of it beside what
it is, field by field. The engine asks this, which knows its runs; nothing here loads a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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

Figures = dict[str, dict[str, Any]]
PARTS = ("unit", "value", "low", "high", "n")  # of a figure that say something: its title is words
RENAMED = {"name", "notes"}  # may be changed after a run, and change nothing of it


def differences(manifest: dict[str, Any], run: Run, kind: str, folder: Path) -> list[FieldDifference]:
    """manifest: of the bundle; run: of the same id in this home, whose folder is `folder`."""
    figures = _by_key(manifest["figures"])
    bundled = {
        "run": {name: manifest["run"].get(name) for name in ("created_at", "kind")},
        "config": _without_names(manifest["config"]),
        "data": {"fingerprint": manifest["data"]["fingerprint"]},
        "files": _sums(manifest["files"]),
        "figures": figures,
        "verdict": _without_empty(manifest.get("verdict")),
        "facts": manifest.get("facts"),
    }
    here = {
        "run": {"created_at": run["created_at"].isoformat(), "kind": kind},
        "config": _without_names(run["config"] | {"model": base_names.plain_name(run["model"])}),
        "data": {"fingerprint": run["data_fingerprint"]},
        "files": _own_sums(JobDir(folder)),
        "figures": _as_bundled(_figures(run, folder), figures),
        "verdict": _without_empty(read_verdict(run["verdict"])),
        "facts": run["facts"],
    }
    return fields.differing(bundled, _as_read(here))


def _without_names(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in RENAMED}


def _as_read(document: Any) -> Any:
    """As a manifest has it that was written and read."""
    return json.loads(json.dumps(document))


def _without_empty(document: Any) -> Any:
    """Without parts that hold nothing: those that came after a bundle was written are filled in as such."""
    if not isinstance(document, Mapping):
        return document
    parts = {name: _without_empty(part) for name, part in document.items()}
    return {name: part for name, part in parts.items() if part not in (None, "", [], {})}


def _by_key(figures: Sequence[Mapping[str, Any]]) -> Figures:
    named: Figures = {}
    for figure in figures:
        key = str(figure["key"])
        while key in named:  # no run has one twice
            key += " again"
        named[key] = {part: figure.get(part) for part in PARTS}
    return named


def _as_bundled(own: Figures, bundled: Figures) -> Figures:
    """Those that the bundle has, with its numbers where ours mean the same: they are worked out anew, by
    another version that may sum in another order, and may have more of them."""
    return {
        key: {
            part: theirs[part] if _mean_same(theirs[part], own[key][part]) else own[key][part]
            for part in PARTS
        }
        for key, theirs in bundled.items()
        if key in own
    }


def _mean_same(first: object, second: object) -> bool:
    if not (isinstance(first, int | float) and isinstance(second, int | float)):
        return False
    return run_figures.same_value(float(first), float(second))


def _figures(run: Run, folder: Path) -> Figures:
    """From what a bundle's come from: the verdict, and the rows that give losses their intervals."""
    verdict = read_verdict(run["verdict"])
    try:
        rows = row_scores.read(JobDir(folder).row_losses)
    except DataError:  # they are gone
        rows = None
    return _by_key([] if verdict is None else run_figures.figures_of(verdict, rows))


def _sums(files: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Checksums of what a run leaves as it is."""
    return {file["path"]: file["sha256"] for file in files if file["path"] in (archive.SPLIT, archive.LOSSES)}


def _own_sums(folder: JobDir) -> dict[str, str]:
    files = {archive.SPLIT: folder.split, archive.LOSSES: folder.row_losses}
    return {name: archive.checksum(path)["sha256"] for name, path in files.items() if path.exists()}
