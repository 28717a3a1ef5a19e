"""`tunebench bundle` and `reproduce`: a run as one file, and whether its metrics are reproduced elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from store.archives import text as archive_text
from store.archives.schemas import BundleResult, OpenedBundle, Reproduction
from store.core.documents import as_json, parse_document
from store.core.errors import ConfigError, NotFoundError, StateError
from store.core.formatting import plural
from store.http.client import Client
from store.jobs import job_queue
from store.runs import runs
from store.runs.schemas import Run
from tunebench.terminal.connection import Json, Wait, connect, save_new_file
from tunebench.terminal.features import TerminalFeature
from tunebench.terminal.output import (
    CONDITION,
    OK,
    out,
    print_json,
    print_notice,
    print_rows,
    report_errors,
    require_finished,
    watch_job,
)


def register(cli: typer.Typer) -> None:
    """Add the commands to `tunebench`."""
    cli.command()(bundle)
    cli.command()(reproduce)


def bundle(
    run: Annotated[str, typer.Argument(help="Id or name of a finished run")],
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Output file; default: in the current folder")
    ] = None,
    with_rows: Annotated[
        bool, typer.Option("--with-rows/--recipe-only", help="Include the rows, or only how they were made")
    ] = True,
    json: Json = False,
) -> None:
    """Bundle a run into one file that `tunebench reproduce` runs again on any machine."""
    with report_errors(json):
        client = connect(start=True)
        run_id = runs.get_run(client, run).run_id
        if out_file is not None and out_file.exists():
            raise ConfigError(f"{out_file} already exists.", fix="Give another file name.", field="out")
        job_id = client.command("bundle", {"run": run_id, "with_rows": with_rows})["job_id"]
        job = watch_job(lambda: job_queue.get_job(client, job_id), "Bundling")
        require_finished(job, "The bundle was")
        result = parse_document(BundleResult, job.result)  # result of a finished job
        target = out_file or Path(result.name)
        save_new_file(client, result.name, target)
        if json:
            print_json({**as_json(result), "file": str(target)})
            return
        print_notice(f"{target}: {result.bytes / 2**20:,.1f} MiB.")
        if fingerprint := result.seal:
            print_notice(
                f"Fingerprint: {fingerprint}. Share it with the recipient, who sees the same fingerprint"
                " when opening the file."
            )
        for notice in result.notices:
            print_notice(notice)


def reproduce(
    file: Annotated[Path, typer.Argument(help="Bundle file")],
    name: Annotated[str, typer.Option(help="Name of the new run")] = "",
    model: Annotated[
        str, typer.Option(help="Local folder of the base model, if not available under its name")
    ] = "",
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Reproduce the run of a bundle and compare its metrics.

    Exits with code 7 if a metric is not reproduced or there are none, or if the run or the bundle differs
    from the original run, where that is in this home folder."""
    code = OK
    with report_errors(json):
        client = connect(start=True)
        job_id, opened = open_bundle(client, file, model)
        if not json:
            _print_opened(opened)
        if why := opened.refused:
            raise StateError(f"The bundle can't be reproduced: {why}.", field="bundle")
        queued = client.command("reproduce", {"bundle": job_id, "name": name})
        if not wait:
            text = (
                f"Queued as {queued['run_id']}. See the results with `tunebench show` once the run has ended."
            )
            print_json({**queued, "opened": opened}) if json else print_notice(text)
            return
        require_finished(
            watch_job(lambda: job_queue.get_job(client, queued["run_id"]), "Running"), "The run was"
        )
        compared = watch_job(lambda: job_queue.get_job(client, queued["job_id"]), "Comparing")
        require_finished(compared, "The comparison was")
        result = parse_document(Reproduction, compared.result)  # result of a finished job
        code = OK if is_reproduced(opened, result) else CONDITION
        if json:
            print_json({"run_id": queued["run_id"], "opened": opened, "reproduction": result})
        else:
            print_reproduction(result)
    raise SystemExit(code)


def is_reproduced(opened: OpenedBundle, result: Reproduction) -> bool:
    """Whether the bundle matches the original run, and no metric differs significantly."""
    original, beside = opened.original, result.beside
    forged = bool(original and original.differences)
    differs = bool(beside and any(line.same is False for line in beside.lines))
    return bool(result.figures) and not (result.outside or forged or differs)


def open_bundle(client: Client, file: Path, model: str = "") -> tuple[str, OpenedBundle]:
    """Upload the file to the engine, which checks it and imports its rows; return the job's id and the
    result.
    """
    try:
        with open(file, "rb") as source:
            upload = client.upload(file.name, source)
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}.", field="file") from error
    job_id = client.command("open_bundle", {"upload": upload, "model": model})["job_id"]
    job = watch_job(lambda: job_queue.get_job(client, job_id), "Opening the bundle")
    require_finished(job, "Opening the bundle was")
    return job_id, parse_document(OpenedBundle, job.result)  # result of a finished job


BASE_COMPARISONS = {
    "same": "The base model has identical weights (by checksum).",
    "other": "The base model has DIFFERENT WEIGHTS on this machine: expect different metrics.",
    "missing": "The base model is not on this machine.",
    "unchecked": "The weights of the base model are not checked yet, as it comes from the hub.",
}


def _print_opened(opened: OpenedBundle) -> None:
    print_notice(f"{opened.bundle}: run {opened.run.name}, {opened.run.created_at[:10]}.")
    _print_origin(opened)
    rows = "imported from the bundle" if opened.taken else "already on this machine"
    if not opened.refused:
        print_notice(f"Rows: {rows}. {BASE_COMPARISONS[opened.base]}")
    if not opened.differences:
        print_notice("No known differences from the original environment.")
    for difference in opened.differences:
        print_notice(f"Difference: {difference.what} was {difference.first}, here {difference.here}.")


def _print_origin(opened: OpenedBundle) -> None:
    """Print the fingerprint, and whether it matches the run in this home folder."""
    for words in filter(
        None, (archive_text.format_fingerprint(opened), archive_text.describe_origin(opened))
    ):
        print_notice(words)
    if (original := opened.original) and original.differences:
        rows = [[row.field, row.bundle, row.here] for row in original.differences]
        count = plural(len(rows) + original.more, "field")
        print_rows(["field", "bundle", "this home folder"], rows, count)


def print_bundle_comparison(client: Client, run: Run) -> None:
    """For a run launched from a bundle, print its metrics beside the bundle's, once available."""
    if source := run.facts.get("reproduces"):
        try:
            job = job_queue.get_job(client, source["compared_by"])
        except NotFoundError:  # deleted
            return
        if job.status == "finished":
            print_reproduction(parse_document(Reproduction, job.result))  # result of a finished job


def print_reproduction(result: Reproduction) -> None:
    """Print each metric of both runs, and the differences of their environments."""
    out.print(result.sentence, markup=False, soft_wrap=True)
    for figure in result.figures:
        out.print(figure.sentence, markup=False, soft_wrap=True)
    if result.differences:
        rows = [[row.what, row.first, row.here] for row in result.differences]
        print_rows(["differs", "original run", "this run"], rows, plural(len(rows), "difference"))
    if beside := result.beside:
        out.print(beside.sentence, markup=False, soft_wrap=True)
        rows = [
            [line.what, line.first, line.second, archive_text.SAME[line.same], line.detail]
            for line in beside.lines
        ]
        print_rows(["", "original", "this run", "", "details"], rows, plural(len(rows), "point"))


FEATURE = TerminalFeature(register, print_bundle_comparison)
