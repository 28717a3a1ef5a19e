"""`tunebench model export` and `verify`: a model in another form, held against the evaluated one; and
`tools`, its converters.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from engine.export import external_tools
from store.core.documents import parse_document
from store.core.errors import ConfigError, NotFoundError
from store.core.export_schemas import ModelExportRow, ModelVerifyResult
from store.core.figure_schemas import Estimate
from store.core.formatting import plural
from store.core.home import Home
from store.core.version_folders import is_reference
from store.export import exports
from store.export import text as export_text
from store.export.config import ModelExport, ModelVerify
from store.export.forms import FORMS
from store.http.client import Client
from store.jobs import job_queue
from store.registry.model_versions import get_version
from store.runs import runs
from tunebench.commands.registry import model
from tunebench.terminal.connection import Json, Wait, connect, send_change
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

SIZES = ("id", "model", "form", "MiB", "of 16 bits")


@model.command("export")
@add_options(
    "given",
    ModelExport,
    *("form", "gguf", "checkpoint", "dataset", "part", "max_rows", "reader", "zip", "hub"),
)
def export(
    given: Options,
    subject: Annotated[str, typer.Argument(help="A run by id or name, or a version as NAME@3")],
    out: Annotated[Path | None, typer.Option(help="Copy the folder there, which must not exist yet")] = None,
    public: Annotated[bool, typer.Option("--public", help="Of a repository that the push makes")] = False,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Export a model and hold it against the model that was evaluated, in another process.

    Exits with 7 where the export doesn't answer as that model, or wasn't pushed as asked.
    """
    with report_errors(json):
        config = ModelExport.parse({**given, "subject": subject, "private": not public})
        if out and (out.exists() or not wait):
            why = f"{out} is there already." if out.exists() else "What isn't waited for can't be copied."
            raise ConfigError(why, fix="Give another folder, or leave out away.", field="out")
        client = connect(start=True)
        job_id = client.command("export_model", config.document())["job_id"]
        if not json:
            _print_row_advice(config.max_rows)
        if not wait:
            print_json({"job_id": job_id}) if json else print_notice(f"Queued as {job_id}.")
            return
        require_finished(watch_job(lambda: job_queue.get_job(client, job_id), "Exporting"), "The export was")
        row = exports.get(client, job_id)
        if out:
            shutil.copytree(Home().path / row.folder, out)
        print_json(row) if json else _print(row)
    raise SystemExit(CONDITION if row.status == "failed" or (config.hub and not row.hub) else 0)


@model.command("verify")
@add_options("given", ModelVerify, "form", "checkpoint", "dataset", "part", "max_rows", against="subject")
def verify(
    given: Options,
    path: Annotated[str, typer.Argument(help="A folder or GGUF file; or the id of an export that is here")],
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Hold an export, edited or come back from somebody, against its model again.

    Files are compared by name and tensor by tensor first; where they differ, the cause is told and nothing of
    them is loaded. Exits with 7 where it isn't that model.
    """
    with report_errors(json):
        place = Path(path).expanduser()
        named = {"path": str(place.resolve())} if place.exists() or "/" in path else {"export": path}
        config = ModelVerify.parse(given | named)
        client = connect(start=True)
        job_id = client.command("verify_model", config.document())["job_id"]
        if not wait:
            print_json({"job_id": job_id}) if json else print_notice(f"Queued as {job_id}.")
            return
        if not json:
            _print_row_advice(config.max_rows)
        require_finished(watch_job(lambda: job_queue.get_job(client, job_id), "Verifying"), "The export was")
        result = parse_document(ModelVerifyResult, job_queue.get_job(client, job_id).result)
        print_json(result) if json else _print_verification(result)
    raise SystemExit(CONDITION if result.parity.status == "failed" else 0)


@model.command("exports")
def list_exports(
    subject: Annotated[str, typer.Argument(help="A run or a version; all where left out")] = "",
    json: Json = False,
) -> None:
    """List what was exported, newest first, with what each form cost."""
    with report_errors(json):
        client = connect()
        rows = _list_exports(client, subject) if subject else exports.recent(client)
        if json:
            print_json({"exports": rows})
            return
        print_rows(
            [*SIZES, "KL", "same favourite", "same answers", "n", "parity"],
            [_build_row(row) for row in rows],
            "" if rows else "Nothing was exported yet: tunebench model export RUN --form gguf-q8_0",
        )


@model.command("forms")
def forms(json: Json = False) -> None:
    """The forms: what each is for, and within which limits it passes."""
    if json:
        print_json({"forms": export_text.list_forms()})
        return
    rows = export_text.list_forms()
    print_rows(["form", "title", "when"], [[row["form"], row["title"], row["when"]] for row in rows])


@model.command("delete-export")
def delete_export(
    export: Annotated[str, typer.Argument(help="Its id, as `tunebench model exports` lists it")],
    json: Json = False,
) -> None:
    """Delete an export with its files."""
    send_change("delete_export", {"export": export}, f"{export} is deleted.", json)


def _list_exports(client: Client, subject: str) -> list[ModelExportRow]:
    if is_reference(subject):
        version = get_version(client, subject)
        return exports.of_version(client, version.model_id, version.version)
    try:
        return exports.of_run(client, runs.get_run(client, subject).run_id)
    except NotFoundError as error:
        raise NotFoundError(error.message, fix=error.fix, field="subject") from error


def _build_row(row: ModelExportRow) -> list[str]:
    parity = row.parity
    return [
        row.job_id,
        row.name,
        row.form,
        f"{row.model_bytes / 2**20:,.0f}",
        f"{100 * row.model_bytes / row.source_bytes:.0f}%",
        _format_estimate(parity.mean_kl),
        _format_estimate(parity.argmax_agreement),
        _format_estimate(parity.answer_agreement),
        f"{parity.prompts:,}",
        row.status,
    ]


def _format_estimate(estimate: Estimate | None) -> str:
    """ "0.98 (0.95 to 0.99)"; its interval is of 95%."""
    if estimate is None:
        return "–"
    low, high = estimate.low, estimate.high
    between = "no interval" if low is None or high is None else f"{low:.3g} to {high:.3g}"
    return f"{estimate.value:.3g} ({between})"


def _print_row_advice(max_rows: int) -> None:
    """What so many rows can tell, before they are asked."""
    print_notice(export_text.describe_rows_needed(max_rows))


def _print_verification(result: ModelVerifyResult) -> None:
    parity = result.parity
    out.print(export_text.describe_verification(result), markup=False, soft_wrap=True)
    for line in (*parity.reasons, *result.notices):
        print_notice(line)


def _print(row: ModelExportRow) -> None:
    parity, home = row.parity, Home()
    out.print(export_text.describe_export(row), markup=False, soft_wrap=True)
    for reason in parity.reasons:
        print_notice(reason)
    for notice in row.notices:
        print_notice(notice)
    form = FORMS[row.form].title
    print_notice(f"{form}, {plural(len(row.files), 'file')}: {home.path / row.folder}")
    if row.zip:
        print_notice(f"As a zip file: {home.exports / row.zip}")
    if row.hub:
        print_notice(f"Pushed to {row.hub}")


tools = typer.Typer(no_args_is_help=True, help="Programs that stand in a folder of their own")


@tools.command()
def install(
    again: Annotated[bool, typer.Option("--again", help="Even where it is there")] = False,
    json: Json = False,
) -> None:
    """Install llama.cpp's converter, which GGUF files are written with."""
    with report_errors(json):
        there = external_tools.is_converter_installed() and not again
        folder = external_tools.get_converter_folder() if there else external_tools.install_converter()
        if json:
            print_json({"folder": str(folder), "installed": not there})
        else:
            print_notice(f"The converter {'is' if there else 'was put'} in {folder}.")


def register(cli: typer.Typer) -> None:
    """Add the commands to `tunebench`; those of a model stand beside the registry's."""
    cli.add_typer(tools, name="tools")


FEATURE = TerminalFeature(register, tools=("tunebench.agents.export:ExportTools",))
