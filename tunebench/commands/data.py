"""`tunebench import` and `tunebench data …`: import, export, quality, cleaning, split and versions of data
sets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from store.core.errors import ConfigError
from store.core.formatting import plural
from store.core.schemas import Job
from store.data import dataset_versions, datasets
from store.data.cleaning import Recipe
from store.data.cleaning_text import (
    describe_excluded_columns,
    describe_ignored_columns,
    describe_used_columns,
)
from store.data.config import CleanConfig, ExportConfig, ImportConfig, ProfileConfig
from store.data.datasets import get_dataset, skipped
from store.data.schemas import CleanPreview, Dataset, ExportResult
from store.data.signals import GROUPS
from store.http.client import Client
from store.jobs import job_queue
from store.training.split import Split, get_split
from store.training.train_config import BUNDLED_MODEL
from tunebench.commands import data_reports
from tunebench.commands.data_reports import describe_split
from tunebench.terminal.connection import (
    Json,
    Wait,
    connect,
    parse_columns,
    parse_pairs,
    save_new_file,
    send_change,
    upload_files,
)
from tunebench.terminal.options import Options, add_options
from tunebench.terminal.output import (
    OK,
    print_json,
    print_notice,
    print_rows,
    report_errors,
    require_finished,
    watch_job,
)

SKIPPED_SHOWN = 5  # skipped rows printed; the file lists all


@add_options(
    "given",
    ImportConfig,
    *("name", "format", "answers", "ignore", "part_column", "instruction", "encoding"),
    *("split_seed", "validation_size", "test_size"),
    ignore_file="ignore_files",
    header="has_header",
)
def import_(
    given: Options,
    files: Annotated[
        list[str],
        typer.Argument(help="Files of one data set, a folder, or hf://owner/name for the Hugging Face Hub"),
    ],
    column: Annotated[
        list[str] | None, typer.Option(help="Column mapping role=column; may be repeated")
    ] = None,
    value: Annotated[
        list[str] | None, typer.Option(help="Mapping of a rating value, such as 1=first or false=bad")
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(help="Split mapping value=train, validation, test or 'leave out'; may be repeated"),
    ] = None,
    hub_split: Annotated[str, typer.Option(help="Split of a hub data set, or all")] = "all",
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Import a data set from CSV, TSV, JSON, JSONL, Parquet or text files, optionally gzipped."""
    with report_errors(json):
        config = ImportConfig.parse(
            {
                **given,
                "source": build_source(files, hub_split),
                "columns": parse_columns(column or []),
                "values": parse_pairs("value", "value=meaning", value or []),
                "parts": parse_pairs("part", "value=part", part or []),
            }
        )
        client = connect(start=True)
        document = config.model_dump(exclude_none=True)
        document["source"] = upload_files(client, document["source"])
        job_id = client.command("import_dataset", document)["job_id"]
        if not wait:
            print_json({"job_id": job_id}) if json else print_notice(f"Queued as {job_id}.")
            return
        job = watch_job(lambda: job_queue.get_job(client, job_id), f"Importing {config.name}")
        _print_import_result(client, job, config.name, json)


def build_source(files: list[str], hub_split: str) -> dict[str, str | list[str]]:
    """Build the `Source` of the arguments. Raises ConfigError for a hub data set among files."""
    hub = [file.removeprefix("hf://") for file in files if file.startswith("hf://")]
    if hub and len(files) > 1:
        raise ConfigError(
            "Hub data sets and files can't be imported together.",
            fix="Give either one hf:// address or files.",
            field="files",
        )
    if hub:
        return {"hub_id": hub[0], "hub_split": hub_split}
    paths = [str(Path(file).expanduser().resolve()) for file in files]
    return {"path": paths[0]} if len(paths) == 1 else {"paths": paths}


def _print_import_result(client: Client, job: Job, name: str, as_json: bool) -> None:
    """Print what the import read, used, ignored and skipped, and exit."""
    require_finished(job, "The import was")
    dataset = get_dataset(client, name)
    if as_json:
        print_json(dataset)
        raise SystemExit(OK)
    for line in describe_import(dataset):
        print_notice(line)
    for row in skipped(client, dataset, limit=SKIPPED_SHOWN):
        print_notice(f"    line {row.line}: {row.excerpt[:80]}")
    if dataset.skipped_count > SKIPPED_SHOWN:
        print_notice(f"    and {dataset.skipped_count - SKIPPED_SHOWN:,} more: {dataset.skipped_path}")
    raise SystemExit(OK)


def describe_import(dataset: Dataset) -> list[str]:
    """Describe what became of a file's rows and columns, one line each."""
    stats = dataset.stats
    used = describe_used_columns(dataset.format, dataset.columns, stats["answers"], stats["values"])
    lines = [
        f"{dataset.name}: {plural(dataset.row_count, 'row')} read as {dataset.format},"
        f" {dataset.skipped_count:,} skipped, {plural(dataset.duplicate_count, 'exact duplicate')}.",
        f"  used: {used}",
        f"  ignored: {describe_ignored_columns(stats['ignored'], stats['ignored_count'])}",
    ]
    if left_out := stats.get("left_out"):
        lines.append(f"  excluded: {describe_excluded_columns(left_out)}")
    if stats["parts"]:
        parts = ", ".join(f"{part} {rows:,}" for part, rows in stats["parts"].items())
        lines.append(f"  splits as given in the file: {parts}")
    lines += [f"  {notice}" for notice in stats["notices"]]
    return [*lines, *(f"  skipped {count:,}: {reason}" for reason, count in stats["skipped_reasons"].items())]


DatasetName = Annotated[str, typer.Argument(help="Data set id or name")]
PREVIEW_SECONDS = 150.0  # the engine's own timeout for a query


def register(group: typer.Typer) -> None:
    """Add the commands to `tunebench data`."""
    for command in (profile, clean, export, versions_):
        group.command(command.__name__.rstrip("_"))(command)


def profile(
    dataset: DatasetName,
    group: Annotated[
        list[str] | None, typer.Option(help=f"Signal group; may be repeated: {', '.join(GROUPS)}")
    ] = None,
    model: Annotated[str, typer.Option(help="Model for the groups tokens and difficulty")] = BUNDLED_MODEL,
    max_length: Annotated[
        int | None, typer.Option(help="Maximum tokens per row, for the group tokens")
    ] = None,
    sample: Annotated[int | None, typer.Option(help="Maximum rows to measure")] = None,
    json: Json = False,
) -> None:
    """Measure a data set and print its signals; those outside their healthy ranges are marked."""
    names = group or [name for name, signals in GROUPS.items() if signals.automatic]
    with report_errors(json):
        asked = [
            ProfileConfig.parse(
                {
                    "dataset": dataset,
                    "group": name,
                    "model": model,
                    "max_length": max_length,
                    "sample": sample,
                }
            )
            for name in names
        ]
        client = connect(start=True)
        version = datasets.get_dataset(client, dataset)
        for config in asked:
            job_id = client.command("profile", config.model_dump(exclude_none=True))["job_id"]
            _wait_until_finished(client, job_id, f"Measuring {GROUPS[config.group].title.lower()}")
        measured = datasets.signals(client, version.fingerprint)
        chosen = {name: measured[name] for name in names if name in measured}
        if json:
            print_json(data_reports.build_profile(version, chosen))
        else:
            data_reports.print_profile(version, chosen)


def clean(
    dataset: DatasetName,
    recipe: Annotated[Path, typer.Argument(help="Recipe steps as YAML")],
    name: Annotated[str, typer.Option(help="Name of the new version; default: numbered")] = "",
    preview: Annotated[
        bool, typer.Option("--preview", help="Preview the result without creating a version")
    ] = False,
    all_rows: Annotated[
        bool, typer.Option("--all", help="With --preview: process all rows, regardless of duration")
    ] = False,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Create a new version of a data set with a recipe, accounting for every row."""
    with report_errors(json):
        steps = Recipe.from_yaml(_read_recipe(recipe))
        config = CleanConfig.parse({"dataset": dataset, "name": name, "recipe": steps.model_dump()})
        client = connect(start=True)
        document = config.model_dump(exclude_none=True)
        if preview:
            body = {**datasets.work_order(client, document), "recipe": document["recipe"], "whole": all_rows}
            answer = client.ask("clean_preview", body, CleanPreview, timeout=PREVIEW_SECONDS)
            print_json(answer) if json else data_reports.print_preview(answer)
            return
        job_id = client.command("clean", document)["job_id"]
        if not wait:
            print_json({"job_id": job_id}) if json else print_notice(f"Queued as {job_id}.")
            return
        _wait_until_finished(client, job_id, f"Cleaning {dataset}")
        made = datasets.get_dataset(client, find_dataset_by_job(job_id))
        if json:
            print_json(made)
            return
        assert made.fates  # created by a recipe
        data_reports.print_fates(made.fates)
        for notice in made.stats["notices"]:
            print_notice(notice)
        print_notice(f"{made.name} has {plural(made.row_count, 'row')}.")


def find_dataset_by_job(job_id: str) -> str:
    """Return the id of the version that a job creates."""
    return f"data-{job_id.removeprefix('job-')}"


def export(
    dataset: DatasetName,
    format: Annotated[
        str, typer.Option(help="messages, prompt_completion, alpaca, sharegpt, csv, parquet")
    ] = "messages",
    where: Annotated[str, typer.Option(help="SQL condition for the rows to export")] = "",
    part: Annotated[list[str] | None, typer.Option(help="train, validation or test; may be repeated")] = None,
    output: Annotated[
        Path | None, typer.Option("--out", help="Output file; the data card is written to the same folder")
    ] = None,
    json: Json = False,
) -> None:
    """Export a data set, or some of its rows, to a file with a data card."""
    with report_errors(json):
        filter = {"expression": where} if where else {}
        config = ExportConfig.parse(
            {
                **{"dataset": dataset, "format": format, "where": filter, "parts": part or None},
                "one_list": output is not None and output.suffix.lower() == ".json",
            }
        )
        if output is not None:
            _check_free(output)
        client = connect(start=True)
        job_id = client.command("export", config.model_dump(exclude_none=True))["job_id"]
        result = cast(
            ExportResult, _wait_until_finished(client, job_id, f"Exporting {dataset}").result
        )  # type of this kind's result
        if output is not None:
            card = output.with_name(f"{output.name}.md")
            save_new_file(client, result["name"], output)
            save_new_file(client, f"{result['name']}.md", card)
            result |= {"path": str(output.resolve()), "card_path": str(card.resolve())}
        if json:
            print_json(result)
            return
        for notice in result["notices"]:
            print_notice(notice)
        print_notice(f"{plural(result['rows'], 'row')} in {result['path']}; its card: {result['card_path']}")


def versions_(dataset: DatasetName, json: Json = False) -> None:
    """Show the version tree of a data set: how versions were created, and which runs use them."""
    with report_errors(json):
        client = connect()
        chosen = datasets.get_dataset(client, dataset).dataset_id
        family = dataset_versions.tree(client, chosen)
        if json:
            print_json({"dataset_id": chosen, "versions": family})
        else:
            data_reports.print_versions(family, chosen)


def _wait_until_finished(client: Client, job_id: str, label: str) -> Job:
    """Wait for the job and return it. Raises its error if it failed; exits if it was stopped."""
    job = watch_job(lambda: job_queue.get_job(client, job_id), label)
    require_finished(job, f"{label}:")
    return job


def _read_recipe(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} can't be read: {error}.", field="recipe") from error


def _check_free(path: Path) -> None:
    """Raise ConfigError if no file can be created at `path`, before anything is exported."""
    why = "already exists"
    try:
        path.lstat()
    except FileNotFoundError:
        if path.parent.is_dir():
            return
        why = f"can't be written: the folder {path.parent} does not exist"
    except (OSError, ValueError) as error:
        why = f"can't be written: {getattr(error, 'strerror', None) or error}"
    raise ConfigError(f"{path} {why}.", fix="Choose another file.", field="out")


data_commands = typer.Typer(
    no_args_is_help=True, help="List, measure, clean, export, rename, split and delete data sets."
)

DataSet = Annotated[str, typer.Argument(help="Data set id or name")]


@data_commands.command("list")
def list_(json: Json = False) -> None:
    """List data sets."""
    with report_errors(json):
        listed = datasets.list_datasets(connect())
        if json:
            print_json({"datasets": listed})
            return
        columns = ["name", "rows", "skipped", "duplicates", "format", "id"]
        rows = [
            [
                row.name,
                row.row_count,
                row.skipped_count,
                _describe_repeats(row),
                row.format,
                row.dataset_id,
            ]
            for row in listed
        ]
        print_rows(columns, rows, plural(len(listed), "data set"))


def _describe_repeats(dataset: Dataset) -> str:
    """Describe the number of duplicates; older imports ignored case and spacing."""
    count = dataset.duplicate_count
    exact = dataset.stats.get("duplicates") is not None
    return f"{count:,} exact" if exact else f"{count:,} except for case and spacing"


register(data_commands)


@data_commands.command()
def rename(dataset: DataSet, name: str, json: Json = False) -> None:
    """Rename a data set. Runs keep the name that they were launched with."""
    send_change("rename_dataset", {"dataset": dataset, "name": name}, f"{dataset} renamed to {name}.", json)


@data_commands.command()
def split(
    dataset: DataSet,
    seed: Annotated[int | None, typer.Option(help="Random seed; default: unchanged")] = None,
    validation_size: Annotated[
        float | None, typer.Option(help="Share of the rows; default: unchanged")
    ] = None,
    test_size: Annotated[float | None, typer.Option(help="Share of the rows; default: unchanged")] = None,
    by: Annotated[
        str | None, typer.Option(help="random, group, time, stratified or given; default: unchanged")
    ] = None,
    column: Annotated[str | None, typer.Option(help="Column to split by: label or source.NAME")] = None,
    json: Json = False,
) -> None:
    """Set how rows are split into train, validation and test in future runs."""
    given = {
        "split_seed": seed,
        "validation_size": validation_size,
        "test_size": test_size,
        "split_by": by,
        "split_column": column,
    }
    asked = {field: value for field, value in given.items() if value is not None}
    with report_errors(json):
        own = datasets.get_dataset(connect(), dataset)
        how = Split.parse(get_split(asked, datasets.get_split_fields(own)))
    body = {"dataset": own.dataset_id, **how.model_dump(exclude_none=True)}
    send_change("set_split", body, f"{dataset}: {describe_split(how)}.", json)


@data_commands.command()
def delete(dataset: DataSet, json: Json = False) -> None:
    """Delete a data set that is not used by a run or another version."""
    send_change("delete_dataset", {"dataset": dataset}, f"{dataset} deleted.", json)
