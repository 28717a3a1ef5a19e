"""`tunebench serve`, `endpoints` and `endpoint`: models served with OpenAI's protocol, and their keys."""

from __future__ import annotations

import os
import shlex
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NotRequired, TypedDict

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from store.core.errors import ConfigError, EngineUnavailable, NotFoundError, StateError, from_dict
from store.core.formatting import plural
from store.http.client import Client
from store.serving.config import EndpointSettings, MakeEndpoint
from store.serving.endpoint_status import list_endpoints
from store.serving.schemas import EndpointStatus
from store.serving.text import build_examples, describe_state, list_first_kinds, suggest_name
from tunebench.terminal.connection import Json, connect, read_document, send_change
from tunebench.terminal.features import TerminalFeature
from tunebench.terminal.options import Options, add_options
from tunebench.terminal.output import err, print_json, print_notice, print_rows, report_errors

POLL = 0.5
STOP_SECONDS = 120.0
SLACK_SECONDS = 0.001  # tolerance for times read from the store

endpoint = typer.Typer(no_args_is_help=True, help="Endpoints: start, stop, delete, and manage keys.")
EndpointNameArgument = Annotated[str, typer.Argument(help="Name or id of an endpoint")]


def register(cli: typer.Typer) -> None:
    """Add the commands to `tunebench`."""
    cli.command()(serve)
    cli.command("endpoints")(endpoints_)
    cli.add_typer(endpoint, name="endpoint")


@add_options("given", EndpointSettings, "port", "host", "allow_host", partial=True)
def serve(
    given: Options,
    subjects: Annotated[
        list[str] | None,
        typer.Argument(
            help="NAME@3, NAME@production, run, model, folder or GGUF file; several share the endpoint"
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Endpoint name; default: from the first subject")] = "",
    config: Annotated[
        Path | None, typer.Option(help="Settings as YAML (docs/serving.md), or - for standard input")
    ] = None,
    candidate: Annotated[str, typer.Option(help="Candidate version that gets a share of the requests")] = "",
    share: Annotated[float, typer.Option(min=0, max=1, help="Share of requests for the candidate")] = 0.1,
    shadow: Annotated[
        str, typer.Option(help="Version that gets copies of requests; its answers are only logged")
    ] = "",
    fallback: Annotated[str, typer.Option(help="Version that answers if the live one fails")] = "",
    key_file: Annotated[
        Path | None, typer.Option(help="Write the key to this file (mode 0600) instead of stdout")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Keep serving in the background")] = False,
    json: Json = False,
) -> None:
    """Serve models with OpenAI's protocol until Ctrl-C. Requests in progress are completed.

    An existing endpoint of that name is started, after changing any settings that are given.
    """
    with report_errors(json):
        settings = _build_settings(subjects or [], config, candidate, share, shadow, fallback) | given
        chosen = name or suggest_name(settings)
        client = connect(start=True)
        key = _create_or_start(client, chosen, settings)
        if key and (key_file or not json):
            _print_key(key, key_file)  # at once, as it is valid even if the models can't be loaded
        seen = _wait_until_ready(client, chosen)
        if json:
            print_json(_build_access(seen) | {"key": None if key_file else key})
        else:
            _print_access(seen, new=bool(key))
        if detach:
            print_notice(
                "It keeps running in the background. Stop it with: tunebench endpoint stop"
                f" {shlex.quote(chosen)}"
            )
            return
        _wait_for_interrupt(client, chosen)


def _build_settings(
    subjects: list[str], config: Path | None, candidate: str, share: float, shadow: str, fallback: str
) -> dict[str, object]:
    """Build `EndpointSettings` from a file and the options."""
    settings = read_document(config)
    beside = [
        *([{"subject": candidate, "role": "candidate", "share": share}] if candidate else []),
        *([{"subject": shadow, "role": "shadow"}] if shadow else []),
        *([{"subject": fallback, "role": "fallback"}] if fallback else []),
    ]
    if beside and len(subjects) != 1:
        raise ConfigError(
            "A candidate, a shadow or a fallback needs exactly one subject.",
            fix="Give one subject, or write the routes into a file for --config.",
            field="candidate",
        )
    if subjects:
        paths = [subject.partition("@")[0] for subject in subjects]
        settings |= {
            "models": [
                {"name": Path(path).name or path, "routes": [{"subject": subject}, *beside]}
                for subject, path in zip(subjects, paths, strict=True)
            ]
        }
    return settings


def _create_or_start(client: Client, name: str, settings: dict[str, object]) -> str | None:
    """Create or start the endpoint with these settings; return the key if it is new."""
    there = next((seen for seen in list_endpoints(client) if seen.name == name), None)
    if there is None:
        if "models" not in settings:
            raise NotFoundError(
                f"There is no endpoint {name!r}, and no model was given.", fix="Give a subject."
            )
        body = MakeEndpoint.parse({**settings, "name": name, "with_key": "first"})
        return str(client.command("make_endpoint", body.model_dump())["key"])
    if settings:
        merged = EndpointSettings.parse({**there.settings, **settings})
        client.command("change_endpoint", {"endpoint": name, "settings": merged.model_dump()})
    client.command("start_endpoint", {"endpoint": name})
    return None


def find_endpoint(client: Client, name: str) -> EndpointStatus:
    """Return the endpoint with that id or name. Raises NotFoundError."""
    for seen in list_endpoints(client):
        if name in (seen.name, seen.endpoint_id):
            return seen
    raise NotFoundError(f"There is no endpoint {name!r}.", fix="List them with: tunebench endpoints")


def _wait_until_ready(client: Client, name: str) -> EndpointStatus:
    """Wait until the endpoint is ready. Raises its error if it fails."""
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=err, transient=True) as progress:
        progress.add_task(f"{name} starts: the models are being loaded")
        began = time.time()
        while True:
            seen = find_endpoint(client, name)
            state = seen.state
            fresh = state is not None and seen.alive and state.at > began - 10
            current = state is not None and fresh and state.asked_at >= seen.wanted_at - SLACK_SECONDS
            if state and current and state.phase == "ready":
                if state.error:  # of a failed change, or of a route other than the live one
                    print_notice(f"Not all of it answers: {from_dict(state.error)}")
                return seen
            failed = state.error if state and current and state.phase == "failed" else None
            if problem := seen.problem or failed:
                raise from_dict(problem)
            time.sleep(POLL)


def _print_key(key: str, key_file: Path | None) -> None:
    if key_file:
        with open(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(key + "\n")
        print_notice(f"The key is in {key_file}; it can't be shown again.")
    else:
        print_notice("The key, which can't be shown again:")
        print(key, flush=True)


class EndpointAccess(TypedDict):
    """Address and models of an endpoint. key: of a new one, shown only once."""

    endpoint: str
    address: str
    models: list[str]
    key: NotRequired[str | None]


def _build_access(seen: EndpointStatus) -> EndpointAccess:
    state = seen.state
    assert state
    models = [model.name for model in seen.config.models] if seen.config else []
    return {"endpoint": seen.name, "address": f"{state.address}/v1", "models": models}


def _print_access(seen: EndpointStatus, *, new: bool) -> None:
    entrance = _build_access(seen)
    models = entrance["models"]
    print(entrance["address"], flush=True)
    print_notice(f"{seen.name} serves {', '.join(models)}.")
    if not new:
        print_notice(f"Keys are made with: tunebench endpoint key {shlex.quote(seen.name)} --for WHAT")
    named = models[0] if models else "NAME"
    curl, python = build_examples(entrance["address"].removesuffix("/v1"), named, list_first_kinds(seen))
    print_notice(f"\n{curl}\n\n{python}\n")


def _wait_for_interrupt(client: Client, name: str) -> None:
    """Wait until Ctrl-C, or until the endpoint stops; then stop it and wait for responses in progress."""
    print_notice("Ctrl-C stops it; answers under way are finished first.")
    try:
        while True:
            seen = find_endpoint(client, name)
            if seen.wanted != "running":
                print_notice(f"{name} was stopped.")
                return
            time.sleep(2)
    except EngineUnavailable as error:
        raise EngineUnavailable(
            f"The engine has stopped; {name} keeps serving.",
            fix=f"Stop it with: tunebench endpoint stop {shlex.quote(name)}",
        ) from error
    except KeyboardInterrupt:
        pass
    client.command("stop_endpoint", {"endpoint": name})
    print_notice("Stopping …")
    _wait_until_stopped(client, name)


def _wait_until_stopped(client: Client, name: str) -> None:
    end = time.monotonic() + STOP_SECONDS
    while find_endpoint(client, name).alive:
        if time.monotonic() > end:
            raise StateError(f"{name} still finishes answers.", fix="Look again with: tunebench endpoints")
        time.sleep(POLL)
    print_notice(f"{name} has stopped. Start it again with: tunebench endpoint start {shlex.quote(name)}")


def endpoints_(json: Json = False) -> None:
    """List endpoints with their state, served versions, and requests of the last hour."""
    with report_errors(json):
        listed = list_endpoints(connect())
        if json:
            print_json({"endpoints": listed})
            return
        rows = []
        for seen in listed:
            state = seen.state if seen.alive else None
            hour = state.hour if state else None
            p95 = f"{hour.p95_seconds:.2f} s (n {hour.n:,})" if hour and hour.p95_seconds is not None else ""
            served = ", ".join(route.version for route in state.routes) if state else ""
            address = f"{state.address}/v1" if state else ""
            counts = [hour.requests, hour.errors] if hour else ["", ""]
            rows.append([seen.name, describe_state(seen), served, address, *counts, p95])
        columns = ["name", "state", "serves", "address", "requests in the last hour", "failed", "p95"]
        print_rows(columns, rows, plural(len(rows), "endpoint"))
        for seen in listed:
            problem = seen.problem or (seen.state.error if seen.alive and seen.state else None)
            if problem:
                print_notice(f"{seen.name}: {from_dict(problem)}")


@endpoint.command()
def start(name: EndpointNameArgument, json: Json = False) -> None:
    """Start an endpoint and wait until it is ready."""
    with report_errors(json):
        client = connect(start=True)
        client.command("start_endpoint", {"endpoint": name})
        entrance = _build_access(_wait_until_ready(client, name))
        print_json(entrance) if json else print(entrance["address"])


@endpoint.command()
def stop(name: EndpointNameArgument, json: Json = False) -> None:
    """Stop an endpoint. Requests in progress are completed."""
    with report_errors(json):
        client = connect(start=True)  # continues without one
        client.command("stop_endpoint", {"endpoint": name})
        _wait_until_stopped(client, name)
        if json:
            print_json({})


@endpoint.command()
def delete(name: EndpointNameArgument, json: Json = False) -> None:
    """Delete a stopped endpoint with its keys and log."""
    send_change("delete_endpoint", {"endpoint": name}, f"{name} is deleted, and its log.", json)


@endpoint.command()
def key(
    name: EndpointNameArgument,
    for_: Annotated[str, typer.Option("--for", help="Purpose of the key")],
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Rate limit; default: none")] = None,
    tokens_per_day: Annotated[
        int | None, typer.Option(min=1, help="Daily token limit; default: none")
    ] = None,
    json: Json = False,
) -> None:
    """Create a key and print it. It can't be shown again."""
    with report_errors(json):
        body = {"endpoint": name, "name": for_, "requests_per_minute": requests_per_minute}
        made = connect().command("make_key", body | {"tokens_per_day": tokens_per_day})
        print_json(made) if json else print(made["key"])


@endpoint.command()
def keys(name: EndpointNameArgument, json: Json = False) -> None:
    """List the keys of an endpoint."""
    with report_errors(json):
        listed = find_endpoint(connect(), name).keys
        if json:
            print_json({"keys": listed})
            return
        rows = [
            [
                key.key_id, key.name, key.person_name, _format_day(key.created_at),
                    _format_day(key.used_at),
                _format_day(key.revoked_at), key.requests_per_minute, key.tokens_per_day,
            ]
            for key in listed
        ]  # fmt: skip
        columns = ["key", "for", "of", "made", "used", "revoked", "requests a minute", "tokens a day"]
        print_rows(columns, rows, plural(len(rows), "key"))


@endpoint.command()
def revoke(key: Annotated[str, typer.Argument(help="Key id")], json: Json = False) -> None:
    """Revoke a key. New requests are refused, and open streams end within seconds."""
    send_change("revoke_key", {"key": key}, "The key is revoked.", json)


def _format_day(at: float | None) -> str:
    return "" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


FEATURE = TerminalFeature(register, tools=("tunebench.agents.serving:ServeTools",))
