"""`tunebench data`: what the screens do with data sets."""

from __future__ import annotations

from typing import Annotated

import typer

from store import datasets
from tunebench.connection import Json, change, connect
from tunebench.output import errors, plural, print_json, print_rows

data = typer.Typer(no_args_is_help=True, help="List, rename, split and delete data sets.")

DataSet = Annotated[str, typer.Argument(help="Id or name")]


@data.command("list")
def list_(json: Json = False) -> None:
    """List data sets."""
    with errors(json):
        found = datasets.list_datasets(connect())
        if json:
            print_json({"datasets": found})
            return
        columns = ["name", "rows", "skipped", "duplicates", "format", "id"]
        keys = ["name", "row_count", "skipped_count", "duplicate_count", "format", "dataset_id"]
        print_rows(columns, [[row[key] for key in keys] for row in found], plural(len(found), "data set"))


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
    json: Json = False,
) -> None:
    """Set how rows are dealt to train, validation and test in runs to come."""
    asked = {"split_seed": seed, "validation_size": validation_size, "test_size": test_size}
    with errors(json):
        found = datasets.get_dataset(connect(), dataset)
    parts = {field: found[field] if value is None else value for field, value in asked.items()}
    done = "{}: seed {split_seed}, validation {validation_size:g}, test {test_size:g}.".format(
        dataset, **parts
    )
    change("set_split", {"dataset": found["dataset_id"], **parts}, done, json)


@data.command()
def delete(dataset: DataSet, json: Json = False) -> None:
    """Delete a data set that no run uses."""
    change("delete_dataset", {"dataset": dataset}, f"{dataset} is deleted.", json)
