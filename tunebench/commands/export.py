"""`tunebench model export` and `verify`: a model in another format, compared with the evaluated one; `tools`:
its converters.
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

SIZES = ("id", "model", "form", "MiB", "of 16-bit")


@model.command("export")
@add_options(
    "given",
    ModelExport,
    *("form", "gguf", "checkpoint", "dataset", "part", "max_rows", "reader", "zip", "hub"),
)
def export(
    given: Options,
    subject: Annotated[str, typer.Argument(help="Run id or name, or model version as NAME@3")],
    out: Annotated[Path | None, typer.Option(help="Copy the export to this new folder")] = None,
    public: Annotated[bool, typer.Option("--public", help="Make a new Hub repository public")] = False,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Export a model and compare it with the evaluated model in a separate process.

    Exits with code 7 if the export does not match the model, or was not pushed as requested.
    """
    with report_errors(json):
        config = ModelExport.parse({**given, "subject": subject, "private": not public})
        if out and (out.exists() or not wait):
            why = f"{out} already exists." if out.exists() else "--out can't be combined with --no-wait."
            raise ConfigError(why, fix="Choose another folder, or omit --no-wait.", field="out")
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
    path: Annotated[str, typer.Argument(help="Folder or GGUF file, or id of an export on this machine")],
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Verify that an export, such as an edited or returned copy, still matches its model.

    Files are compared by name and tensor by tensor first; if they differ, the cause is reported and nothing
    is loaded. Exits with code 7 if the export does not match.
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
        if json:
            print_json(result)
        else:
            out.print(export_text.describe_verification(result), markup=False, soft_wrap=True)
            for line in (*result.parity.reasons, *result.notices):
                print_notice(line)
    raise SystemExit(CONDITION if result.parity.status == "failed" else 0)


@model.command("exports")
def list_exports(
    subject: Annotated[str, typer.Argument(help="Run or model version; default: all")] = "",
    json: Json = False,
) -> None:
    """List exports, newest first, with the quality loss of each format."""
    with report_errors(json):
        client = connect()
        rows = _list_exports(client, subject) if subject else exports.recent(client)
        if json:
            print_json({"exports": rows})
            return
        print_rows(
            [*SIZES, "KL", "top-1", "identical", "n", "parity"],
            [_build_row(row) for row in rows],
            "" if rows else "No exports yet. Create one with: tunebench model export RUN --form gguf-q8_0",
        )


@model.command("forms")
def forms(json: Json = False) -> None:
    """List export formats with their purpose and parity limits."""
    if json:
        print_json({"forms": export_text.list_forms()})
        return
    rows = export_text.list_forms()
    print_rows(["form", "title", "when"], [[row["form"], row["title"], row["when"]] for row in rows])


@model.command("delete-export")
def delete_export(
    export: Annotated[str, typer.Argument(help="Export id, as listed by `tunebench model exports`")],
    json: Json = False,
) -> None:
    """Delete an export and its files."""
    send_change("delete_export", {"export": export}, f"{export} deleted.", json)


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
    """Return, for example, "0.98 (0.95 to 0.99)", with a 95% interval."""
    if estimate is None:
        return "–"
    low, high = estimate.low, estimate.high
    between = "no CI" if low is None or high is None else f"{low:.3g} to {high:.3g}"
    return f"{estimate.value:.3g} ({between})"


def _print_row_advice(max_rows: int) -> None:
    """Print what this number of rows can show, before they are run."""
    print_notice(export_text.describe_rows_needed(max_rows))


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
        print_notice(f"Zip file: {home.exports / row.zip}")
    if row.hub:
        print_notice(f"Pushed to {row.hub}")


tools = typer.Typer(no_args_is_help=True, help="External tools")


@tools.command()
def install(
    again: Annotated[bool, typer.Option("--again", help="Reinstall if already installed")] = False,
    json: Json = False,
) -> None:
    """Install the llama.cpp converter, which is required for GGUF exports."""
    with report_errors(json):
        there = external_tools.is_converter_installed() and not again
        folder = external_tools.get_converter_folder() if there else external_tools.install_converter()
        if json:
            print_json({"folder": str(folder), "installed": not there})
        else:
            print_notice(f"Converter {'already installed' if there else 'installed'} in {folder}.")


def register(cli: typer.Typer) -> None:
    """Add the commands to `tunebench`; those of a model are with the registry's."""
    cli.add_typer(tools, name="tools")


FEATURE = TerminalFeature(register, tools=("tunebench.agents.export:ExportTools",))
