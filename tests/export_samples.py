"""Exports as their jobs leave them, for tests of store, command line and screens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from store.core.export_schemas import (
    LongPrompts,
    ModelCard,
    ModelExportResult,
    ParityReport,
    ParityStatus,
    RenderingParity,
)
from store.core.figure_schemas import Difference, Estimate
from store.core.model_schemas import VersionFile


def estimate(value: float, reach: float, n: int = 100) -> Estimate:
    return Estimate(value=value, low=value - reach, high=value + reach, n=n)


def parity_report(status: ParityStatus = "passed", **changes: Any) -> ParityReport:
    """Of a hundred rows."""
    perplexity = Difference(
        metric="eval/perplexity", value=0.02, low=-0.05, high=0.09, n=100, groups=None, detectable=0.1,
        better="lower", unit="", left_out=0, first_higher=52, second_higher=48, same=0,
    )  # fmt: skip
    report = ParityReport(
        status=status,
        reasons=[],
        engine="llama.cpp b11739",
        rendering=RenderingParity(
            prompts=112, other_bytes=0, other_ids=0, doubled_bos=0, cut=0, example=None
        ),
        prompts=100,
        positions=4_000,
        long=LongPrompts(prompts=17, tokens=1_280, mean_kl=estimate(0.009, 0.002, 17)),
        mean_kl=estimate(0.008, 0.002),
        largest_kl=0.6,
        argmax_agreement=estimate(0.975, 0.01),
        answer_agreement=estimate(0.86, 0.07),
        figures=[perplexity],
        tokens_per_second=84.2,
        seconds=90.0,
    )
    return replace(report, **changes)


def export_result(form: str = "gguf-q8_0", name: str = "", **changes: Any) -> ModelExportResult:
    """A folder with one file."""
    name = name or f"Run-{form}"
    result = ModelExportResult(
        form=form,
        gguf=None,
        name=name,
        folder=f"exports/{name}",
        bytes=150_000_000,
        model_bytes=143_000_000,
        source_bytes=269_000_000,
        files=[VersionFile(path="model.gguf", bytes=143_000_000, sha256="0" * 64)],
        zip=None,
        hub=None,
        parity=parity_report(),
        notices=[],
        seconds=100.0,
    )
    return replace(result, **changes)


def run_card(run: str = "run", dataset: str = "rows", **changes: Any) -> ModelCard:
    """Of a run's model of which the engine knows next to nothing."""
    card: dict[str, Any] = {
        **{"run": run, "run_present": True, "checkpoint": "tuned", "config": None, "course": None},
        **{"continued_from": "", "mixed": "", "verdict": None, "device": None, "versions": {}},
        "data": [{"name": dataset, "hub_id": None, "rows": 60, "fingerprint": "f" * 32, "steps": []}],
        **{"trainable_parameters": None, "total_parameters": None, "seconds": None, "energy_wh": None},
        **{"reference": run, "registered": False, "intended_use": "", "notes": "", "base_card": None},
        "base": {"name": "tiny", "hub_id": None, "revision": None},
        **{"adapter": True, "fingerprint": "", "created_at": "2026-11-30T12:00:00", "created_by": ""},
        **{"aliases": [], "evaluations": [], "bias": None, "bias_against": "", "approvals": []},
    }
    return card | changes  # type: ignore[return-value]
