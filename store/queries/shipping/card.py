"""What is known of a version, gathered for its model card (`store.words.model_card` writes it)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from store.config.data.recipe import Recipe
from store.config.training.train_config import TrainConfig
from store.contract.errors import NotFoundError
from store.db.named_query import named_query
from store.documents.evaluations.evaluation import Evaluation
from store.documents.figures.figure import ListedFigure
from store.documents.shipping.card import CardData, CardEvaluation, CardVerdict, ModelCard
from store.documents.shipping.version import ModelVersion
from store.documents.tables.run import Run, RunFacts
from store.documents.verdicts.verdict import read_verdict
from store.queries.data import versions as data_versions
from store.queries.runs import runs
from store.queries.shipping import aliases, gate_candidates, measured_evidence, run_evidence, versions
from store.words.recipe_words import title

if TYPE_CHECKING:
    from store.db.database import Queryable

MOST = 10  # evaluations that a card tells of, the newest


@named_query
def card(db: Queryable, reference: str) -> ModelCard:
    """Of the version NAME@NUMBER or NAME@ALIAS. Raises NotFoundError."""
    version = versions.get_version(db, reference)
    model = versions.get_model(db, version["model_id"])
    source = version["source"]
    run = runs.find_run(db, version["run_id"]) if version["run_id"] else None
    facts: RunFacts = run["facts"] if run else {}
    tuned = source["checkpoint"] == "tuned"
    number, standing = version["version"], versions.aliases(db, version["model_id"])
    measured = measured_evidence.evaluations_of(db, version, limit=MOST)
    bias = run_evidence.bias_of(db, version)
    return {
        "reference": gate_candidates.name_of(version),
        "name": version["name"],
        "intended_use": model["description"],
        "notes": version["notes"],
        "base_model": version["base_model"],
        "adapter": version["adapter"],
        "fingerprint": version["fingerprint"],
        "created_at": version["created_at"].isoformat(timespec="seconds"),
        "created_by": version["created_by_name"],
        "aliases": [entry["alias"] for entry in standing if entry["version"] == number],
        "run": source["run_name"],
        "run_present": run is not None,
        "checkpoint": source["checkpoint"],
        "config": TrainConfig.of_past(run["config"]).model_dump() if run else None,
        "data": _data(db, run) if run else [],
        "verdict": _verdict(run) if run and tuned else None,
        "trainable_parameters": facts.get("trainable_parameters"),
        "total_parameters": facts.get("total_parameters"),
        "device": facts.get("device_name"),
        "versions": facts.get("versions", {}),
        "seconds": facts.get("run_seconds"),
        "energy_wh": facts.get("energy_wh"),
        "evaluations": [_evaluation(entry) for entry in measured],
        "bias": bias[0] if bias else None,
        "bias_against": bias[1] if bias else "",
        "approvals": _approvals(db, version),
    }


def _data(db: Queryable, run: Run) -> list[CardData]:
    try:
        chain = data_versions.lineage(db, run["dataset_id"])
    except NotFoundError:
        gone: CardData = {
            "name": run["dataset_name"],
            "hub_id": None,
            "rows": None,
            "fingerprint": run["data_fingerprint"] or "",
            "steps": [],
        }
        return [gone]
    return [
        {
            "name": row["name"],
            "hub_id": row["source"].get("hub_id"),
            "rows": row["row_count"],
            "fingerprint": row["fingerprint"],
            "steps": [title(step) for step in Recipe.parse(row["recipe"]).steps] if row["recipe"] else [],
        }
        for row in chain
    ]


def _evaluation(entry: Evaluation) -> CardEvaluation:
    return {
        "name": entry["name"],
        "dataset": entry["dataset_name"],
        "part": entry["part"],
        "n": entry["n"],
        "figures": [cast(ListedFigure, {key: f[key] for key in LISTED}) for f in entry["figures"]],  # type: ignore[literal-required]
        "units": {figure["metric"]: figure["unit"] for figure in entry["figures"]},
        "probes": [
            {
                "probe": probe["probe"],
                "n": probe["n"],
                "loss": probe["loss"],
                "accuracy": probe.get("accuracy"),
            }
            for probe in entry["details"]["probes"]
        ],
    }


def _verdict(run: Run) -> CardVerdict | None:
    verdict = read_verdict(run["verdict"])
    if verdict is None:
        return None
    forgetting, gain = verdict.get("forgetting"), verdict["gain"]
    membership, extraction = verdict.get("membership"), verdict.get("extraction")
    return {
        "headline": verdict["headline"],
        "sentences": verdict["sentences"],
        "gain": gain,
        "gain_unit": gain["unit"] if gain else "",
        "forgetting": [forgetting["headline"], *forgetting["sentences"]] if forgetting else [],
        "memorised": [part["sentence"] for part in (membership, extraction) if part and "sentence" in part],
    }


LISTED = ("metric", "value", "low", "high", "n", "better", "bounds", "failed", "estimator")


def _approvals(db: Queryable, version: ModelVersion) -> list[str]:
    lines = []
    for move in reversed(aliases.moves(db, version["model_id"])):
        if move["to_version"] != version["version"]:
            continue
        how = {"overridden": ", though the gate was not passed", "back": ", going back"}.get(move["kind"], "")
        when = f"{move['moved_at']:%d %b %Y}"
        lines.append(f"{move['alias']} on {when} by {move['moved_by_name']}{how}: {move['reason']}")
    return lines
