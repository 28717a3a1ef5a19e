"""`tunebench data`: what the screens do with data sets."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.diagnostics.phrasing import plural
from store.config.training.train_config import Split, split_of
from store.documents.tables.dataset import Dataset
from store.queries.data import datasets
from tunebench.commands.data import quality_cli
from tunebench.commands.data.data_reports import split_words
from tunebench.terminal.connection import Json, change, connect
from tunebench.terminal.output import errors, print_json, print_rows

data = typer.Typer(
    no_args_is_help=True, help="List, measure, clean, export, rename, split and delete data sets."
)

DataSet = Annotated[str, typer.Argument(help="Id or name")]


@data.command("list")
def list_(json: Json = False) -> None:
    """List data sets."""
    with errors(json):
        listed = datasets.list_datasets(connect())
        if json:
            print_json({"datasets": listed})
            return
        columns = ["name", "rows", "skipped", "duplicates", "format", "id"]
        rows = [
            [
                row["name"],
                row["row_count"],
                row["skipped_count"],
                _repeated(row),
                row["format"],
                row["dataset_id"],
            ]
            for row in listed
        ]
        print_rows(columns, rows, plural(len(listed), "data set"))


def _repeated(dataset: Dataset) -> str:
    """Rows that an earlier one equals, and which way; imports of earlier versions looked past case and
    spacing."""
    count = dataset["duplicate_count"]
    exact = dataset["stats"].get("duplicates") is not None
    return f"{count:,} exact" if exact else f"{count:,} but for case and spacing"


quality_cli.register(data)


@data.command()
def rename(dataset: DataSet, name: str, json: Json = False) -> None:
    """Give a data set another name; runs keep the one that they were launched with."""
    change("rename_dataset", {"dataset": dataset, "name": name}, f"{dataset} is now {name}.", json)


@data.command()
def split(
    dataset: DataSet,
    seed: Annotated[int | None, typer.Option(help="Left out: stays as it is")] = None,
    validation_size: Annotated[float | None, typer.Option(help="Share of the rows; left out: stays")] = None,
    test_size: Annotated[float | None, typer.Option(help="Share of the rows; left out: stays")] = None,
    by: Annotated[
        str | None, typer.Option(help="random, group, time, stratified or given; left out: stays")
    ] = None,
    column: Annotated[str | None, typer.Option(help="label or source.NAME, to split by")] = None,
    json: Json = False,
) -> None:
    """Set how rows are dealt to train, validation and test in runs to come."""
    given = {
        "split_seed": seed,
        "validation_size": validation_size,
        "test_size": test_size,
        "split_by": by,
        "split_column": column,
    }
    asked = {field: value for field, value in given.items() if value is not None}
    with errors(json):
        own = datasets.get_dataset(connect(), dataset)
        how = Split.parse(split_of(asked, own))
    body = {"dataset": own["dataset_id"], **how.model_dump(exclude_none=True)}
    change("set_split", body, f"{dataset}: {split_words(how)}.", json)


@data.command()
def delete(dataset: DataSet, json: Json = False) -> None:
    """Delete a data set that no run uses and no other version was made from."""
    change("delete_dataset", {"dataset": dataset}, f"{dataset} is deleted.", json)
