"""What people said of a version beside the one in use, in rating rounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from store.documents.rating.round import COUNTING, Round
from store.documents.shipping.gate import CheckEvidence, RatedRows
from store.documents.shipping.version import ModelVersion
from store.queries.rating import ratings, round_requests, rounds
from store.queries.shipping.gate_candidates import Candidate, Check, name_of

if TYPE_CHECKING:
    from store.db.database import Queryable

SIDES = {"A": 0, "B": 1}
JUDGE = "judge:"  # an LLM judge that rates is no human


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


def human(db: Queryable, candidate: Candidate, check: Check) -> CheckEvidence:
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
    """Each rating of a person who counts, of these two models; repeats and check items count for nothing, nor
    do prompts and logged requests that were chosen as they tell most: they are hard on purpose."""
    rated["rounds"].append(round["round_id"])
    if _is_telling(round):
        return
    telling = round_requests.telling_items(db, round["round_id"])
    out = {line["person_id"] for line in ratings.left_out(db, round["round_id"])}
    for task in ratings.dealt(db, round["round_id"]):
        answer, person = task["answer"], task["person_id"]
        if answer is None or "skipped" in answer or person in out or person.startswith(JUDGE):
            continue
        if task["purpose"] not in COUNTING or task["item_id"] in telling:
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


def _is_telling(round: Round) -> bool:
    """Whether the prompts of a data set were chosen as they tell most; where all were taken nothing was."""
    config, details = round["config"], round["details"]
    if config.get("choice") != "telling" or config.get("requests"):
        return False
    return bool(details["drawn"] < details["rows"] - details["left_out"])
