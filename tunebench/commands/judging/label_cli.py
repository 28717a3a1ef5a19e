"""`tunebench label-next`: which logged requests tell most, and a round in which people say what is right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import typer

from engine.diagnostics.drift.label_list import NextToLabel, empty_advice, headline, next_to_label_of
from engine.diagnostics.drift.labelling import topics_of
from store.config.judging.chosen_requests import ChosenRequests
from store.http.client import Client
from store.queries import jobs
from store.queries.monitoring import logged_requests, monitors
from tunebench.terminal.connection import Json, Wait, connect
from tunebench.terminal.output import errors, print_json, print_rows, require_finished, say, watch

SHORT = 60  # characters of a text


RequestProtocol = Literal["label", "correction", "pass_fail", "pairwise"]  # what people do with requests


def label_next(
    endpoint: Annotated[str, typer.Argument(help="Name or id of an endpoint")],
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Requests that are listed")] = 20,
    hours: Annotated[float | None, typer.Option(min=0.1, help="How far back; all where left out")] = None,
    alert: Annotated[str, typer.Option(help="Only the requests behind this alert")] = "",
    protocol: Annotated[
        RequestProtocol | None, typer.Option(help="What people do; by what answered where left out")
    ] = None,
    round_name: Annotated[str, typer.Option("--round", help="Have them rated in a round of this name")] = "",
    items: Annotated[int, typer.Option(min=1, max=2_000, help="Of the round: requests at most")] = 50,
    random_share: Annotated[
        float, typer.Option(min=0, max=1, help="Of the round: drawn at random, which can judge")
    ] = 0.3,
    overlap: Annotated[int, typer.Option(min=1, max=20, help="Of the round: people for each")] = 1,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """List the logged requests whose right answer would teach most, and why; with --round, have people rate
    them."""
    with errors(json):
        client = connect(start=bool(round_name))
        chosen = requests_of(endpoint, hours, alert)
        upcoming = next_of(client, chosen, protocol, limit)
        if not round_name:
            print_json({"summary": headline(upcoming), **upcoming._asdict()}) if json else _print(upcoming)
            return
        body: dict[str, Any] = {
            **chosen.model_dump(mode="json", exclude_none=True, exclude={"weights"}),
            **{"name": round_name, "protocol": upcoming.protocol, "items": items, "overlap": overlap},
            "random_share": random_share,
        }
        made = client.command("round_of_requests", body)
        if wait:
            require_finished(
                watch(lambda: jobs.get_job(client, made["round_id"]), "Gathering"), "The round was"
            )
        counted = f"{made['items']:,} requests, {made['random']:,} of them at random"
        print_json(made) if json else say(f"The round is {made['round_id']}: {counted}.")


def requests_of(endpoint: str, hours: float | None, alert: str) -> ChosenRequests:
    """Those of an endpoint that are meant; hours: how far back, None for all."""
    start = datetime.now(UTC) - timedelta(hours=hours) if hours else None
    return ChosenRequests(endpoint=endpoint, start=start, alert=alert)


def next_of(
    client: Client, chosen: ChosenRequests, protocol: RequestProtocol | None, limit: int
) -> NextToLabel:
    """What should be labelled next of these requests."""
    meant = logged_requests.meant_by(client, chosen)
    return next_to_label_of(
        logged_requests.newest(client, meant),
        topics_of(monitors.find(client, meant.endpoint_id)),
        logged_requests.count(client, meant),
        protocol,
        limit=limit,
    )


def _print(upcoming: NextToLabel) -> None:
    say(headline(upcoming))
    for why, count in upcoming.left_out.items():
        say(f"Left out {count:,}: {why}.")
    if not upcoming.different:
        say(empty_advice(upcoming))
        return
    print_rows(
        ["text", "answer", "why", "version"],
        [
            [_cut(row["text"]), _cut(row["answer"]), ", ".join(row["reasons"]), row["version"]]
            for row in upcoming.listed
        ],
        f"{len(upcoming.listed):,} of {upcoming.different:,}, the most telling first",
    )


def _cut(text: str) -> str:
    return text if len(text) <= SHORT else f"{text[:SHORT]} …"
