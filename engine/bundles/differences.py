"""What is another here than where a bundle comes from, as far as it may change a figure."""

from __future__ import annotations

import importlib.metadata
import platform

from engine.models.precision import versions
from store.config.training.bundle_config import ReadManifest
from store.documents.runs.bundle import BaseHere, BaseWeights, BundleDifference
from store.documents.tables.run import RunFacts

NOT_HERE, UNKNOWN = "not here", "not known"


def tunebench_version() -> str:
    """Of the installed package."""
    return importlib.metadata.version("tunebench")


def before(manifest: ReadManifest, base: BaseHere, weights: BaseWeights | None) -> list[BundleDifference]:
    """What is known before the run: versions, the base model's weights, its tokenizer, missing data sets."""
    environment = manifest.environment
    pairs = [("Tunebench", environment.tunebench, tunebench_version())]
    pairs += [("platform", environment.platform, platform.platform())]
    mine = versions()
    for name in sorted({*environment.versions, *mine}):
        pairs.append((name, environment.versions.get(name, UNKNOWN), mine.get(name, NOT_HERE)))
    first = (manifest.base.fingerprint or UNKNOWN)[:12]
    if base in ("other", "unchecked"):
        present = weights["fingerprint"] if weights else None
        pairs.append(("weights of the base model", first, present[:12] if present else "not looked at"))
    tokenizer = weights["tokenizer"] if weights else None
    if tokenizer and manifest.base.tokenizer:
        pairs.append(("tokenizer of the base model", manifest.base.tokenizer[:12], tokenizer[:12]))
    return [{"what": what, "first": first, "here": here} for what, first, here in pairs if first != here]


def after(manifest: ReadManifest, facts: RunFacts) -> list[BundleDifference]:
    """What the run alone could say: its device, its precision, its rows."""
    environment = manifest.environment
    pairs = [
        ("device", environment.device, facts.get("device", UNKNOWN)),
        ("name of the device", environment.device_name, facts.get("device_name", UNKNOWN)),
        ("precision", environment.dtype, facts.get("dtype", UNKNOWN)),
        ("rows", manifest.data.fingerprint, facts.get("data_fingerprint", UNKNOWN)),
    ]
    return [{"what": what, "first": first, "here": here} for what, first, here in pairs if first != here]
