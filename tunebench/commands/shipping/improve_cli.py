"""`tunebench improve`, `improvements` and `improvement …`: from what people said of a model to its next
version."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated, Any

import typer

from engine.diagnostics import phrasing
from store.config.shipping.improve_config import ImproveConfig, ImproveSchedule
from store.contract.errors import ConfigError, from_dict
from store.documents.tables.improvement import AT_WORK, Improvement
from store.http.client import Client
from store.queries.shipping import improvements as stored
from store.queries.shipping import versions
from store.words import improvement_words
from tunebench.commands.shipping.model_cli import print_report
from tunebench.terminal.connection import Json, Wait, change, connect
from tunebench.terminal.output import CONDITION, STOPPED, err, errors, out, print_json, print_rows, say

improvement = typer.Typer(no_args_is_help=True, help="Improvements: see, promote, decline, go on, schedule")

Model = Annotated[str, typer.Argument(help="A registered model")]
Name = Annotated[str, typer.Argument(help="Name or id of an improvement")]
Feedback = Annotated[
    list[str] | None, typer.Option(help="An endpoint whose corrections and labels come back; may be repeated")
]
Rounds = Annotated[
    list[str] | None,
    typer.Option("--round", help="A rating round, waited for while it is open; may be repeated"),
]
Alias = Annotated[str, typer.Option(help="Whose version is improved, and whose place is taken")]
Run = Annotated[str, typer.Option(help="Whose config is launched; that of the version where left out")]
HeldOut = Annotated[float, typer.Option(help="Share of the new rows that judges")]
Metric = Annotated[str, typer.Option(help="By which both are measured; that of the task where left out")]
Margin = Annotated[float, typer.Option(help="How much worse is allowed, on old and new rows")]
Group = Annotated[str, typer.Option(help="Only feedback on requests of this group")]


def improve(
    model: Model,
    feedback: Feedback = None,
    round: Rounds = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="A data set whose rows are taken; may be repeated")
    ] = None,
    where: Annotated[
        str, typer.Option(help="SQL that is true for the rows of --dataset that are meant")
    ] = "",
    alert: Annotated[str, typer.Option(help="Only feedback on requests behind this alert")] = "",
    group: Group = "",
    since: Annotated[
        datetime | None,
        typer.Option(help="Only feedback from then on, UTC", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    ] = None,
    alias: Alias = "production",
    run: Run = "",
    held_out: HeldOut = 0.3,
    metric: Metric = "",
    margin: Margin = 0.02,
    name: Annotated[str, typer.Option(help="Made up where left out")] = "",
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Train the next version on what came back, and measure it beside the one in use: exit code 7 where its
    checks are not passed, or too few rows came back so far. It is promoted by `tunebench improvement promote`
    alone."""
    with errors(json):
        of_feedback = {"alert": alert, "group": group, "start": since}
        rows = _sources(feedback, round, dataset, where, of_feedback)
        body = ImproveConfig.parse(
            {
                **{"model": model, "alias": alias, "rows": rows, "run": run, "held_out": held_out},
                **{"metric": metric, "margin": margin, "name": name},
            }
        )
        client = connect(start=True)
        begun = client.command("begin_improvement", body.document())
        if not wait:
            print_json(begun) if json else say(f"{begun['improvement']} has begun.")
            return
        ended = follow(client, begun["improvement_id"])
        _finish(ended, json)


def _sources(
    feedback: list[str] | None,
    round: list[str] | None,
    dataset: list[str] | None,
    where: str,
    of_feedback: dict[str, Any],
) -> list[dict[str, Any]]:
    """Raises ConfigError for a choice that belongs to a source that was not named."""
    given = [name for name, value in of_feedback.items() if value]
    if given and not feedback:
        field = "since" if given[0] == "start" else given[0]
        raise ConfigError(f"--{field} chooses feedback.", fix="Give --feedback ENDPOINT too.", field=field)
    if where and not dataset:
        raise ConfigError("--where chooses rows of a data set.", fix="Give --dataset too.", field="where")
    filtered = {"where": {"expression": where}} if where else {}
    rows: list[dict[str, Any]] = [
        {"source": "feedback", "endpoint": each, **of_feedback} for each in feedback or []
    ]
    rows += [{"source": "round", "round": each} for each in round or []]
    rows += [{"source": "dataset", "dataset": each, **filtered} for each in dataset or []]
    if not rows:
        raise ConfigError(
            "Where do new rows come from?", fix="Give --feedback, --round or --dataset.", field="rows"
        )
    return rows


def follow(client: Client, improvement_id: str) -> Improvement:
    """Wait until a person is asked, or it has ended; each step is said as it begins."""
    state = ""
    while True:
        present = stored.get(client, improvement_id)
        if present["state"] != state:
            state = present["state"]
            words = improvement_words.STATES[present["state"]]
            err.print(f"{words.title}: {words.waits}", markup=False, soft_wrap=True)
        if present["state"] == "deciding" or present["state"] not in AT_WORK:
            return present
        time.sleep(0.5)


def _finish(improved: Improvement, as_json: bool) -> None:
    """Print it, and exit with the code of how far it came."""
    print_json(improved) if as_json else print_improvement(improved)
    trouble = improved["trouble"]
    if improved["state"] == "failed" and trouble:
        raise from_dict(trouble)
    if improved["state"] == "stopped":
        raise SystemExit(STOPPED)
    gate = improved["facts"].get("gate")
    if improved["state"] == "waiting" or (gate and gate["answer"] != "passed"):
        raise SystemExit(CONDITION)


def print_improvement(improved: Improvement) -> None:
    """Its state, its rows and why others are none, its checks, and what comes next."""
    words, facts = improvement_words.STATES[improved["state"]], improved["facts"]
    out.print(f"{improved['name']}  {words.title.lower()}  {improved['improvement_id']}", markup=False)
    if improved["state"] == "waiting" and (trouble := improved["trouble"]):
        say(str(from_dict(trouble)))
    if rows := facts.get("rows"):
        if improved["state"] != "waiting":  # else none of them is trained on yet
            out.print(improvement_words.rows_sentence(rows), markup=False, soft_wrap=True)
        for line in improvement_words.left_out_lines(rows):
            out.print(f"  left out  {line}", markup=False, soft_wrap=True)
        checks = facts["gate"]["checks"] if "gate" in facts else []
        if slipping := improvement_words.slipping_sentence(rows, checks[0] if checks else None):
            out.print(slipping, markup=False, soft_wrap=True)
        for line in improvement_words.again_left_out_lines(rows):
            out.print(f"  judges no more  {line}", markup=False, soft_wrap=True)
    if "version" in facts:
        beside = facts.get("holder") or "no version"
        out.print(f"{facts['version']}, beside {beside}", markup=False, soft_wrap=True)
    if moved := improvement_words.moved_sentence(improved):
        out.print(moved, markup=False, soft_wrap=True)
    if "gate" in facts:
        print_report(facts["gate"])
    if improved["note"]:
        out.print(f"{improved['ended_by_name']}: {improved['note']}", markup=False, soft_wrap=True)
    if step := improvement_words.next_step(improved):
        say(step)


def improvements(
    model: Annotated[str | None, typer.Argument(help="Of this model; all where left out")] = None,
    json: Json = False,
) -> None:
    """List improvements, the newest first."""
    with errors(json):
        client = connect()
        model_id = versions.get_model(client, model)["model_id"] if model else ""
        listed = stored.of_model(client, model_id)
        if json:
            print_json({"improvements": listed})
            return
        lines = [
            [
                each["name"],
                improvement_words.STATES[each["state"]].title.lower(),
                each["facts"].get("version", ""),
                each["begun_by_name"] + (" (schedule)" if each["scheduled"] else ""),
                f"{each['begun_at']:%Y-%m-%d %H:%M}",
            ]
            for each in listed
        ]
        footer = phrasing.plural(len(lines), "improvement")
        print_rows(["improvement", "state", "version", "begun by", "at"], lines, footer)


@improvement.command()
def show(name: Name, wait: Annotated[bool, typer.Option("--wait")] = False, json: Json = False) -> None:
    """One improvement: its rows, its version, its checks. Exit code 7 where the checks are not passed, or it
    waits for rows."""
    with errors(json):
        client = connect()
        improved = stored.get(client, name)
        if wait:
            improved = follow(client, improved["improvement_id"])
        _finish(improved, json)


@improvement.command()
def promote(
    name: Name,
    reason: Annotated[str, typer.Option(help="Why; the checks' sentence where left out")] = "",
    override: Annotated[
        bool, typer.Option("--override", help="Though the checks are not passed; for admins")
    ] = False,
    json: Json = False,
) -> None:
    """Say yes: its version takes the alias, through the gate of the alias too."""
    body = {"improvement": name, "promote": True, "reason": reason, "override": override}
    change("decide_improvement", body, f"The version of {name} is promoted.", json)


@improvement.command()
def decline(
    name: Name, reason: Annotated[str, typer.Option(help="Why; it is kept")], json: Json = False
) -> None:
    """Say no: the version in use stays."""
    body = {"improvement": name, "promote": False, "reason": reason}
    change("decide_improvement", body, f"{name} is declined.", json)


@improvement.command()
def stop(name: Name, json: Json = False) -> None:
    """End one that is under way; what it has made stays."""
    change("stop_improvement", {"improvement": name}, f"{name} is stopped.", json)


@improvement.command()
def resume(name: Name, json: Json = False) -> None:
    """Go on with one that has failed, from the step at which it failed, or that waits for rows."""
    change("resume_improvement", {"improvement": name}, f"{name} goes on.", json)


@improvement.command()
def schedule(
    model: Model,
    feedback: Feedback = None,
    group: Group = "",
    every_hours: Annotated[float, typer.Option(help="Between two looks")] = 24,
    least_rows: Annotated[int, typer.Option(help="New rows since the last improvement, at least")] = 100,
    alias: Alias = "production",
    run: Run = "",
    held_out: HeldOut = 0.3,
    metric: Metric = "",
    margin: Margin = 0.02,
    off: Annotated[bool, typer.Option("--off", help="None begins by itself any more")] = False,
    json: Json = False,
) -> None:
    """Have improvements begin by themselves once enough was said; a person promotes, always."""
    if off:
        change("unschedule_improvement", {"model": model}, f"{model} is on no schedule any more.", json)
        return
    with errors(json):
        rows = _sources(feedback, None, None, "", {"group": group})
        config = ImproveSchedule.parse(
            {
                **{"model": model, "alias": alias, "rows": rows, "run": run, "held_out": held_out},
                **{"metric": metric, "margin": margin, "every_hours": every_hours, "least_rows": least_rows},
            }
        )
        connect(start=True).command("schedule_improvement", config.document())
        print_json({}) if json else say(
            f"Every {every_hours:g} hours it is looked whether there are {least_rows:,} new rows for {model}."
        )


def register(cli: typer.Typer) -> None:
    """Add the commands to `tunebench`."""
    cli.command()(improve)
    cli.command()(improvements)
    cli.add_typer(improvement, name="improvement")
