"""Options of commands that are drawn from the models of what they ask for."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from tunebench.cli import cli
from tunebench.terminal.options import Options, add_options

MAX_PARAMETERS = 12


class Part(BaseModel):
    label: str = Field(description="Of the part")


class Asked(BaseModel):
    subject: str = Field(description="What is meant")
    share: float = Field(0.1, description="Of all")
    max_rows: int | None = Field(50, description="So many; all if null")
    names: list[str] = Field(default_factory=list, description="Those alone")
    mode: Literal["fast", "exact"] = Field("fast", description="How it is done")
    zip: bool = Field(False, description="As one file")
    header: bool | None = Field(None, description="Whether there is one")


def invoke(*words: str) -> tuple[int, str, list[Any]]:
    """Exit code, what was printed, and what the command was given."""
    calls: list[Any] = []
    app = typer.Typer()

    @app.command()
    @add_options("part", Part, "label", partial=True)
    @add_options("given", Asked, "subject", "share", "max_rows", "mode", "zip", "header", **{"name": "names"})
    def ask(given: Options, part: Options, file: Annotated[str, typer.Argument(help="A file")]) -> None:
        calls.append((given, part, file))

    result = CliRunner().invoke(app, words)
    return result.exit_code, result.output, calls


def test_only_what_is_given_is_handed_on() -> None:
    assert invoke("x", "--subject", "a")[2] == [({"subject": "a"}, {}, "x")]
    words = ["--share", "0.1", "--name", "b", "--name", "c", "--zip", "--no-header", "--label", "d"]
    given = {"subject": "a", "share": 0.1, "names": ["b", "c"], "zip": True, "header": False}
    assert invoke("x", "--subject", "a", *words)[2] == [(given, {"label": "d"}, "x")]


def test_an_empty_text_is_nothing_of_a_part_and_a_value_of_the_whole() -> None:
    assert invoke("x", "--subject", "", "--label", "")[2] == [({"subject": ""}, {}, "x")]


def test_no_limit_is_0_in_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "evaluation.yaml"
    file.write_text("max_rows: 0\nmodel: x\ndataset: d\nnum_fewshot: -1\n")
    result = CliRunner(env={"TUNEBENCH_HOME": str(tmp_path / "home")}).invoke(cli, ["evaluate", str(file)])
    assert "num_fewshot is -1" in result.output


def test_all_rows_are_0_on_the_command_line() -> None:
    assert invoke("x", "--subject", "a", "--max-rows", "0")[2][0][0]["max_rows"] is None
    assert invoke("x", "--subject", "a", "--max-rows", "3")[2][0][0]["max_rows"] == 3


def test_what_the_model_needs_is_required_unless_the_whole_part_may_be_missing() -> None:
    code, printed, calls = invoke("x")
    assert (code, calls) == (2, [])
    assert "--subject" in printed


def test_help_has_descriptions_defaults_and_choices() -> None:
    code, printed, _ = invoke("--help")
    flat = " ".join(printed.replace("│", " ").split())
    assert code == 0
    assert "Of all; default 0.1" in flat
    assert "So many; 0 for all; default 50" in flat
    assert "Those alone; may be repeated" in flat
    assert "fast|exact" in flat
    assert ("--no-zip" in flat, "--no-header" in flat) == (False, True)


def test_no_command_has_a_signature_that_nobody_reads() -> None:
    long = []
    for app in [cli, *(each.typer_instance for each in cli.registered_groups)]:
        for command in app.registered_commands if app else []:
            assert command.callback is not None
            written = inspect.unwrap(command.callback)
            if len(inspect.signature(written).parameters) > MAX_PARAMETERS:
                long.append(written.__qualname__)
    assert long == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["evaluate", "--part", "most", "--model", "x", "--dataset", "d"], "part is 'most'"),
        pytest.param(
            ["bias", "a run", "--by", "label"],
            "--evaluation and --by must be used together",
            marks=pytest.mark.feature("bias"),
        ),
        pytest.param(
            ["bias", "a run", "--label", "toxic"], "require a classifier", marks=pytest.mark.feature("bias")
        ),
        pytest.param(
            ["improve", "m", "--group", "g", "--dataset", "d"],
            "--group requires --feedback",
            marks=pytest.mark.feature("retraining"),
        ),
        pytest.param(
            ["improve", "m", "--since", "2026-01-01", "--dataset", "d"],
            "--since requires --feedback",
            marks=pytest.mark.feature("retraining"),
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_an_engine_is_started(
    words: list[str], why: str, tmp_path: Path
) -> None:
    result = CliRunner(env={"TUNEBENCH_HOME": str(tmp_path / "home")}).invoke(cli, words)
    assert result.exit_code == 2
    assert why in " ".join(result.output.split())
    assert not (tmp_path / "home").exists()
