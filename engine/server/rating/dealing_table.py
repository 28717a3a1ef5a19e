"""What the dealer of a round sees (`engine.rounds.dealing.Table`), out of what the store has of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from engine.rounds.checks import check_unit
from engine.rounds.dealing import DealtUnit, Table, Unit, units
from store.config.judging.round_config import REPEATED, RoundConfig
from store.contract.steady_clock import is_recent
from store.db.database import Transaction
from store.documents.rating.round import COUNTING, DealtTask, Round
from store.queries import jobs
from store.queries.rating import ratings, rounds

STALE_SECONDS = 3_600.0  # a task that lies with a rater for longer unrated may go to others


def dealing_table(
    tx: Transaction, round: Round, config: RoundConfig, own: Sequence[DealtTask], at: float
) -> Table:
    """What the dealer sees of a round."""
    ids = rounds.ids_by_check(tx, round["round_id"])
    systems = len(round["systems"])
    everyone = ratings.dealt(tx, round["round_id"])
    counting = [task for task in everyone if task["purpose"] in COUNTING]
    taken = Counter(_unit(task) for task in counting if _counts(task, at))
    own_tasks = [
        DealtUnit(task["task_id"], _unit(task), tuple(task["systems"]), task["purpose"], task["repeat_of"])
        for task in own
    ]
    return Table(
        units=units(ids["to_rate"], systems, config.protocol),
        taken=taken,
        own=own_tasks,
        overlap=config.overlap,
        repeat_share=config.repeat_share if config.protocol in REPEATED else 0.0,
        gold=[check_unit(item_id, systems, config.protocol) for item_id in ids["checks"]["gold"]],
        gold_share=config.gold_share,
        disputed=_disputed(counting, config) if config.adjudicate else frozenset(),
        uncertainty=_uncertainty(counting),
    )


def lies_with_others(tx: Transaction, round: Round, config: RoundConfig, own: Sequence[DealtTask]) -> bool:
    """Whether a rater who is given nothing more may yet be: others have units that they may leave unrated."""
    item_ids = rounds.ids_by_check(tx, round["round_id"])["to_rate"]
    had = {_unit(task) for task in own}
    rated = Counter(_unit(task) for task in ratings.dealt(tx, round["round_id"]) if _is_rated(task))
    everything = units(item_ids, len(round["systems"]), config.protocol)
    return any(rated[unit] < config.overlap for unit in everything if unit not in had)


def _is_rated(task: DealtTask) -> bool:
    counts = task["purpose"] in COUNTING
    return counts and task["answer"] is not None and "skipped" not in task["answer"]


def _unit(task: DealtTask) -> Unit:
    return Unit(task["item_id"], tuple(sorted(task["systems"])))


def _counts(task: DealtTask, at: float) -> bool:
    """Whether a task is rated, or may still be; one that was skipped goes to others."""
    if task["answer"] is not None:
        return "skipped" not in task["answer"]
    return is_recent(jobs.epoch(task["given_at"]), at, STALE_SECONDS)


def _winner(task: DealtTask) -> object:
    """What a pairwise rating says, whatever the sides: the number of a model, tie or both_bad."""
    answer: Mapping[str, object] = task["answer"] or {}
    choice = answer.get("choice")
    return {"A": task["systems"][0], "B": task["systems"][-1]}.get(str(choice), choice)


def _verdict(task: DealtTask, config: RoundConfig) -> object:
    """What differs where people are at odds: of a label not the note beside it."""
    if config.protocol == "label":
        answer: Mapping[str, object] = task["answer"] or {}
        return answer.get("label")
    return _winner(task) if config.protocol == "pairwise" else repr(task["answer"])


def _disputed(tasks: Iterable[DealtTask], config: RoundConfig) -> frozenset[Unit]:
    """Units with all their ratings, none beyond them yet, that differ."""
    verdicts_of: dict[Unit, list[object]] = {}
    for task in tasks:
        if task["answer"] is not None and "skipped" not in task["answer"]:
            verdict = _verdict(task, config)
            verdicts_of.setdefault(_unit(task), []).append(verdict)
    return frozenset(
        unit
        for unit, verdicts in verdicts_of.items()
        if len(verdicts) == config.overlap and len(set(verdicts)) > 1
    )


def _uncertainty(tasks: Iterable[DealtTask]) -> Mapping[tuple[int, ...], float]:
    """How little is known of each pair of models: the variance of the share of decided votes, a vote for
    either added."""
    wins: Counter[tuple[tuple[int, ...], object]] = Counter()
    pairs = set()
    for task in tasks:
        if task["answer"] is not None and len(task["systems"]) == 2:
            pair = tuple(sorted(task["systems"]))
            pairs.add(pair)
            wins[pair, _winner(task)] += 1
    variances = {}
    for pair in pairs:
        first, second = wins[pair, pair[0]] + 1, wins[pair, pair[1]] + 1
        variances[pair] = first * second / (first + second) ** 2 / (first + second + 1)
    return variances
