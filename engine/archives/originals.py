"""Comparison of an archive with the run it claims to be of, if that exists here: by field, and by the losses
of the rows that judged it. No model is loaded here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from engine.archives import archive_file
from engine.evaluation.comparison import run_comparison
from engine.evaluation.comparison.run_comparison import HeldOutRowLosses
from engine.evaluation.statistics.intervals import Interval
from engine.models import provenance
from store.archives.schemas import FieldDifference
from store.core.documents import as_json
from store.core.errors import DataError
from store.core.job_folder import JobDir
from store.runs.schemas import Run

COLUMNS = ("row_id", "tokens", "base_loss", "tuned_loss", "base_correct", "tuned_correct")


def read_losses(path: Path) -> HeldOutRowLosses:
    """Read row losses, sorted by row ID. Raises DataError for an invalid file."""
    try:
        table = archive_file.open_parquet(path).read(columns=list(COLUMNS)).sort_by("row_id")
        numbers = [table[name].to_numpy().astype(np.float64) for name in COLUMNS[1:]]
        return HeldOutRowLosses(table["row_id"].to_numpy().astype(np.int64), *numbers)
    except (pa.ArrowException, KeyError, OSError, TypeError, ValueError) as error:
        raise DataError(f"{path.name} has no row losses.", fix="Request the bundle again.") from error


def compute_paired_changes(
    first: HeldOutRowLosses, second: HeldOutRowLosses, values: dict[str, float]
) -> dict[str, Interval]:
    """Compute the second minus the first for each figure over the same rows, weighted by their tokens.

    values: the figures of the first run; a figure not reproduced from its rows is left out, and all are if
    other rows judged.
    """
    if not np.array_equal(first.row_ids, second.row_ids) or not np.array_equal(first.tokens, second.tokens):
        return {}
    changes: dict[str, Interval] = {}
    before, now = first.sums(), second.sums()
    for key in before:
        own = run_comparison.compute_figure_interval(first, key)
        change = run_comparison.compute_figure_interval(first, key, now[key] - before[key])
        if own and change and key in values and run_comparison.is_same_value(own.value, values[key]):
            changes[key] = change
    return changes


Figures = dict[str, dict[str, object]]
PARTS = ("unit", "value", "low", "high", "n")  # parts of a figure to compare; its title is only text
MUTABLE_FIELDS = {"name", "notes"}  # may be changed after a run, without effect on it


def compare_with_original(
    manifest: dict[str, Any], run: Run, kind: str, folder: Path
) -> list[FieldDifference]:
    """Compare the bundle's manifest with `run`, the run of the same ID here, whose folder is `folder`."""
    figures = _index_by_key(manifest["figures"])
    files = {archive_file.SPLIT: JobDir(folder).split, archive_file.LOSSES: JobDir(folder).row_losses}
    bundled = {
        "run": {name: manifest["run"].get(name) for name in ("created_at", "kind")},
        "config": _drop_names(manifest["config"]),
        "data": {"fingerprint": manifest["data"]["fingerprint"]},
        "files": _index_checksums(manifest["files"]),
        "figures": figures,
        "verdict": _drop_empty(manifest.get("verdict")),
        "facts": manifest.get("facts"),
    }
    here = {
        "run": {"created_at": run.created_at.isoformat(), "kind": kind},
        "config": _drop_names(run.config | {"model": provenance.shorten_name(run.model)}),
        "data": {"fingerprint": run.data_fingerprint},
        "files": {
            name: archive_file.compute_checksum(path).sha256 for name, path in files.items() if path.exists()
        },
        "figures": _align_figures(_compute_figures(run, folder), figures),
        "verdict": _drop_empty(_round_trip_json(run.verdict)),
        "facts": run.facts,
    }
    return archive_file.compare_documents(bundled, _round_trip_json(here))


def _drop_names(config: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in config.items() if name not in MUTABLE_FIELDS}


def _round_trip_json(document: Any) -> Any:
    """Return the document as written to and read from a manifest."""
    return json.loads(json.dumps(document, default=as_json))


def _drop_empty(document: Any) -> Any:
    """Drop empty parts: parts introduced after a bundle was written are filled in as empty."""
    if not isinstance(document, Mapping):
        return document
    parts = {name: _drop_empty(part) for name, part in document.items()}
    return {name: part for name, part in parts.items() if part not in (None, "", [], {})}


def _index_by_key(figures: Sequence[Mapping[str, Any]]) -> Figures:
    named: Figures = {}
    for figure in figures:
        key = str(figure["key"])
        while key in named:  # no run has duplicates
            key += " again"
        named[key] = {part: figure.get(part) for part in PARTS}
    return named


def _align_figures(own: Figures, bundled: Figures) -> Figures:
    """Return the figures that the bundle has, with its numbers if ours are equal within rounding: they are
    recomputed, possibly by another version that sums in another order, and there may be more of them.
    """
    return {
        key: {
            part: theirs[part] if _is_same_value(theirs[part], own[key][part]) else own[key][part]
            for part in PARTS
        }
        for key, theirs in bundled.items()
        if key in own
    }


def _is_same_value(first: object, second: object) -> bool:
    if not (isinstance(first, int | float) and isinstance(second, int | float)):
        return False
    return run_comparison.is_same_value(float(first), float(second))


def _compute_figures(run: Run, folder: Path) -> Figures:
    """Compute the figures from the same sources as a bundle's: the verdict, and the rows for the losses'
    intervals.
    """
    verdict = run.verdict
    try:
        rows = read_losses(JobDir(folder).row_losses)
    except DataError:  # they no longer exist
        rows = None
    return _index_by_key(
        [] if verdict is None else _round_trip_json(run_comparison.list_figures(verdict, rows))
    )


def _index_checksums(files: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the checksums of the files that a run leaves unchanged."""
    return {
        file["path"]: file["sha256"]
        for file in files
        if file["path"] in (archive_file.SPLIT, archive_file.LOSSES)
    }
