"""What is known of a version, gathered for its model card (`store.words.model_card` writes it)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from store.catalog.methods import METHODS
from store.config.data.recipe import Recipe
from store.config.training.train_config import TrainConfig
from store.contract.errors import NotFoundError
from store.db.named_query import named_query
from store.documents.evaluations.evaluation import Evaluation
from store.documents.figures.figure import ListedFigure
from store.documents.models.saved_model import BaseReference, TrainedCourse
from store.documents.shipping.card import CardData, CardEvaluation, CardVerdict, ModelCard, TrainedModel
from store.documents.shipping.version import ModelVersion
from store.documents.tables.run import Run, RunFacts
from store.documents.verdicts.verdict import read_verdict
from store.queries.data import datasets
from store.queries.data import versions as data_versions
from store.queries.runs import runs
from store.queries.shipping import aliases, gate_candidates, measured_evidence, run_evidence, versions
from store.words import card_parts, trained_course
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
    number, standing = version["version"], versions.aliases(db, version["model_id"])
    measured = measured_evidence.evaluations_of(db, version, limit=MOST)
    bias = run_evidence.bias_of(db, version)
    return {
        **_trained(db, run, source["run_name"], source["checkpoint"]),
        "reference": gate_candidates.name_of(version),
        "registered": True,
        "intended_use": model["description"],
        "notes": version["notes"],
        "base": _base(run, version["base_model"]),
        "base_card": None,
        "adapter": version["adapter"],
        "fingerprint": version["fingerprint"],
        "created_at": version["created_at"].isoformat(timespec="seconds"),
        "created_by": version["created_by_name"],
        "aliases": [entry["alias"] for entry in standing if entry["version"] == number],
        "evaluations": [_evaluation(db, entry) for entry in measured],
        "bias": bias[0] if bias else None,
        "bias_against": bias[1] if bias else "",
        "approvals": _approvals(db, version),
    }


def of_run(db: Queryable, run: Run, checkpoint: str) -> ModelCard:
    """Of what a run left, or of a checkpoint of it, which nobody has registered."""
    measured = measured_evidence.of_weights(db, None, run["run_id"], checkpoint, MOST)
    bias = run_evidence.newest_bias(db, None, run["run_id"]) if checkpoint == "tuned" else None
    return {
        **_trained(db, run, run["name"], checkpoint),
        "reference": run["name"],
        "registered": False,
        "intended_use": "",
        "notes": "",
        "base": _base(run, run["model"]),
        "base_card": None,
        "adapter": METHODS[run["method"]].adapter,
        "fingerprint": "",
        "created_at": run["created_at"].isoformat(timespec="seconds"),
        "created_by": "",
        "aliases": [],
        "evaluations": [_evaluation(db, entry) for entry in measured],
        "bias": bias[0] if bias else None,
        "bias_against": bias[1] if bias else "",
        "approvals": [],
    }


def _trained(db: Queryable, run: Run | None, name: str | None, checkpoint: str | None) -> TrainedModel:
    """name: of the run, as it was; null for an imported folder. The verdict is of what a run ended with."""
    facts: RunFacts = run["facts"] if run else {}
    return {
        "run": name,
        "run_present": run is not None,
        "checkpoint": checkpoint,
        "config": TrainConfig.of_past(run["config"]).model_dump() if run else None,
        "course": _course(run) if run and checkpoint == "tuned" else None,
        "continued_from": _name_of(db, run["config"].get("init_from")) if run else "",
        "mixed": _mixed(db, facts),
        "data": _data(db, run) if run else [],
        "verdict": _verdict(run) if run and checkpoint == "tuned" else None,
        "trainable_parameters": facts.get("trainable_parameters"),
        "total_parameters": facts.get("total_parameters"),
        "device": facts.get("device_name"),
        "versions": facts.get("versions", {}),
        "seconds": facts.get("run_seconds"),
        "energy_wh": facts.get("energy_wh"),
    }


def _course(run: Run) -> TrainedCourse | None:
    """As the run noted it; of runs from before as their facts give it."""
    facts = run["facts"]
    if course := facts.get("course"):
        return course
    if not (stopped := facts.get("stopped")) or not (rows := facts.get("rows")):
        return None
    config = TrainConfig.of_past(run["config"])
    return trained_course.of_run(config, rows["train"], stopped, run["attempt"])


def _base(run: Run | None, name: str | None) -> BaseReference | None:
    """As the run noted it; of runs from before, and of imported adapters, by the name that was given."""
    if run and (base := run["facts"].get("base")):
        return base
    if not name:
        return None
    hub_id = card_parts.hub_id(name)
    return {"name": hub_id or card_parts.last_part(name), "hub_id": hub_id, "revision": None}


def _name_of(db: Queryable, run_id: str | None) -> str:
    run = runs.find_run(db, run_id) if run_id else None
    return run["name"] if run else run_id or ""


def _mixed(db: Queryable, facts: RunFacts) -> str:
    if "mixed_from" not in facts:
        return ""
    name = _name_of(db, facts["mixed_from"])
    return f"{facts['alpha']:g} of the way from the base model to the model of the run {name}"


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


def _evaluation(db: Queryable, entry: Evaluation) -> CardEvaluation:
    dataset = datasets.find_dataset(db, entry["dataset_id"])
    return {
        "name": entry["name"],
        "dataset": entry["dataset_name"],
        "hub_id": dataset["source"].get("hub_id") if dataset else None,
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
