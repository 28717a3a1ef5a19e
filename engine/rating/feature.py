"""Rating feature of the engine: rounds of answers, and the people who rate them."""

from __future__ import annotations

from collections.abc import Mapping

from engine.rating.data_commands import RequestRoundCommands, RoundDataCommands
from engine.rating.job_handlers import (
    check_not_rated,
    list_rated_datasets,
    specify_round,
    store_imported_round,
    store_round,
)
from engine.rating.rater_commands import RatingCommands
from engine.rating.round_commands import RoundCommands
from engine.rating.task_assignment import AssignmentCommands, JudgeRatingCommands
from engine.server.command import Command
from engine.server.features import CommandContext, EngineFeature
from engine.server.job_handling import JobHandler
from store.rating.config import ImportRound, RowFile
from store.rating.rounds import ANSWERING, list_answering_jobs


def build_commands(context: CommandContext) -> Mapping[str, Command]:
    database, clock = context.database, context.clock
    return {
        **RoundCommands(database, context.launching, context.evaluations, clock).table(),
        **RequestRoundCommands(database, context.home, clock).table(),
        **RatingCommands(database, clock).table(),
        **AssignmentCommands(database, clock).table(),
        **RoundDataCommands(database, context.home, context.launching).table(),
        **JudgeRatingCommands(database, context.home, clock).table(),
    }


FEATURE = EngineFeature(
    handlers={
        "round": JobHandler(specify_round, store_round, list_rated_datasets),
        ANSWERING: JobHandler(),
        "import_round": JobHandler(store_result=store_imported_round),
    },
    build_commands=build_commands,
    check_job_unused=check_not_rated,
    list_dependent_jobs=list_answering_jobs,
    query_bodies={"prompts": RowFile, "ratings_file": ImportRound},
)
