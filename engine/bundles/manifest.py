"""What a bundle says of its run."""

from __future__ import annotations

import datetime
import platform
from pathlib import PurePath
from typing import cast

from engine.bundles import differences
from engine.diagnostics.verdicts import run_figures
from engine.diagnostics.verdicts.run_figures import JudgedRows
from engine.models import base_names
from store.config.training.bundle_config import FORMAT, VERSION
from store.documents.runs.bundle import (
    BaseWeights,
    BundledRows,
    BundleEnvironment,
    BundleManifest,
)
from store.documents.shipping.version import VersionFile
from store.documents.tables.job_order import JobOrder, OrderVersion
from store.documents.tables.run import RunFacts
from store.documents.verdicts.verdict import read_verdict

UNKNOWN = "not known"


def write(
    order: JobOrder, base: BaseWeights, rows: JudgedRows, files: list[VersionFile], *, with_rows: bool
) -> BundleManifest:
    """The manifest of the run that `order` tells of."""
    run = order["run"]
    facts, verdict = cast(RunFacts, run["facts"]), read_verdict(run["verdict"])
    assert verdict is not None  # a run that finished has one
    model = base["name"] if base["hub_id"] else base_names.plain_name(run["model"])
    return {
        "format": FORMAT,
        "version": VERSION,
        "written_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "run": {
            "run_id": run["run_id"],
            "name": run["name"],
            "created_at": run["created_at"],
            "kind": run["kind"],
        },
        "config": run["config"] | {"model": model},
        "facts": facts,
        "base": base,
        "data": _rows(order, with_rows=with_rows),
        "split": order["split"],
        "others": order["others"],
        "environment": _environment(facts),
        "figures": run_figures.figures_of(verdict, rows),
        "verdict": verdict,
        "files": files,
    }


def _rows(order: JobOrder, *, with_rows: bool) -> BundledRows:
    dataset = order["dataset"]
    return {
        "name": dataset["name"],
        "kind": dataset["kind"],
        "format": dataset["format"],
        "columns": dataset["columns"],
        "fingerprint": dataset["fingerprint"],
        "parent_fingerprint": order["parent_fingerprint"],
        "row_count": dataset["row_count"],
        "included": with_rows,
        "history": [_without_path(version) for version in order["history"]],
    }


def _without_path(version: OrderVersion) -> OrderVersion:
    """Where a file lay on this machine is no one else's business; its name is."""
    source = version["source"].copy()
    if path := source.get("path"):
        source["path"] = PurePath(path).name
    return {**version, "source": source}


def _environment(facts: RunFacts) -> BundleEnvironment:
    return {
        "tunebench": differences.tunebench_version(),
        "platform": platform.platform(),
        "versions": facts.get("versions", {}),
        "device": facts.get("device", UNKNOWN),
        "device_name": facts.get("device_name", UNKNOWN),
        "dtype": facts.get("dtype", UNKNOWN),
    }


def card(manifest: BundleManifest) -> str:
    """A page for people who look into the zip."""
    run, bundled, base = manifest["run"], manifest["data"], manifest["base"]
    rows = (
        "in this bundle" if bundled["included"] else "not in this bundle: have the same rows to run it again"
    )
    lines = [
        f"# Bundle of the run {run['name']}",
        "",
        "Run it again with `tunebench reproduce FILE`, which says of each figure whether it came back.",
        "",
        f"- Base model: {base['name']}" + (f", revision {base['revision']}" if base["revision"] else ""),
        f"- Rows: {bundled['row_count']:,} of {bundled['name']}, fingerprint {bundled['fingerprint']},"
        f" {rows}",
        f"- Trained on {manifest['environment']['device_name']}",
        f"- {manifest['verdict']['headline']}",
        "",
        "| figure | value | 95% interval | n |",
        "|---|---|---|---|",
    ]
    for figure in manifest["figures"]:
        none = figure["low"] is None or figure["high"] is None
        between = "none" if none else f"{figure['low']:.4g} to {figure['high']:.4g}"
        lines.append(
            f"| {figure['title']} ({figure['unit']}) | {figure['value']:.4g} | {between} | {figure['n']:,} |"
        )
    return "\n".join(lines) + "\n"
