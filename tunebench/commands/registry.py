"""`tunebench models` and `tunebench model …`: registered models, their versions, aliases and gates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypedDict

import typer

from engine.registry import gate_report
from store.core import formatting
from store.core.model_schemas import AliasState, ModelSummary, ModelVersion, VersionSummary
from store.http import schemas
from store.http.client import Client
from store.jobs import job_queue
from store.registry import gate_checks, model_card, model_versions
from store.registry import version_facts as cards
from store.registry import version_facts as lineages
from store.registry.config import RegisterConfig
from store.registry.gate_checks import GateConfig
from store.registry.schemas import AliasMove, GateReport
from tunebench.terminal.connection import Json, Wait, connect, read_document, send_change
from tunebench.terminal.features import TerminalFeature
from tunebench.terminal.options import Options, add_options
from tunebench.terminal.output import (
    CONDITION,
    out,
    print_json,
    print_notice,
    print_rows,
    report_errors,
    require_finished,
    watch_job,
)

model = typer.Typer(
    no_args_is_help=True, help="Registered models: aliases, gates, and exports with parity checks"
)


MAX_LISTED = 1_000  # maximum models, and versions of one, that are listed
ANSWER_TEXTS = {"passed": "passed", "failed": "FAILED", "cant_tell": "inconclusive"}
Reference = Annotated[str, typer.Argument(help="Model version as NAME@NUMBER or NAME@ALIAS")]
Alias = Annotated[str, typer.Argument(help="Alias: production, staging, candidate, or a custom one")]
Reason = Annotated[str, typer.Option(help="Reason, recorded in the history")]


class ModelDocument(TypedDict):
    """JSON document of `model show`."""

    model: ModelSummary
    versions: list[VersionSummary]
    aliases: list[AliasState]
    moves: list[AliasMove]


def models(json: Json = False) -> None:
    """List registered models, newest first."""
    with report_errors(json):
        total, listed = model_versions.list_models(connect(), limit=MAX_LISTED)
        if json:
            print_json({"models": listed, "total": total})
            return
        columns = ["model", "versions", "newest", "production", "since"]
        lines = [
            [
                line.name,
                line.versions,
                _format_number(line.newest),
                _format_number(line.production),
                f"{line.newest_at:%Y-%m-%d %H:%M}" if line.newest_at else "–",
            ]
            for line in listed
        ]
        print_rows(columns, lines, _format_count(len(listed), total))


def _format_number(number: int | None) -> str:
    return "–" if number is None else f"@{number}"


def _format_count(listed_count: int, total: int) -> str:
    return (
        formatting.plural(total, "model")
        if listed_count == total
        else f"{listed_count:,} of {total:,} models"
    )


@model.command()
@add_options("given", RegisterConfig, "name", "checkpoint", "path", "base", "notes")
def register(
    given: Options,
    run: Annotated[str, typer.Argument(help="Run id or name; or use --path")] = "",
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Register the model of a run, or a folder, as the next version of a model."""
    with report_errors(json):
        config = RegisterConfig.parse({**given, "run": run})
        client = connect(start=True)
        job_id = client.command("register_model", config.model_dump())["job_id"]
        if not wait:
            print_json({"job_id": job_id}) if json else print_notice(f"Queued as {job_id}.")
            return
        job = watch_job(lambda: job_queue.get_job(client, job_id), f"Registering {config.name}")
        require_finished(job, "The registration was")
        version = model_versions.registered_by(client, job_id)
        if json:
            print_json(version)
            return
        print_notice(schemas.describe_registration(version, job))


@model.command()
def show(
    name: Annotated[str, typer.Argument(help="Model, or model version as NAME@NUMBER or NAME@ALIAS")],
    json: Json = False,
) -> None:
    """Show a model with its versions, aliases and history, or a version with its files."""
    with report_errors(json):
        client = connect()
        if "@" in name:
            version = model_versions.get_version(client, name)
            print_json(version) if json else _print_version(version)
            return
        document = build_model_document(client, name)
        print_json(document) if json else _print_model(document)


def build_model_document(client: Client, name: str, limit: int = MAX_LISTED) -> ModelDocument:
    """Build the document of a registered model with its newest versions, up to the limit."""
    line = model_versions.get_model(client, name)
    return {
        "model": line,
        "versions": model_versions.list_versions(client, line.model_id, limit=limit)[1],
        "aliases": model_versions.aliases(client, line.model_id),
        "moves": model_versions.alias_moves(client, line.model_id),
    }


def _print_version(version: ModelVersion) -> None:
    out.print(f"{version.name}@{version.version}  {_format_origin(version)}", markup=False, soft_wrap=True)
    out.print(f"base {version.base_model or '–'}, {version.fingerprint[:12]}", markup=False)
    lines = [[file.path, file.bytes, file.sha256[:12]] for file in version.files]
    print_rows(["file", "bytes", "sha256"], lines, formatting.plural(len(lines), "file"))


def _print_model(document: ModelDocument) -> None:
    lines = [
        [f"@{line.version}", ", ".join(line.aliases), _format_origin(line), line.created_by_name]
        for line in document["versions"]
    ]
    listed_count = len(lines)
    footer = formatting.plural(listed_count, "version")
    if listed_count < document["model"].versions:
        footer = f"{listed_count:,} of {document['model'].versions:,} versions"
    print_rows(["version", "aliases", "from", "by"], lines, footer)
    for move in document["moves"]:
        out.print(
            f"{move.moved_at:%Y-%m-%d %H:%M} {move.moved_by_name}: {move.alias}"
            f" {_format_number(move.from_version)} → {_format_number(move.to_version)}"
            f" ({move.kind}):"
            f" {move.reason}",
            markup=False,
            soft_wrap=True,
        )


def _format_origin(version: ModelVersion | VersionSummary) -> str:
    source = version.source
    if source.kind == "folder":
        return f"folder {source.path}"
    which = "" if source.checkpoint == "tuned" else f", {source.checkpoint}"
    return f"run {source.run_name or source.run_id}{which}"


@model.command()
def promote(
    version: Reference,
    alias: Alias,
    reason: Reason,
    override: Annotated[
        bool, typer.Option("--override", help="Override a gate that did not pass (admins only)")
    ] = False,
    json: Json = False,
) -> None:
    """Promote a version to an alias, subject to its gate."""
    with report_errors(json):
        body = {"version": version, "alias": alias, "reason": reason, "override": override}
        moved = connect().command("promote", body)
        print_json(moved) if json else print_notice(schemas.describe_promotion(moved))


@model.command()
def back(
    name: Annotated[str, typer.Argument(help="Model name")], alias: Alias, reason: Reason, json: Json = False
) -> None:
    """Roll back an alias to its previous version."""
    with report_errors(json):
        body = {"model": name, "alias": alias, "reason": reason}
        moved = connect().command("move_back", body)
        print_json(moved) if json else print_notice(f"{alias} rolled back to {moved['reference']}.")


@model.command()
def card(version: Reference, json: Json = False) -> None:
    """Print the model card of a version as Markdown."""
    with report_errors(json):
        document = cards.card(connect(), version)
        print_json(document) if json else typer.echo(model_card.format_card(document))


@model.command()
def lineage(version: Reference, json: Json = False) -> None:
    """Show the lineage of a version."""
    with report_errors(json):
        graph = lineages.lineage(connect(), version)
        if json:
            print_json(graph)
            return
        names = {node.node_id: node for node in graph.nodes}
        lines = [[names[edge.source].title, edge.words, names[edge.target].title] for edge in graph.edges]
        print_rows(["from", "how", "to"], lines, formatting.plural(len(lines), "step"))


@model.command()
def delete(version: Reference, json: Json = False) -> None:
    """Delete a version without aliases, and its files."""
    send_change("delete_version", {"version": version}, f"{version} deleted.", json)


@model.command("set-gate")
def set_gate(
    name: Annotated[str, typer.Argument(help="Model name")],
    alias: Alias,
    file: Annotated[Path, typer.Argument(help="Gate checks as YAML, or - for standard input")],
    json: Json = False,
) -> None:
    """Set the checks that a version must pass to take an alias."""
    with report_errors(json):
        gate = GateConfig.parse(read_document(file))
        connect().command("set_gate", {"model": name, "alias": alias, "gate": gate.document()})
        count = formatting.plural(len(gate.checks), "check")
        print_json({}) if json else print_notice(f"The gate of {alias} of {name} has {count}.")


@model.command()
def gate(
    version: Reference,
    alias: Alias,
    gather: Annotated[bool, typer.Option("--gather", help="Queue missing evaluations")] = False,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Check a version against its gate. Exits with code 0 if it passes, 7 if it fails or is inconclusive."""
    with report_errors(json):
        client = connect(start=gather)
        if gather:
            body = {"version": version, "alias": alias}
            for job_id in client.command("gather_gate_evidence", body)["job_ids"]:
                if wait:
                    title = job_queue.get_job(client, job_id).title
                    job = watch_job(lambda own=job_id: job_queue.get_job(client, own), title)  # type: ignore[misc]
                    require_finished(job, f"{title} was")
                else:
                    print_notice(f"Queued as {job_id}.")
        report = gate_report.build_gate_report(*gate_checks.case(client, version, alias))
        print_json(report) if json else print_report(report)
    if report.answer != "passed":
        raise SystemExit(CONDITION)


def print_report(report: GateReport) -> None:
    """Print each check with its result and sentence, then the overall result."""
    for check in report.checks:
        out.print(f"{ANSWER_TEXTS[check.answer]:>13}  {check.title}", markup=False)
        out.print(f"               {check.sentence}", markup=False, soft_wrap=True)
        if check.command is not None:
            out.print(f"               {check.command}", markup=False, soft_wrap=True)
    print_notice(report.sentence)


def add_commands(cli: typer.Typer) -> None:
    """Add the commands to `tunebench`."""
    cli.command()(models)
    cli.add_typer(model, name="model")


FEATURE = TerminalFeature(add_commands, tools=("tunebench.agents.registry:RegistryTools",))
