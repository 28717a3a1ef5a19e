"""What the store knows of a version that a gate asks for: the newest evaluations on the golden set, the
verdict of its run, bias checks, exports, ratings, and seconds an answer.

An evaluation of the run that a version came from, of the same checkpoint, is one of the version: the weights
are the same.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from store.catalog.export_forms import FORMS
from store.catalog.metric_table import METRICS
from store.config.shipping.gate_config import TITLES, GateConfig
from store.contract.errors import NotFoundError, TunebenchError
from store.db.records import records
from store.documents.evaluations.evaluation import Evaluation
from store.documents.rating.round import Round
from store.documents.shipping.bias import BiasReport
from store.documents.shipping.gate import CheckEvidence, FormParity, GateRow, RatedRows
from store.documents.shipping.parity import ParityReport
from store.documents.shipping.version import ModelVersion
from store.documents.verdicts.verdict import Verdict, read_verdict
from store.queries.data import datasets
from store.queries.evaluations import evaluation_pairs, evaluations
from store.queries.rating import ratings, round_requests, rounds
from store.queries.runs import runs
from store.queries.shipping import aliases, versions

if TYPE_CHECKING:
    from store.db.database import Queryable

MOST_TIMED = 20  # newest evaluations that seconds an answer are read from
SIDES = {"A": 0, "B": 1}
METRIC = "eval/"
JUDGE = "judge:"  # an LLM judge that rates is no human

Check = Mapping[str, Any]  # of store.config.shipping.gate_config, as it is stored


class Candidate(NamedTuple):
    """A version at a gate, and the version that has the alias now, where it is another one."""

    version: ModelVersion
    holder: ModelVersion | None
    alias: str

    @property
    def reference(self) -> str:
        return name_of(self.version)

    @property
    def quoted(self) -> str:
        """For a shell."""
        return shlex.quote(self.reference)


def name_of(version: ModelVersion) -> str:
    """NAME@NUMBER."""
    return f"{version['name']}@{version['version']}"


class GateCase(NamedTuple):
    """All that a gate is judged by; each check with its title and its evidence."""

    reference: str
    alias: str
    holder: str | None
    checks: list[tuple[Check, str, CheckEvidence]]


def candidate_of(db: Queryable, reference: str, alias: str) -> Candidate:
    """The version and who has the alias now. Raises NotFoundError."""
    version = versions.get_version(db, reference)
    number = aliases.standing(db, version["model_id"], alias)
    holder = None
    if number is not None and number != version["version"]:
        holder = versions.find_version(db, version["model_id"], number)
    return Candidate(version, holder, alias)


def case(db: Queryable, reference: str, alias: str) -> GateCase:
    """A version at the gate of an alias, with the evidence that there is. Raises NotFoundError."""
    candidate = candidate_of(db, reference, alias)
    return case_of(db, candidate, gate_of(db, candidate))


def gate_of(db: Queryable, candidate: Candidate) -> GateConfig:
    """What the alias asks of a version; without a check where nothing was ever set."""
    line = aliases.gate(db, candidate.version["model_id"], candidate.alias)
    return GateConfig.parse(line["config"]) if line else GateConfig()


def case_of(db: Queryable, candidate: Candidate, gate: GateConfig) -> GateCase:
    """A version at any gate, with the evidence that there is."""
    return GateCase(
        candidate.reference,
        candidate.alias,
        name_of(candidate.holder) if candidate.holder else None,
        [
            (check, TITLES[check["check"]], evidence(db, candidate, check))
            for check in gate.document()["checks"]
        ],
    )


def evidence(db: Queryable, candidate: Candidate, check: Check) -> CheckEvidence:
    """What one check is judged by."""
    return _EVIDENCE[check["check"]](db, candidate, check)


# -- evaluations ------------------------------------------------------------------------------------


def evaluations_of(db: Queryable, version: ModelVersion, *, limit: int = 200) -> list[Evaluation]:
    """Those of a version, and those of the same weights as a run left them, newest first."""
    source = version["source"]
    sql = """
        SELECT * FROM evaluation
        WHERE (model = $1 AND run_id IS NULL) OR (run_id = $2 AND checkpoint = $3)
        ORDER BY created_at DESC, evaluation_id DESC LIMIT $4"""
    params = [name_of(version), version["run_id"], source["checkpoint"], limit]
    return records(db.query(sql, params), Evaluation, evaluations.JSON_COLUMNS)


def on_rows(
    candidates: list[Evaluation],
    check: Check,
    fingerprint: str,
    metric: str,
    like: Evaluation | None = None,
) -> Evaluation | None:
    """The newest of them that measured the metric on the rows of a check: of those that were asked as `like`
    was, where there are such."""
    newest = None
    for entry in candidates:
        config = entry["config"]
        same = entry["data_fingerprint"] == fingerprint and entry["part"] == check["part"]
        same = same and (config.get("where") or None) == (check["where"] or None)
        if same and any(figure["metric"] == METRIC + metric for figure in entry["figures"]):
            newest = newest or entry
            if like is None or not evaluation_pairs.unlike_by(entry, like, metric):
                return entry
    return newest


def _rows(db: Queryable, evaluation: Evaluation, metric: str) -> GateRow:
    table = evaluations.scores(db, evaluation["evaluation_id"])
    lines = [line for line in table.to_pylist() if line["metric"] == METRIC + metric]
    figure = next(figure for figure in evaluation["figures"] if figure["metric"] == METRIC + metric)
    return {
        "evaluation_id": evaluation["evaluation_id"],
        "name": evaluation["name"],
        "figure": figure,
        "row_ids": [line["row_id"] for line in lines],
        "scores": [line["score"] for line in lines],
        "statistics": [line["statistics"] for line in lines],
        "groups": evaluations.groups(db, evaluation["evaluation_id"]),
    }


def evaluations_of_base(db: Queryable, version: ModelVersion) -> list[Evaluation]:
    """Evaluations of what a version was tuned from: by name, or as the base of its run."""
    sql = """
        SELECT * FROM evaluation
        WHERE (model = $1 AND run_id IS NULL) OR (run_id = $2 AND checkpoint = 'base')
        ORDER BY created_at DESC, evaluation_id DESC LIMIT 200"""
    table = db.query(sql, [version["base_model"], version["run_id"]])
    return records(table, Evaluation, evaluations.JSON_COLUMNS)


def _gather_command(candidate: Candidate) -> CheckEvidence:
    command = f"tunebench model gate {candidate.quoted} {shlex.quote(candidate.alias)} --gather --wait"
    return {"command": command, "gather": True}


def _paired(
    db: Queryable, candidate: Candidate, check: Check, other: str, of_other: list[Evaluation]
) -> CheckEvidence:
    """The version's rows and the other's, or what of them is missing."""
    try:
        dataset = datasets.get_dataset(db, check["dataset"])
    except NotFoundError as error:
        return {"missing": f"{error.message} The gate names it.", "other": other}
    metric, fingerprint = check["metric"], dataset["fingerprint"]
    its = on_rows(of_other, check, fingerprint, metric)
    own = on_rows(evaluations_of(db, candidate.version), check, fingerprint, metric, its)
    lacking = [name for name, entry in ((candidate.reference, own), (other, its)) if entry is None]
    if own is None or its is None:
        sentence = (
            f"{' and '.join(lacking)} was not evaluated on {dataset['name']} by {METRICS[metric].title} yet."
        )
        if len(lacking) > 1:
            sentence = sentence.replace(" was ", " were ")
        return {"missing": sentence, "other": other, **_gather_command(candidate)}
    if ways := evaluation_pairs.unlike_by(own, its, metric):
        sentence = (
            f"{candidate.reference} was not asked as {other} was on {dataset['name']} ({'; '.join(ways)}),"
            " which may make answers differ by itself."
        )
        return {"missing": sentence, "other": other, **_gather_command(candidate)}
    return {
        "rows": _rows(db, own, metric),
        "other_rows": _rows(db, its, metric),
        "other": other,
        **_gather_command(candidate),
    }


def _not_worse(db: Queryable, candidate: Candidate, check: Check) -> CheckEvidence:
    holder = candidate.holder
    if holder is None:
        return {"other": ""}
    return _paired(db, candidate, check, name_of(holder), evaluations_of(db, holder))


def _better(db: Queryable, candidate: Candidate, check: Check) -> CheckEvidence:
    version = candidate.version
    base = version["base_model"]
    if check["dataset"]:
        if not base:
            return {"missing": "It is a whole model that was imported: nobody knows its base."}
        return _paired(db, candidate, check, base, evaluations_of_base(db, version))
    verdict = verdict_of(db, version)
    if verdict is None:
        instead = " Give this check a data set and a metric: it is measured against its base there."
        return {"missing": _no_verdict(version) + (instead if base else "")}
    gain = verdict["gain"]
    return {"gain": gain, "gain_unit": gain["unit"] if gain else "", "other": base or "its base"}


# -- the run ----------------------------------------------------------------------------------------


def verdict_of(db: Queryable, version: ModelVersion) -> Verdict | None:
    """Of the run that it came from, where the version is what that run ended with and the run is there."""
    if not version["run_id"] or version["source"]["checkpoint"] != "tuned":
        return None
    run = runs.find_run(db, version["run_id"])
    return read_verdict(run["verdict"]) if run else None


def _no_verdict(version: ModelVersion) -> str:
    if not version["run_id"]:
        return "It is an imported folder: no run of this house measured it against its base."
    if version["source"]["checkpoint"] != "tuned":
        return "It is a checkpoint, and its run's verdict is of what it ended with."
    return "The run that it came from was deleted, and its verdict with it."


def _forgetting(db: Queryable, candidate: Candidate, check: Check) -> CheckEvidence:
    verdict = verdict_of(db, candidate.version)
    if verdict is None:
        return {"missing": _no_verdict(candidate.version)}
    forgetting = verdict.get("forgetting")
    if not forgetting:
        return {"missing": "Its run was launched without general questions, so nothing was measured of it."}
    prose = next((text["change"] for text in forgetting["texts"] if text["probe"] == "prose"), None)
    answers = next((entry["change"] for entry in forgetting["choices"] if entry["probe"] == "choices"), None)
    return {"prose": prose, "answers": answers}


# -- what other parts of the house found ------------------------------------------------------------


def bias_of(db: Queryable, version: ModelVersion) -> tuple[BiasReport, str] | None:
    """The newest bias check of a version, or of the run that it came from, and against what it was."""
    tuned = version["run_id"] if version["source"]["checkpoint"] == "tuned" else None
    sql = """
        SELECT report, against FROM bias_check WHERE model = ? OR run_id = ?
        ORDER BY created_at DESC, job_id DESC LIMIT 1"""
    newest = next(iter(db.query(sql, [name_of(version), tuned]).to_pylist()), None)
    return (cast(BiasReport, json.loads(newest["report"])), newest["against"]) if newest else None


def _bias(db: Queryable, candidate: Candidate, check: Check) -> CheckEvidence:
    checked = bias_of(db, candidate.version)
    if checked is None:
        missing = f"{candidate.reference} was not checked for bias yet."
        return {"missing": missing, "command": _bias_command(db, candidate)}
    report, against = checked
    return {"bias": report, "other": against}


def _bias_command(db: Queryable, candidate: Candidate) -> str:
    version = candidate.version
    run_id = version["run_id"]
    if run_id and version["source"]["checkpoint"] == "tuned" and runs.find_run(db, run_id):
        return f"tunebench bias {shlex.quote(run_id)}"
    base = shlex.quote(version["base_model"]) if version["base_model"] else "BASE"
    return f"tunebench bias {candidate.quoted} --against {base}"


def exports_of(db: Queryable, version: ModelVersion) -> list[tuple[str, ParityReport | None]]:
    """The newest export of a version in each form, and how it compares."""
    sql = """
        SELECT form, arg_max(parity::VARCHAR, created_at) AS parity FROM model_export
        WHERE model_id = ? AND version = ? GROUP BY form ORDER BY form"""
    lines = db.query(sql, [version["model_id"], version["version"]]).to_pylist()
    return [(line["form"], json.loads(line["parity"]) if line["parity"] else None) for line in lines]


def _parity(db: Queryable, candidate: Candidate, check: Check) -> CheckEvidence:
    wanted = check["form"]
    exports: list[FormParity] = [
        {
            "form": form,
            "title": FORMS[form].title,
            "status": parity["status"] if parity else None,
            "answer_agreement": parity["answer_agreement"] if parity else None,
            "reasons": parity["reasons"] if parity else [],
        }
        for form, parity in exports_of(db, candidate.version)
        if wanted in ("", form)
    ]
    if not exports:
        what = f"as {FORMS[wanted].title if wanted in FORMS else wanted}" if wanted else "in any form"
        return {
            "missing": f"{candidate.reference} was not exported {what} yet.",
            "command": f"tunebench model export {candidate.quoted} --form {shlex.quote(wanted or 'merged')}",
        }
    return {"exports": exports}


# -- ratings ----------------------------------------------------------------------------------------


def _is_of(system: Mapping[str, Any], version: ModelVersion) -> bool:
    if system["run_id"]:
        source = version["source"]
        return bool(system["run_id"] == version["run_id"] and system["checkpoint"] == source["checkpoint"])
    return bool(system["model"] == name_of(version))


def rounds_of(db: Queryable, version: ModelVersion) -> list[Round]:
    """Rounds in which a version's answers are rated, newest first."""
    return [
        round
        for round in rounds.list_rounds(db)
        if any(_is_of(system, version) for system in round["systems"])
    ]


def _human(db: Queryable, candidate: Candidate, check: Check) -> CheckEvidence:
    holder = candidate.holder
    if holder is None:
        return {"rated": None, "other": ""}
    rated = RatedRows(rounds=[], other=name_of(holder), outcomes=[], items=[], raters=[])
    for round in rounds_of(db, candidate.version):
        places = [
            next((n for n, system in enumerate(round["systems"]) if _is_of(system, version)), None)
            for version in (candidate.version, holder)
        ]
        if round["protocol"] == "pairwise" and None not in places and round["state"] == "closed":
            _add_ratings(db, round, cast(list[int], places), rated)
    if not rated["outcomes"]:
        which = f"{candidate.reference} with {rated['other']}"
        return {
            "missing": f"People have compared {which} on nothing that was drawn at random and is rated."
            if rated["rounds"]
            else f"People have not compared {which} in a round that is closed.",
            "command": "tunebench round start ROUND.yaml",
            "other": rated["other"],
        }
    return {"rated": rated, "other": rated["other"]}


def _add_ratings(db: Queryable, round: Round, places: list[int], rated: RatedRows) -> None:
    """Each rating of a person who counts, of these two models; repeats and gold items count for nothing, nor
    do logged requests that were chosen as they tell most: they are hard on purpose."""
    telling = round_requests.telling_items(db, round["round_id"])
    out = {line["person_id"] for line in ratings.left_out(db, round["round_id"])}
    rated["rounds"].append(round["round_id"])
    for task in ratings.dealt(db, round["round_id"]):
        answer, person = task["answer"], task["person_id"]
        if answer is None or "skipped" in answer or person in out or person.startswith(JUDGE):
            continue
        if task["purpose"] in ("gold", "repeat") or task["item_id"] in telling:
            continue
        if sorted(task["systems"]) != sorted(places):
            continue
        choice = str(cast(Mapping[str, Any], answer).get("choice"))
        if choice == "both_bad":
            continue
        side = SIDES.get(choice)
        rated["outcomes"].append(0.5 if side is None else float(task["systems"][side] == places[0]))
        rated["items"].append(f"{round['round_id']}/{task['item_id']}")
        rated["raters"].append(person)


# -- probabilities and time -------------------------------------------------------------------------


def _calibration(db: Queryable, candidate: Candidate, check: Check) -> CheckEvidence:
    try:
        dataset = datasets.get_dataset(db, check["dataset"])
    except NotFoundError as error:
        return {"missing": f"{error.message} The gate names it."}
    own = on_rows(evaluations_of(db, candidate.version), check, dataset["fingerprint"], "ece")
    if own is None:
        sentence = (
            f"{candidate.reference} was not evaluated on {dataset['name']} by {METRICS['ece'].title} yet."
        )
        return {"missing": sentence, **_gather_command(candidate)}
    sql = """
        SELECT probability, prediction = label AS right FROM read_parquet(?)
        WHERE probability IS NOT NULL AND label IS NOT NULL ORDER BY row_id"""
    path = str(evaluations.predictions_path(db, own["evaluation_id"]))
    try:
        table = db.query(sql, [path])
    except TunebenchError:
        return {"missing": f"The rows of {own['name']} are gone.", **_gather_command(candidate)}
    return {
        "certainty": {
            "evaluation_id": own["evaluation_id"],
            "probability": table["probability"].to_pylist(),
            "right": table["right"].to_pylist(),
        },
        **_gather_command(candidate),
    }


def _latency(db: Queryable, candidate: Candidate, check: Check) -> CheckEvidence:
    timed = [
        entry
        for entry in evaluations_of(db, candidate.version, limit=MOST_TIMED)
        if entry["details"]["seconds"].get("answers") and entry["n"]
    ]
    if not timed:
        return {
            "missing": f"No evaluation of {candidate.reference} with answers was timed yet.",
            "command": f"tunebench evaluate --model {candidate.quoted} --metric chrf --dataset DATASET",
        }
    device = timed[0]["details"]["device_name"]
    seconds = [
        entry["details"]["seconds"]["answers"] / entry["n"]
        for entry in timed
        if entry["details"]["device_name"] == device
    ]
    return {
        "seconds": seconds,
        "device": device,
        "command": f"tunebench evaluate --model {candidate.quoted} --metric chrf --dataset DATASET",
    }


_EVIDENCE: dict[str, Callable[[Queryable, Candidate, Check], CheckEvidence]] = {
    "not_worse_than": _not_worse,
    "better_on_task": _better,
    "forgetting_under": _forgetting,
    "bias_under": _bias,
    "calibration_under": _calibration,
    "parity_passed": _parity,
    "human_ratings": _human,
    "latency_under": _latency,
}
