"""Facts about a version for its model card, and its lineage graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.core.errors import NotFoundError
from store.core.export_schemas import (
    PARITY_LABELS,
    CardData,
    CardEvaluation,
    CardVerdict,
    ModelCard,
    TrainedModel,
)
from store.core.features import find_title
from store.core.figure_schemas import FigureSummary
from store.core.model_schemas import BaseReference, ModelVersion, TrainingSummary
from store.core.version_folders import is_reference
from store.data import dataset_versions as data_versions
from store.data import datasets
from store.data.cleaning import Recipe
from store.data.cleaning_text import describe_step
from store.data.schemas import Dataset
from store.db.named_query import named_query
from store.evaluation.schemas import Evaluation
from store.rating.templates import PROTOCOL_TITLES
from store.registry import gate_candidates, gate_evidence, model_versions
from store.registry.gate_candidates import format_version_reference
from store.registry.schemas import Lineage, LineageEdge, LineageKind, LineageNode, MoveKind
from store.runs import card_text, runs
from store.runs.schemas import Run, RunFacts
from store.training.methods import METHODS
from store.training.train_config import TrainConfig

if TYPE_CHECKING:
    from store.db.database import Queryable

MAX_EVALUATIONS = 10  # maximum evaluations in a card, the newest


@named_query
def card(db: Queryable, reference: str) -> ModelCard:
    """Return the model card's document of the version NAME@NUMBER or NAME@ALIAS. Raises NotFoundError."""
    version = model_versions.get_version(db, reference)
    model = model_versions.get_model(db, version.model_id)
    source = version.source
    run = runs.find_run(db, version.run_id) if version.run_id else None
    number, standing = version.version, model_versions.aliases(db, version.model_id)
    measured = gate_evidence.evaluations_of(db, version, limit=MAX_EVALUATIONS)
    bias = gate_candidates.find_bias_check(db, version)
    return {
        **_describe_training(db, run, source.run_name, source.checkpoint),
        "reference": gate_candidates.format_version_reference(version),
        "registered": True,
        "intended_use": model.description,
        "notes": version.notes,
        "base": _get_base_reference(run, version.base_model),
        "base_card": None,
        "adapter": version.adapter,
        "fingerprint": version.fingerprint,
        "created_at": version.created_at.isoformat(timespec="seconds"),
        "created_by": version.created_by_name,
        "aliases": [entry.alias for entry in standing if entry.version == number],
        "evaluations": [_make_card_evaluation(db, entry) for entry in measured],
        "bias": bias[0] if bias else None,
        "bias_against": bias[1] if bias else "",
        "approvals": _list_approvals(db, version),
    }


def build_run_card(db: Queryable, run: Run, checkpoint: str) -> ModelCard:
    """Build the model card's document of an unregistered run's final model or checkpoint."""
    measured = gate_evidence.list_weight_evaluations(db, None, run.run_id, checkpoint, MAX_EVALUATIONS)
    bias = gate_candidates.find_newest_bias_check(db, None, run.run_id) if checkpoint == "tuned" else None
    return {
        **_describe_training(db, run, run.name, checkpoint),
        "reference": run.name,
        "registered": False,
        "intended_use": "",
        "notes": "",
        "base": _get_base_reference(run, run.model),
        "base_card": None,
        "adapter": METHODS[run.method].adapter,
        "fingerprint": "",
        "created_at": run.created_at.isoformat(timespec="seconds"),
        "created_by": "",
        "aliases": [],
        "evaluations": [_make_card_evaluation(db, entry) for entry in measured],
        "bias": bias[0] if bias else None,
        "bias_against": bias[1] if bias else "",
        "approvals": [],
    }


def _describe_training(
    db: Queryable, run: Run | None, name: str | None, checkpoint: str | None
) -> TrainedModel:
    """Return the facts about training.

    name: the run's name at that time; None for an imported folder. The verdict is of the run's final model.
    """
    facts: RunFacts = run.facts if run else {}
    mixed = ""
    if "mixed_from" in facts:
        tuned = _get_run_name(db, facts["mixed_from"])
        mixed = f"{facts['alpha']:g} of the way from the base model to the model of the run {tuned}"
    return {
        "run": name,
        "run_present": run is not None,
        "checkpoint": checkpoint,
        "config": TrainConfig.of_past(run.config).model_dump() if run else None,
        "course": _get_training_summary(run) if run and checkpoint == "tuned" else None,
        "continued_from": _get_run_name(db, run.config.get("init_from")) if run else "",
        "mixed": mixed,
        "data": _list_card_data(db, run) if run else [],
        "verdict": _make_card_verdict(run) if run and checkpoint == "tuned" else None,
        "trainable_parameters": facts.get("trainable_parameters"),
        "total_parameters": facts.get("total_parameters"),
        "device": facts.get("device_name"),
        "versions": facts.get("versions", {}),
        "seconds": facts.get("run_seconds"),
        "energy_wh": facts.get("energy_wh"),
    }


def _get_training_summary(run: Run) -> TrainingSummary | None:
    """Return the summary recorded by the run, or for older runs one computed from their facts."""
    facts = run.facts
    if course := facts.get("course"):
        return course
    if not (stopped := facts.get("stopped")) or not (rows := facts.get("rows")):
        return None
    config = TrainConfig.of_past(run.config)
    return card_text.summarise_run(config, rows["train"], stopped, run.attempt)


def _get_base_reference(run: Run | None, name: str | None) -> BaseReference | None:
    """Return the base recorded by the run.

    For older runs and imported adapters, it is built from the given name.
    """
    if run and (base := run.facts.get("base")):
        return base
    if not name:
        return None
    hub_id = card_text.parse_hub_id(name)
    return {"name": hub_id or card_text.get_last_part(name), "hub_id": hub_id, "revision": None}


def _get_run_name(db: Queryable, run_id: str | None) -> str:
    run = runs.find_run(db, run_id) if run_id else None
    return run.name if run else run_id or ""


def _list_card_data(db: Queryable, run: Run) -> list[CardData]:
    try:
        chain = data_versions.list_lineage(db, run.dataset_id)
    except NotFoundError:
        gone: CardData = {
            "name": run.dataset_name,
            "hub_id": None,
            "rows": None,
            "fingerprint": run.data_fingerprint or "",
            "steps": [],
        }
        return [gone]
    return [
        {
            "name": row.name,
            "hub_id": row.source.get("hub_id"),
            "rows": row.row_count,
            "fingerprint": row.fingerprint,
            "steps": [describe_step(step) for step in Recipe.parse(row.recipe).steps] if row.recipe else [],
        }
        for row in chain
    ]


def _make_card_evaluation(db: Queryable, entry: Evaluation) -> CardEvaluation:
    dataset = datasets.find_dataset(db, entry.dataset_id)
    return CardEvaluation(
        name=entry.name,
        dataset=entry.dataset_name,
        hub_id=dataset.source.get("hub_id") if dataset else None,
        part=entry.part,
        n=entry.n,
        figures=[
            FigureSummary(**{name: getattr(figure, name) for name in LISTED}) for figure in entry.figures
        ],
        units={figure.metric: figure.unit for figure in entry.figures},
        probes=[
            {
                "probe": probe.probe,
                "n": probe.n,
                "loss": probe.loss,
                "accuracy": probe.accuracy,
            }
            for probe in entry.details.probes
        ],
    )


def _make_card_verdict(run: Run) -> CardVerdict | None:
    verdict = run.verdict
    if verdict is None:
        return None
    forgetting, gain = verdict.forgetting, verdict.gain
    membership, extraction = verdict.membership, verdict.extraction
    return {
        "headline": verdict.headline,
        "sentences": verdict.sentences,
        "gain": gain,
        "gain_unit": gain.unit if gain else "",
        "forgetting": [forgetting.headline, *forgetting.sentences] if forgetting else [],
        "memorised": [
            part.sentence for part in (membership, extraction) if part and part.sentence is not None
        ],
    }


LISTED = ("metric", "value", "low", "high", "n", "better", "bounds", "failed", "estimator")


def _list_approvals(db: Queryable, version: ModelVersion) -> list[str]:
    lines = []
    for move in reversed(model_versions.alias_moves(db, version.model_id)):
        if move.to_version != version.version:
            continue
        how = {"overridden": ", although the gate did not pass", "back": ", going back"}.get(move.kind, "")
        when = f"{move.moved_at:%d %b %Y}"
        lines.append(f"{move.alias} on {when} by {move.moved_by_name}{how}: {move.reason}")
    return lines


MAX_SHOWN = 12  # maximum evaluations, rounds and moves shown, the newest of each
MAX_STEPS = 3  # maximum recipe steps listed in a line
MOVES: dict[MoveKind, str] = {
    "promoted": "promoted",
    "overridden": "promoted, gate not passed",
    "back": "moved back",
    "removed": "alias removed",
}
EARLIER = 20  # maximum length of a chain of continued runs


@named_query
def lineage(db: Queryable, reference: str) -> Lineage:
    """Return the lineage of the version NAME@NUMBER or NAME@ALIAS. Raises NotFoundError."""
    version = model_versions.get_version(db, reference)
    graph = _Graph(format_version_reference(version))
    own = f"version {format_version_reference(version)}"
    _add_origin(db, graph, version, own)
    detail = f"{'adapter' if version.adapter else 'full model'}, by {version.created_by_name}"
    graph.add(own, "version", format_version_reference(version), detail, format_version_reference(version))
    _add_measurements(db, graph, version, own)
    _add_moves(db, graph, version, own)
    return graph.document()


class _Graph:
    """Builder of a graph without duplicate nodes and edges."""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.nodes: dict[str, LineageNode] = {}
        self.edges: list[LineageEdge] = []
        self.left_out: dict[LineageKind, int] = {}

    def add(self, node_id: str, kind: LineageKind, name: str, detail: str, subject_id: str | None) -> str:
        node = LineageNode(
            node_id=node_id,
            kind=kind,
            title=name,
            detail=detail,
            subject_id=subject_id,
            gone=False,
        )
        self.nodes.setdefault(node_id, node)
        return node_id

    def gone(self, node_id: str, kind: LineageKind, name: str, detail: str) -> str:
        """Add a node that was deleted."""
        self.add(node_id, kind, name, detail, None)
        self.nodes[node_id].gone = True
        return node_id

    def join(self, source: str, target: str, words: str) -> None:
        edge = LineageEdge(source=source, target=target, words=words)
        if edge not in self.edges:
            self.edges.append(edge)

    def newest(self, kind: LineageKind, count: int) -> int:
        """Return how many of `count` nodes to show, and record how many aren't."""
        if count > MAX_SHOWN:
            self.left_out[kind] = count - MAX_SHOWN
        return min(count, MAX_SHOWN)

    def document(self) -> Lineage:
        return Lineage(
            reference=self.reference,
            nodes=list(self.nodes.values()),
            edges=self.edges,
            left_out=self.left_out,
        )


def _add_origin(db: Queryable, graph: _Graph, version: ModelVersion, own: str) -> None:
    source = version.source
    if source.kind == "folder":
        folder = graph.add("folder", "base", "Imported folder", str(source.path), None)
        if version.base_model:
            graph.join(_add_base_node(db, graph, version.base_model), own, "base of the adapter")
        graph.join(folder, own, "registered as")
        return
    run = runs.find_run(db, str(version.run_id))
    words = "registered as" if source.checkpoint == "tuned" else f"{source.checkpoint} checkpoint of it"
    if run is None:
        gone = graph.gone("run", "run", source.run_name or "Run", "the run was deleted")
        if version.base_model:
            graph.join(_add_base_node(db, graph, version.base_model), gone, "tuned by")
        graph.join(gone, own, words)
        return
    graph.join(_add_run(db, graph, run, EARLIER), own, words)


def _add_run(db: Queryable, graph: _Graph, run: Run, deep: int) -> str:
    """Add the run with its base and its data, and return its node."""
    config = run.config
    earlier_id = config.get("init_from") or run.facts.get("mixed_from")
    above: str
    if earlier_id and deep:
        earlier = runs.find_run(db, earlier_id)
        if earlier:
            above = _add_run(db, graph, earlier, deep - 1)
        else:
            above = graph.gone(f"run {earlier_id}", "run", earlier_id, "the run was deleted")
    else:
        above = _add_base_node(db, graph, run.model)
    dataset_node = _add_data_node(db, graph, run)
    detail = f"{METHODS[run.method].title}, seed {run.seed}"
    node = graph.add(f"run {run.run_id}", "run", run.name, detail, run.run_id)
    graph.join(above, node, "continued by" if earlier_id else "tuned by")
    graph.join(dataset_node, node, "trained on")
    return node


def _add_base_node(db: Queryable, graph: _Graph, model: str) -> str:
    """Add a base model; for a registered version, its own origin too."""
    if is_reference(model):
        try:
            version = model_versions.get_version(db, model)
        except NotFoundError:
            return graph.gone(f"version {model}", "version", model, "the version was deleted")
        own = f"version {model}"
        if own not in graph.nodes:
            _add_origin(db, graph, version, own)
        return graph.add(own, "version", model, "full model", model)
    return graph.add(f"base {model}", "base", model, "base model", None)


def _add_data_node(db: Queryable, graph: _Graph, run: Run) -> str:
    try:
        chain: list[Dataset] = data_versions.list_lineage(db, run.dataset_id)
    except NotFoundError:
        node_id = f"data {run.dataset_id}"
        return graph.gone(node_id, "dataset", run.dataset_name, "the data set was deleted")
    above = ""
    for row in chain:
        detail = f"{row.row_count:,} rows, {row.fingerprint[:8]}"
        node = graph.add(f"data {row.dataset_id}", "dataset", row.name, detail, row.dataset_id)
        if above:
            steps = [describe_step(step) for step in Recipe.parse(row.recipe).steps] if row.recipe else []
            more = f" and {len(steps) - MAX_STEPS} more" if len(steps) > MAX_STEPS else ""
            graph.join(above, node, (", ".join(steps[:MAX_STEPS]) + more) or "cleaned into")
        above = node
    return above


def _add_measurements(db: Queryable, graph: _Graph, version: ModelVersion, own: str) -> None:
    measured = gate_evidence.evaluations_of(db, version)
    for entry in measured[: graph.newest("evaluation", len(measured))]:
        detail = f"{entry.dataset_name}, {entry.part}, n {entry.n:,}"
        node_id = f"evaluation {entry.evaluation_id}"
        graph.join(own, graph.add(node_id, "evaluation", entry.name, detail, entry.evaluation_id), "measured")
    rated = gate_evidence.list_rounds(db, version)
    for round in rated[: graph.newest("round", len(rated))]:
        detail = f"{PROTOCOL_TITLES[round.protocol]}, {round.state}"
        node = graph.add(f"round {round.round_id}", "round", round.name, detail, round.round_id)
        graph.join(own, node, "rated in")
    if checked := gate_candidates.find_bias_check(db, version):
        report = checked[0]
        graph.join(own, graph.add("bias", "bias", "Bias check", report.sentence, None), "checked")
    for form, parity in gate_candidates.list_exports(db, version):
        detail = f"parity {PARITY_LABELS[parity.status]}" if parity else "not compared yet"
        graph.join(own, graph.add(f"export {form}", "export", find_title(form), detail, None), "exported as")


def _add_moves(db: Queryable, graph: _Graph, version: ModelVersion, own: str) -> None:
    number = version.version
    about = [
        move
        for move in model_versions.alias_moves(db, version.model_id)
        if number in (move.to_version, move.from_version)
    ]
    for move in reversed(about[: graph.newest("move", len(about))]):
        came = move.to_version == number
        name = f"{'became' if came else 'no longer'} {move.alias}"
        detail = f"{move.moved_at:%d %b %Y}, {move.moved_by_name}: {move.reason}"
        node_id = f"move {move.move_id}"
        graph.join(own, graph.add(node_id, "move", name, detail, None), MOVES[move.kind])
