"""The graph of a registered version: base model, versions of the data, run, what was measured of it, and
where its aliases went. What was deleted keeps its place, and is said to be gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.catalog.export_forms import FORMS
from store.catalog.methods import METHODS
from store.catalog.rating_templates import PROTOCOL_TITLES
from store.config.data.recipe import Recipe
from store.contract.errors import NotFoundError
from store.contract.version_folders import is_reference
from store.db.named_query import named_query
from store.documents.shipping.gate import MoveKind
from store.documents.shipping.lineage import Lineage, LineageEdge, LineageKind, LineageNode
from store.documents.shipping.parity import PARITY_WORDS
from store.documents.shipping.version import ModelVersion
from store.documents.tables.dataset import Dataset
from store.documents.tables.run import Run
from store.queries.data import versions as data_versions
from store.queries.runs import runs
from store.queries.shipping import aliases, measured_evidence, rated_evidence, run_evidence, versions
from store.queries.shipping.gate_candidates import name_of
from store.words.recipe_words import title

if TYPE_CHECKING:
    from store.db.database import Queryable

MOST = 12  # evaluations, rounds and moves each that are shown, the newest
MOST_STEPS = 3  # of a recipe that a line names
MOVES: dict[MoveKind, str] = {
    "promoted": "promoted",
    "overridden": "promoted, gate not passed",
    "back": "moved back",
    "removed": "alias taken away",
}
EARLIER = 20  # runs that went on from each other


@named_query
def lineage(db: Queryable, reference: str) -> Lineage:
    """Of the version NAME@NUMBER or NAME@ALIAS. Raises NotFoundError."""
    version = versions.get_version(db, reference)
    graph = _Graph(name_of(version))
    own = f"version {name_of(version)}"
    _origin(db, graph, version, own)
    detail = f"{'adapter' if version['adapter'] else 'whole model'}, by {version['created_by_name']}"
    graph.add(own, "version", name_of(version), detail, name_of(version))
    _measured(db, graph, version, own)
    _moves(db, graph, version, own)
    return graph.document()


class _Graph:
    """Nodes and edges, each once."""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.nodes: dict[str, LineageNode] = {}
        self.edges: list[LineageEdge] = []
        self.left_out: dict[LineageKind, int] = {}

    def add(self, node_id: str, kind: LineageKind, name: str, detail: str, subject_id: str | None) -> str:
        node: LineageNode = {
            "node_id": node_id,
            "kind": kind,
            "title": name,
            "detail": detail,
            "subject_id": subject_id,
            "gone": False,
        }
        self.nodes.setdefault(node_id, node)
        return node_id

    def gone(self, node_id: str, kind: LineageKind, name: str, detail: str) -> str:
        """One that was deleted."""
        self.add(node_id, kind, name, detail, None)
        self.nodes[node_id]["gone"] = True
        return node_id

    def join(self, source: str, target: str, words: str) -> None:
        edge: LineageEdge = {"source": source, "target": target, "words": words}
        if edge not in self.edges:
            self.edges.append(edge)

    def newest(self, kind: LineageKind, count: int) -> int:
        """How many of so many are shown; the others are counted."""
        if count > MOST:
            self.left_out[kind] = count - MOST
        return min(count, MOST)

    def document(self) -> Lineage:
        return {
            "reference": self.reference,
            "nodes": list(self.nodes.values()),
            "edges": self.edges,
            "left_out": self.left_out,
        }


def _origin(db: Queryable, graph: _Graph, version: ModelVersion, own: str) -> None:
    source = version["source"]
    if source["kind"] == "folder":
        folder = graph.add("folder", "base", "Imported folder", str(source["path"]), None)
        if version["base_model"]:
            graph.join(_base(db, graph, version["base_model"]), own, "base of the adapter")
        graph.join(folder, own, "registered as")
        return
    run = runs.find_run(db, str(version["run_id"]))
    words = "registered as" if source["checkpoint"] == "tuned" else f"{source['checkpoint']} checkpoint of it"
    if run is None:
        gone = graph.gone("run", "run", source["run_name"] or "Run", "the run was deleted")
        if version["base_model"]:
            graph.join(_base(db, graph, version["base_model"]), gone, "tuned by")
        graph.join(gone, own, words)
        return
    graph.join(_run(db, graph, run, EARLIER), own, words)


def _run(db: Queryable, graph: _Graph, run: Run, deep: int) -> str:
    """The run with what it began with and its data; its node."""
    config = run["config"]
    earlier_id = config.get("init_from") or run["facts"].get("mixed_from")
    above: str
    if earlier_id and deep:
        earlier = runs.find_run(db, earlier_id)
        if earlier:
            above = _run(db, graph, earlier, deep - 1)
        else:
            above = graph.gone(f"run {earlier_id}", "run", earlier_id, "the run was deleted")
    else:
        above = _base(db, graph, run["model"])
    dataset_node = _data(db, graph, run)
    detail = f"{METHODS[run['method']].title}, seed {run['seed']}"
    node = graph.add(f"run {run['run_id']}", "run", run["name"], detail, run["run_id"])
    graph.join(above, node, "continued by" if earlier_id else "tuned by")
    graph.join(dataset_node, node, "trained on")
    return node


def _base(db: Queryable, graph: _Graph, model: str) -> str:
    """A model that something began with; of a registered version its own beginning too."""
    if is_reference(model):
        try:
            version = versions.get_version(db, model)
        except NotFoundError:
            return graph.gone(f"version {model}", "version", model, "the version was deleted")
        own = f"version {model}"
        if own not in graph.nodes:
            _origin(db, graph, version, own)
        return graph.add(own, "version", model, "whole model", model)
    return graph.add(f"base {model}", "base", model, "base model", None)


def _data(db: Queryable, graph: _Graph, run: Run) -> str:
    try:
        chain: list[Dataset] = data_versions.lineage(db, run["dataset_id"])
    except NotFoundError:
        node_id = f"data {run['dataset_id']}"
        return graph.gone(node_id, "dataset", run["dataset_name"], "the data set was deleted")
    above = ""
    for row in chain:
        detail = f"{row['row_count']:,} rows, {row['fingerprint'][:8]}"
        node = graph.add(f"data {row['dataset_id']}", "dataset", row["name"], detail, row["dataset_id"])
        if above:
            steps = [title(step) for step in Recipe.parse(row["recipe"]).steps] if row["recipe"] else []
            more = f" and {len(steps) - MOST_STEPS} more" if len(steps) > MOST_STEPS else ""
            graph.join(above, node, (", ".join(steps[:MOST_STEPS]) + more) or "cleaned into")
        above = node
    return above


def _measured(db: Queryable, graph: _Graph, version: ModelVersion, own: str) -> None:
    measured = measured_evidence.evaluations_of(db, version)
    for entry in measured[: graph.newest("evaluation", len(measured))]:
        detail = f"{entry['dataset_name']}, {entry['part']}, n {entry['n']:,}"
        node_id = f"evaluation {entry['evaluation_id']}"
        graph.join(
            own, graph.add(node_id, "evaluation", entry["name"], detail, entry["evaluation_id"]), "measured"
        )
    rated = rated_evidence.rounds_of(db, version)
    for round in rated[: graph.newest("round", len(rated))]:
        detail = f"{PROTOCOL_TITLES[round['protocol']]}, {round['state']}"
        node = graph.add(f"round {round['round_id']}", "round", round["name"], detail, round["round_id"])
        graph.join(own, node, "rated in")
    if checked := run_evidence.bias_of(db, version):
        report = checked[0]
        graph.join(own, graph.add("bias", "bias", "Bias check", report["sentence"], None), "checked")
    for form, parity in run_evidence.exports_of(db, version):
        detail = f"parity {PARITY_WORDS[parity['status']]}" if parity else "not compared yet"
        graph.join(own, graph.add(f"export {form}", "export", FORMS[form].title, detail, None), "exported as")


def _moves(db: Queryable, graph: _Graph, version: ModelVersion, own: str) -> None:
    number = version["version"]
    about = [
        move
        for move in aliases.moves(db, version["model_id"])
        if number in (move["to_version"], move["from_version"])
    ]
    for move in reversed(about[: graph.newest("move", len(about))]):
        came = move["to_version"] == number
        name = f"{'became' if came else 'no longer'} {move['alias']}"
        detail = f"{move['moved_at']:%d %b %Y}, {move['moved_by_name']}: {move['reason']}"
        node_id = f"move {move['move_id']}"
        graph.join(own, graph.add(node_id, "move", name, detail, None), MOVES[move["kind"]])
