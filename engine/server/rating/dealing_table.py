"""What the dealer of a round sees (`engine.rounds.dealing.Table`), from what the store has counted."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from engine.rounds.checks import check_unit
from engine.rounds.dealing import (
    REPEAT_AFTER,
    CheckUnits,
    RatedTask,
    Table,
    Unit,
    calibration_size,
    groups_of,
)
from store.config.judging.round_config import REPEATED, RoundConfig
from store.db.database import Queryable, Transaction
from store.documents.rating.round import CheckKind, Round
from store.documents.tables.person import Person
from store.queries.rating import own_tasks, rounds, units
from store.queries.rating.own_tasks import OwnTasks
from store.queries.rating.units import OpenUnit


def ensure_units(tx: Transaction, round: Round, config: RoundConfig) -> None:
    """Have the units of a round counted."""
    groups = groups_of(len(round["systems"]), config.protocol)
    size = calibration_size(round["item_count"], config.calibration_share)
    units.ensure(tx, round["round_id"], groups, size, config.seed)


def dealing_table(
    tx: Transaction, round: Round, config: RoundConfig, person: Person, own: OwnTasks, *,
    quota: int | None, most: int, random: Random,
) -> Table:  # fmt: skip
    """What the dealer sees, of a rater who may rate so many in all, to deal `most` new tasks."""
    round_id, person_id = round["round_id"], person["person_id"]
    calibration: list[OpenUnit] = []
    if config.calibration_share:
        size = calibration_size(round["item_count"], config.calibration_share)
        everybodys = size if quota is None else min(size, quota // 2)
        calibration = units.calibration(tx, round_id, person_id, most=everybodys, limit=most)
    salt = random.getrandbits(31)
    wanting = units.wanting(*(tx, round_id, person_id), overlap=config.overlap, salt=salt, limit=most)
    disputed: list[OpenUnit] = []
    if config.adjudicate and len(calibration) + len(wanting) < most:
        disputed = units.disputed(tx, round, person_id, overlap=config.overlap, limit=most)
    return Table(
        calibration=_units(calibration),
        wanting=_units(wanting),
        disputed=_units(disputed),
        had=own.had,
        dealt=own.dealt,
        repeatable=_repeatable(tx, round_id, person_id, config, own, most),
        repeat_share=config.repeat_share if config.protocol in REPEATED else 0.0,
        checks=_checks(tx, round, config, person_id),
    )


def _checks(db: Queryable, round: Round, config: RoundConfig, person_id: str) -> dict[CheckKind, CheckUnits]:
    """Items by which raters are checked in between, that the person has not had."""
    shares: dict[CheckKind, float] = {"gold": config.gold_share, "attention": config.attention_share}
    ids = rounds.check_ids(db, round["round_id"])
    if not any(ids[kind] for kind in shares):
        return {}
    had = own_tasks.items_of(db, round["round_id"], person_id, list(shares))
    return {
        kind: CheckUnits(check_units(round, config, [each for each in ids[kind] if each not in had]), share)
        for kind, share in shares.items()
    }


def check_units(round: Round, config: RoundConfig, item_ids: Sequence[int]) -> list[Unit]:
    """What is rated of check items."""
    return [check_unit(item_id, len(round["systems"]), config.protocol) for item_id in item_ids]


def _repeatable(
    db: Queryable, round_id: str, person_id: str, config: RoundConfig, own: OwnTasks, most: int
) -> list[RatedTask]:
    """Only read where one of the next tasks is to come again."""
    due = int((own.dealt.total() + most) * config.repeat_share)
    if config.protocol not in REPEATED or own.dealt["repeat"] >= due:
        return []
    return [
        RatedTask(task.task_id, Unit(task.item_id, tuple(sorted(task.systems))), tuple(task.systems))
        for task in own_tasks.repeatable(db, round_id, person_id, but_last=REPEAT_AFTER - 1)
    ]


def _units(open_units: list[OpenUnit]) -> list[Unit]:
    return [Unit(unit.item_id, unit.systems) for unit in open_units]
