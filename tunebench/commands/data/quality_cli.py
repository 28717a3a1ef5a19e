"""`tunebench data profile|clean|export|versions`: the quality of data without a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from engine.diagnostics.phrasing import plural
from store.catalog.signals import GROUPS
from store.config.data.data_config import CleanConfig, ExportConfig, ProfileConfig
from store.config.data.recipe import Recipe
from store.config.training.train_config import BUNDLED_MODEL
from store.contract.errors import ConfigError
from store.documents.data.clean_preview import CleanPreview
from store.documents.data.export_result import ExportResult
from store.documents.tables.job import Job
from store.http.client import Client
from store.queries import jobs
from store.queries.data import datasets, quality, versions
from tunebench.commands.data import data_reports
from tunebench.terminal.connection import Json, Wait, connect
from tunebench.terminal.documents import save_new
from tunebench.terminal.output import errors, print_json, require_finished, say, watch

DataSet = Annotated[str, typer.Argument(help="Id or name")]
PREVIEW_SECONDS = 150.0  # the engine's own limit for an ask


def register(group: typer.Typer) -> None:
    """Add the commands to `tunebench data`."""
    for command in (profile, clean, export, versions_):
        group.command(command.__name__.rstrip("_"))(command)


def profile(
    dataset: DataSet,
    group: Annotated[list[str] | None, typer.Option(help=f"May be repeated: {', '.join(GROUPS)}")] = None,
    model: Annotated[str, typer.Option(help="Whose tokenizer or loss: tokens, difficulty")] = BUNDLED_MODEL,
    max_length: Annotated[int | None, typer.Option(help="Rows longer than this are cut: tokens")] = None,
    sample: Annotated[int | None, typer.Option(help="Measure only so many rows")] = None,
    json: Json = False,
) -> None:
    """Measure a data set and print the figures; those outside their healthy bands are marked."""
    names = group or [name for name, signals in GROUPS.items() if signals.automatic]
    with errors(json):
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
            _finished(client, job_id, f"Measuring {GROUPS[config.group].title.lower()}")
        measured = quality.signals(client, version["fingerprint"])
        chosen = {name: measured[name] for name in names if name in measured}
        if json:
            print_json(data_reports.profile_document(version, chosen))
        else:
            data_reports.print_profile(version, chosen)


def clean(
    dataset: DataSet,
    recipe: Annotated[Path, typer.Argument(help="The steps as YAML")],
    name: Annotated[str, typer.Option(help="Of the new version; numbered where left out")] = "",
    preview: Annotated[bool, typer.Option("--preview", help="Only show what it would do")] = False,
    all_rows: Annotated[
        bool, typer.Option("--all", help="With --preview: count on all rows, however long it takes")
    ] = False,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Make a new version of a data set by a recipe; every row is accounted for."""
    with errors(json):
        steps = Recipe.from_yaml(_read(recipe))
        config = CleanConfig.parse({"dataset": dataset, "name": name, "recipe": steps.model_dump()})
        client = connect(start=True)
        document = config.model_dump(exclude_none=True)
        if preview:
            body = {**quality.work_order(client, document), "recipe": document["recipe"], "whole": all_rows}
            answer: CleanPreview = client.ask("clean_preview", body, timeout=PREVIEW_SECONDS)
            print_json(answer) if json else data_reports.print_preview(answer)
            return
        job_id = client.command("clean", document)["job_id"]
        if not wait:
            print_json({"job_id": job_id}) if json else say(f"Queued as {job_id}.")
            return
        _finished(client, job_id, f"Cleaning {dataset}")
        made = datasets.get_dataset(client, dataset_made_by(job_id))
        if json:
            print_json(made)
            return
        assert made["fates"]  # a recipe made it
        data_reports.print_fates(made["fates"])
        for notice in made["stats"]["notices"]:
            say(notice)
        say(f"{made['name']} has {plural(made['row_count'], 'row')}.")


def dataset_made_by(job_id: str) -> str:
    """The id of the version that a job makes."""
    return f"data-{job_id.removeprefix('job-')}"


def export(
    dataset: DataSet,
    format: Annotated[
        str, typer.Option(help="messages, prompt_completion, alpaca, sharegpt, csv, parquet")
    ] = "messages",
    where: Annotated[str, typer.Option(help="SQL that is true for the rows that are meant")] = "",
    part: Annotated[list[str] | None, typer.Option(help="train, validation or test; may be repeated")] = None,
    output: Annotated[
        Path | None, typer.Option("--out", help="Copy the file there, its data card beside it")
    ] = None,
    json: Json = False,
) -> None:
    """Write a data set, or some of its rows, to a file with a data card beside it."""
    with errors(json):
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
        result = cast(ExportResult, _finished(client, job_id, f"Exporting {dataset}")["result"])  # its kind's
        if output is not None:
            card = output.with_name(f"{output.name}.md")
            save_new(client, result["name"], output)
            save_new(client, f"{result['name']}.md", card)
            result |= {"path": str(output.resolve()), "card_path": str(card.resolve())}
        if json:
            print_json(result)
            return
        for notice in result["notices"]:
            say(notice)
        say(f"{plural(result['rows'], 'row')} in {result['path']}; its card: {result['card_path']}")


def versions_(dataset: DataSet, json: Json = False) -> None:
    """Show the versions of a data set as a tree, how they were made, and which runs use them."""
    with errors(json):
        client = connect()
        chosen = datasets.get_dataset(client, dataset)["dataset_id"]
        family = versions.tree(client, chosen)
        if json:
            print_json({"dataset_id": chosen, "versions": family})
        else:
            data_reports.print_versions(family, chosen)


def _finished(client: Client, job_id: str, label: str) -> Job:
    """The job once it has finished. Raises the error that it failed with; exits where it was stopped."""
    job = watch(lambda: jobs.get_job(client, job_id), label)
    require_finished(job, f"{label}:")
    return job


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} can't be read: {error}.", field="recipe") from error


def _check_free(path: Path) -> None:
    """Raise ConfigError where a file can't be made at `path`, before anything is exported."""
    why = "is there already"
    try:
        path.lstat()
    except FileNotFoundError:
        if path.parent.is_dir():
            return
        why = f"can't be written: there is no folder {path.parent}"
    except (OSError, ValueError) as error:
        why = f"can't be written: {getattr(error, 'strerror', None) or error}"
    raise ConfigError(f"{path} {why}.", fix="Choose another file.", field="out")
