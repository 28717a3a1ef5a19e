"""`tunebench label-next`, `improve`, `improvements` and `improvement …`: from feedback on a model to its next
version.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import typer

from engine.monitoring.labelling import build_label_queue, count_reference_topics
from engine.monitoring.labelling_text import LabelQueue, describe_empty_queue, describe_label_queue
from store.core import formatting
from store.core.errors import ConfigError, from_dict
from store.http.client import Client
from store.jobs import job_queue
from store.monitoring import logged_requests, monitors
from store.rating.config import RequestRound, RequestSample
from store.registry import model_versions
from store.retraining import improvements as stored
from store.retraining import text as improvement_text
from store.retraining.config import FeedbackRowSource, ImproveConfig, ImproveSchedule
from store.retraining.schemas import AT_WORK, Improvement
from tunebench.commands.registry import print_report
from tunebench.terminal.connection import Json, Wait, connect, send_change
from tunebench.terminal.features import TerminalFeature
from tunebench.terminal.options import Options, add_options
from tunebench.terminal.output import (
    CONDITION,
    STOPPED,
    err,
    out,
    print_json,
    print_notice,
    print_rows,
    report_errors,
    require_finished,
    watch_job,
)

SHORT = 60  # characters shown of a text


RequestProtocol = Literal["label", "correction", "pass_fail", "pairwise"]  # rating protocols for requests


@add_options("of_round", RequestRound, "items", "random_share", "overlap", partial=True, round="name")
def label_next(
    of_round: Options,
    endpoint: Annotated[str, typer.Argument(help="Endpoint name or id")],
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Number of requests to list")] = 20,
    hours: Annotated[float | None, typer.Option(min=0.1, help="Time window; default: all")] = None,
    alert: Annotated[str, typer.Option(help="Only the requests behind this alert")] = "",
    protocol: Annotated[
        RequestProtocol | None, typer.Option(help="Rating task; default: by the task of the model")
    ] = None,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """List the most informative logged requests to label; with --round, create a rating round for
    them."""
    with report_errors(json):
        begins_round = "name" in of_round
        client = connect(start=begins_round)
        chosen = choose_requests(endpoint, hours, alert)
        upcoming = find_next_to_label(client, chosen, protocol, limit)
        if not begins_round:
            print_json(
                {"summary": describe_label_queue(upcoming), **upcoming._asdict()}
            ) if json else _print_next(upcoming)
            return
        meant = chosen.model_dump(mode="json", exclude_none=True, exclude={"weights"})
        body = {**meant, **of_round, "protocol": upcoming.protocol}
        made = client.command("round_of_requests", body)
        if wait:
            require_finished(
                watch_job(lambda: job_queue.get_job(client, made["round_id"]), "Collecting requests"),
                "The round was",
            )
        counted = f"{made['items']:,} requests, {made['random']:,} of them random"
        print_json(made) if json else print_notice(f"Created round {made['round_id']}: {counted}.")


def choose_requests(endpoint: str, hours: float | None, alert: str) -> RequestSample:
    """Select requests of an endpoint; hours: time window up to now, None for all."""
    start = datetime.now(UTC) - timedelta(hours=hours) if hours else None
    return RequestSample(endpoint=endpoint, start=start, alert=alert)


def find_next_to_label(
    client: Client, chosen: RequestSample, protocol: RequestProtocol | None, limit: int
) -> LabelQueue:
    """Return which of these requests to label next."""
    meant = logged_requests.meant_by(client, chosen)
    return build_label_queue(
        logged_requests.newest(client, meant),
        count_reference_topics(monitors.find(client, meant.endpoint_id)),
        logged_requests.count(client, meant),
        protocol,
        limit=limit,
    )


def _print_next(upcoming: LabelQueue) -> None:
    print_notice(describe_label_queue(upcoming))
    for why, count in upcoming.left_out.items():
        print_notice(f"{count:,} excluded: {why}.")
    if not upcoming.different:
        print_notice(describe_empty_queue(upcoming))
        return
    print_rows(
        ["text", "answer", "why", "version"],
        [
            [_truncate(row.text), _truncate(row.answer), ", ".join(row.reasons), row.version]
            for row in upcoming.listed
        ],
        f"{len(upcoming.listed):,} of {upcoming.different:,}, most informative first",
    )


def _truncate(text: str) -> str:
    return text if len(text) <= SHORT else f"{text[:SHORT]} …"


improvement = typer.Typer(no_args_is_help=True, help="Improvements: view, promote, decline, resume, schedule")

Model = Annotated[str, typer.Argument(help="Registered model")]
Name = Annotated[str, typer.Argument(help="Improvement name or id")]
Feedback = Annotated[
    list[str] | None, typer.Option(help="Endpoint whose corrections and labels to use; may be repeated")
]
Rounds = Annotated[
    list[str] | None,
    typer.Option("--round", help="Rating round; waits until it is closed; may be repeated"),
]
OF_BOTH = ("alias", "run", "held_out", "metric", "margin")  # fields of ImproveSettings


@add_options("of_feedback", FeedbackRowSource, "alert", "group", partial=True, since="start")
@add_options("given", ImproveConfig, *OF_BOTH, "name")
def improve(
    given: Options,
    of_feedback: Options,
    model: Model,
    feedback: Feedback = None,
    round: Rounds = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="Data set whose rows to use; may be repeated")
    ] = None,
    where: Annotated[str, typer.Option(help="SQL condition that selects rows of --dataset")] = "",
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Train the next version on new rows and compare it with the current one. Exits with code 7 if its
    checks fail or there are too few new rows. Promotion requires `tunebench improvement promote`."""
    with report_errors(json):
        rows = _build_sources(feedback, round, dataset, where, of_feedback)
        body = ImproveConfig.parse({**given, "model": model, "rows": rows})
        client = connect(start=True)
        begun = client.command("begin_improvement", body.document())
        if not wait:
            print_json(begun) if json else print_notice(f"{begun['improvement']} started.")
            return
        ended = follow_improvement(client, begun["improvement_id"])
        _exit_with_outcome(ended, json)


def _build_sources(
    feedback: list[str] | None,
    round: list[str] | None,
    dataset: list[str] | None,
    where: str,
    of_feedback: Options,
) -> list[dict[str, object]]:
    """Build the sources of new rows. Raises ConfigError for an option of a source that was not given."""
    if of_feedback and not feedback:
        field = next(iter(of_feedback)).replace("start", "since")
        raise ConfigError(f"--{field} requires --feedback.", fix="Add --feedback ENDPOINT.", field=field)
    if where and not dataset:
        raise ConfigError("--where requires --dataset.", fix="Add --dataset.", field="where")
    filtered = {"where": {"expression": where}} if where else {}
    rows: list[dict[str, object]] = [
        {"source": "feedback", "endpoint": each, **of_feedback} for each in feedback or []
    ]
    rows += [{"source": "round", "round": each} for each in round or []]
    rows += [{"source": "dataset", "dataset": each, **filtered} for each in dataset or []]
    if not rows:
        raise ConfigError(
            "No source of new rows given.", fix="Give --feedback, --round or --dataset.", field="rows"
        )
    return rows


def follow_improvement(client: Client, improvement_id: str) -> Improvement:
    """Wait until a person has to decide, or it has ended, printing each step as it begins."""
    state = ""
    while True:
        present = stored.get(client, improvement_id)
        if present.state != state:
            state = present.state
            words = improvement_text.STATES[present.state]
            err.print(f"{words.title}: {words.waits}", markup=False, soft_wrap=True)
        if present.state == "deciding" or present.state not in AT_WORK:
            return present
        time.sleep(0.5)


def _exit_with_outcome(improved: Improvement, as_json: bool) -> None:
    """Print the improvement, and exit with the code of its outcome."""
    print_json(improved) if as_json else print_improvement(improved)
    trouble = improved.trouble
    if improved.state == "failed" and trouble:
        raise from_dict(trouble)
    if improved.state == "stopped":
        raise SystemExit(STOPPED)
    gate = improved.facts.get("gate")
    if improved.state == "waiting" or (gate and gate.answer != "passed"):
        raise SystemExit(CONDITION)


def print_improvement(improved: Improvement) -> None:
    """Print its state, its rows and excluded rows, its checks, and the next step."""
    words, facts = improvement_text.STATES[improved.state], improved.facts
    out.print(f"{improved.name}  {words.title.lower()}  {improved.improvement_id}", markup=False)
    if improved.state == "waiting" and (trouble := improved.trouble):
        print_notice(str(from_dict(trouble)))
    if rows := facts.get("rows"):
        if improved.state != "waiting":  # while waiting, none of them is trained on yet
            out.print(improvement_text.describe_rows(rows), markup=False, soft_wrap=True)
        for line in improvement_text.list_exclusions(rows):
            out.print(f"  excluded  {line}", markup=False, soft_wrap=True)
        checks = facts["gate"].checks if "gate" in facts else []
        if slipping := improvement_text.describe_leakage(rows, checks[0] if checks else None):
            out.print(slipping, markup=False, soft_wrap=True)
        for line in improvement_text.list_reuse_exclusions(rows):
            out.print(f"  no longer held out  {line}", markup=False, soft_wrap=True)
    if "version" in facts:
        beside = facts.get("holder") or "no version"
        out.print(f"{facts['version']}, compared with {beside}", markup=False, soft_wrap=True)
    if moved := improvement_text.describe_moved_alias(improved):
        out.print(moved, markup=False, soft_wrap=True)
    if "gate" in facts:
        print_report(facts["gate"])
    if improved.note:
        out.print(f"{improved.ended_by_name}: {improved.note}", markup=False, soft_wrap=True)
    if step := improvement_text.describe_next_step(improved):
        print_notice(step)


def improvements(
    model: Annotated[str | None, typer.Argument(help="Model filter; default: all")] = None,
    json: Json = False,
) -> None:
    """List improvements, newest first."""
    with report_errors(json):
        client = connect()
        model_id = model_versions.get_model(client, model).model_id if model else ""
        listed = stored.of_model(client, model_id)
        if json:
            print_json({"improvements": listed})
            return
        lines = [
            [
                each.name,
                improvement_text.STATES[each.state].title.lower(),
                each.facts.get("version", ""),
                each.begun_by_name + (" (schedule)" if each.scheduled else ""),
                f"{each.begun_at:%Y-%m-%d %H:%M}",
            ]
            for each in listed
        ]
        footer = formatting.plural(len(lines), "improvement")
        print_rows(["improvement", "state", "version", "started by", "at"], lines, footer)


@improvement.command()
def show(name: Name, wait: Annotated[bool, typer.Option("--wait")] = False, json: Json = False) -> None:
    """Show an improvement: rows, version, checks. Exits with code 7 if its checks fail or it waits for
    rows."""
    with report_errors(json):
        client = connect()
        improved = stored.get(client, name)
        if wait:
            improved = follow_improvement(client, improved.improvement_id)
        _exit_with_outcome(improved, json)


@improvement.command()
def promote(
    name: Name,
    reason: Annotated[str, typer.Option(help="Reason; default: the result of the checks")] = "",
    override: Annotated[
        bool, typer.Option("--override", help="Override failed checks (admins only)")
    ] = False,
    json: Json = False,
) -> None:
    """Promote the version of an improvement to the alias, subject to the gate of the alias."""
    body = {"improvement": name, "promote": True, "reason": reason, "override": override}
    send_change("decide_improvement", body, f"Promoted the version of {name}.", json)


@improvement.command()
def decline(
    name: Name,
    reason: Annotated[str, typer.Option(help="Reason, recorded with the decision")],
    json: Json = False,
) -> None:
    """Decline an improvement; the current version stays."""
    body = {"improvement": name, "promote": False, "reason": reason}
    send_change("decide_improvement", body, f"{name} declined.", json)


@improvement.command()
def stop(name: Name, json: Json = False) -> None:
    """Stop a running improvement; its results so far are kept."""
    send_change("stop_improvement", {"improvement": name}, f"{name} stopped.", json)


@improvement.command()
def resume(name: Name, json: Json = False) -> None:
    """Resume an improvement that failed, from the failed step, or that waits for rows."""
    send_change("resume_improvement", {"improvement": name}, f"{name} resumed.", json)


@improvement.command()
@add_options("of_feedback", FeedbackRowSource, "group", partial=True)
@add_options("given", ImproveSchedule, "every_hours", "least_rows", *OF_BOTH)
def schedule(
    given: Options,
    of_feedback: Options,
    model: Model,
    feedback: Feedback = None,
    off: Annotated[bool, typer.Option("--off", help="Turn off the schedule")] = False,
    json: Json = False,
) -> None:
    """Start improvements automatically once there are enough new rows. Promotion is always manual."""
    if off:
        send_change("unschedule_improvement", {"model": model}, f"Schedule of {model} turned off.", json)
        return
    with report_errors(json):
        rows = _build_sources(feedback, None, None, "", of_feedback)
        config = ImproveSchedule.parse({**given, "model": model, "rows": rows})
        connect(start=True).command("schedule_improvement", config.document())
        print_json({}) if json else print_notice(
            f"Every {config.every_hours:g} hours, {model} is checked for {config.least_rows:,} new rows."
        )


def register(cli: typer.Typer) -> None:
    """Add the commands to `tunebench`."""
    cli.command()(improve)
    cli.command()(improvements)
    cli.command()(label_next)
    cli.add_typer(improvement, name="improvement")


FEATURE = TerminalFeature(register, tools=("tunebench.agents.retraining:ImproveTools",))
