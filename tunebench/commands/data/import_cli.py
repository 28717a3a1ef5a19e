"""`tunebench import`: files, a folder or a set of the hub into a data set, with what was read as what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.diagnostics.phrasing import plural
from store.config.data.import_config import ImportConfig
from store.contract.errors import ConfigError
from store.documents.tables.dataset import Dataset
from store.documents.tables.job import Job
from store.http.client import Client
from store.queries import jobs
from store.queries.data.datasets import get_dataset, skipped
from store.words.reading_words import ignored_words, left_out_words, used_words
from tunebench.terminal.connection import Json, Wait, connect, with_files
from tunebench.terminal.options import columns_in, pairs_in
from tunebench.terminal.output import OK, errors, print_json, require_finished, say, watch

SKIPPED_SHOWN = 5  # rows that an import names on the terminal; the file has them all


def import_(
    files: Annotated[
        list[str], typer.Argument(help="Files of one data set, a folder, or hf://owner/name from the hub")
    ],
    name: Annotated[str, typer.Option(help="From the file's name where left out")] = "",
    format: Annotated[str | None, typer.Option(help="Recognised where left out")] = None,
    column: Annotated[list[str] | None, typer.Option(help="role=column, may be repeated")] = None,
    answers: Annotated[
        str | None, typer.Option(help="Multiple choice: text, letter, 'number from 0' or 'number from 1'")
    ] = None,
    value: Annotated[
        list[str] | None, typer.Option(help="What a deciding value means, such as 1=first or false=bad")
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="Leave out a column that may be a mark, an answer or a label, may be repeated"),
    ] = None,
    ignore_file: Annotated[
        list[str] | None, typer.Option(help="A file among several that holds no rows, may be repeated")
    ] = None,
    part_column: Annotated[
        str | None, typer.Option(help="Says which part a row is in; recognised where left out, '' for none")
    ] = None,
    part: Annotated[
        list[str] | None, typer.Option(help="value=train, validation, test or 'leave out', may be repeated")
    ] = None,
    instruction: Annotated[str, typer.Option(help="Text and label: put before each text")] = "",
    header: Annotated[bool | None, typer.Option("--header/--no-header", help="CSV and TSV")] = None,
    encoding: Annotated[str | None, typer.Option(help="Recognised where left out")] = None,
    hub_split: Annotated[str, typer.Option(help="Of a set of the hub: one of its splits, or all")] = "all",
    split_seed: int = 0,
    validation_size: float = 0.1,
    test_size: float = 0.1,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Import a data set: CSV, TSV, JSON, JSONL, Parquet, text, or gzip of these; several files are one."""
    with errors(json):
        config = ImportConfig.parse(
            {
                "name": name,
                "source": source_of(files, hub_split),
                "format": format,
                "columns": columns_in(column or []),
                "answers": answers,
                "values": pairs_in("value", "value=meaning", value or []),
                "ignore": ignore or [],
                "ignore_files": ignore_file or [],
                "part_column": part_column,
                "parts": pairs_in("part", "value=part", part or []),
                "instruction": instruction,
                "has_header": header,
                "encoding": encoding,
                "split_seed": split_seed,
                "validation_size": validation_size,
                "test_size": test_size,
            }
        )
        client = connect(start=True)
        document = config.model_dump(exclude_none=True)
        document["source"] = with_files(client, document["source"])
        job_id = client.command("import_dataset", document)["job_id"]
        if not wait:
            print_json({"job_id": job_id}) if json else say(f"Queued as {job_id}.")
            return
        job = watch(lambda: jobs.get_job(client, job_id), f"Importing {config.name}")
        _finish(client, job, config.name, json)


def source_of(files: list[str], hub_split: str) -> dict[str, str | list[str]]:
    """The `Source` that the arguments name. Raises ConfigError for a hub's set among files."""
    hub = [file.removeprefix("hf://") for file in files if file.startswith("hf://")]
    if hub and len(files) > 1:
        raise ConfigError(
            "A set of the hub is imported alone.",
            fix="Give either one hf:// address or files.",
            field="files",
        )
    if hub:
        return {"hub_id": hub[0], "hub_split": hub_split}
    paths = [str(Path(file).expanduser().resolve()) for file in files]
    return {"path": paths[0]} if len(paths) == 1 else {"paths": paths}


def _finish(client: Client, job: Job, name: str, as_json: bool) -> None:
    """Print what the import read, used, ignored and skipped; exit with the code of its end."""
    require_finished(job, "The import was")
    dataset = get_dataset(client, name)
    if as_json:
        print_json(dataset)
        raise SystemExit(OK)
    for line in account(dataset):
        say(line)
    for row in skipped(client, dataset, limit=SKIPPED_SHOWN):
        say(f"    line {row['line']}: {row['excerpt'][:80]}")
    if dataset["skipped_count"] > SKIPPED_SHOWN:
        say(f"    and {dataset['skipped_count'] - SKIPPED_SHOWN:,} more: {dataset['skipped_path']}")
    raise SystemExit(OK)


def account(dataset: Dataset) -> list[str]:
    """What became of the rows and columns of a file, a line each."""
    stats = dataset["stats"]
    used = used_words(dataset["format"], dataset["columns"], stats["answers"], stats["values"])
    lines = [
        f"{dataset['name']}: {plural(dataset['row_count'], 'row')} read as {dataset['format']},"
        f" {dataset['skipped_count']:,} skipped, {plural(dataset['duplicate_count'], 'exact duplicate')}.",
        f"  used: {used}",
        f"  ignored: {ignored_words(stats['ignored'], stats['ignored_count'])}",
    ]
    if left_out := stats.get("left_out"):
        lines.append(f"  left out on purpose: {left_out_words(left_out)}")
    if stats["parts"]:
        parts = ", ".join(f"{part} {rows:,}" for part, rows in stats["parts"].items())
        lines.append(f"  parts as the file gives them: {parts}")
    lines += [f"  {notice}" for notice in stats["notices"]]
    return [*lines, *(f"  skipped {count:,}: {reason}" for reason, count in stats["skipped_reasons"].items())]
