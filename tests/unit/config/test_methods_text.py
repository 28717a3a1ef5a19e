"""What documentation and command line say of the methods is what the table says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from store.training import methods_text
from store.training.methods import METHODS
from store.training.train_config import TrainConfig
from tunebench.cli import cli

DOCS = Path(__file__).parents[3] / "docs" / "methods.md"


def test_the_documentation_has_the_table_as_it_is() -> None:
    assert methods_text.format_methods_table() in DOCS.read_text(encoding="utf-8")


def test_the_command_line_lists_every_method_with_its_fields() -> None:
    answer = CliRunner().invoke(cli, ["methods", "--json"])
    listed = {row["method"]: row for row in json.loads(answer.stdout)}
    assert list(listed) == list(METHODS)
    assert all(set(row["fields"]) <= set(TrainConfig.model_fields) for row in listed.values())
    plain = CliRunner().invoke(cli, ["methods"]).stdout.splitlines()
    assert len(plain) == len(METHODS) + 1  # with the names of the columns


@pytest.mark.parametrize("command", [["methods"], ["metrics"]])
def test_columns_of_a_listing_never_run_together(command: list[str]) -> None:
    """However long a name is: `choice_accuracy_per_byteChoices right` was printed."""
    rows = json.loads(CliRunner().invoke(cli, [*command, "--json"]).stdout)
    listed = rows if isinstance(rows, list) else next(iter(rows.values()))
    lines = CliRunner().invoke(cli, command).stdout.splitlines()[1:]
    assert len(lines) == len(listed)
    for line, row in zip(lines, listed, strict=True):
        name = next(iter(row.values()))
        assert line.startswith(f"{name} ")


def test_a_rate_is_told_with_the_size_from_which_it_changes() -> None:
    assert methods_text.format_learning_rates(METHODS["full"]) == "2e-05, 1e-05 from 3 B"


def test_each_default_rate_is_one_at_which_the_method_is_known_to_work() -> None:
    for method in METHODS.values():
        low, high = method.rates
        assert all(low <= rate <= high for _, rate in method.rate)
        assert [least for least, _ in method.rate] == sorted({least for least, _ in method.rate})
        assert method.rate[0][0] == 0


def test_every_adapter_scales_one_factor_on_the_line_from_the_base_or_says_why_there_is_none() -> None:
    adapters = {name: method for name, method in METHODS.items() if method.adapter}
    assert [name for name, method in adapters.items() if bool(method.factor) == bool(method.no_line)] == []
    assert not any(method.factor for method in METHODS.values() if not method.adapter)
