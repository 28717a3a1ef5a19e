"""What the command line prints: names are text, columns are told apart, and counts agree with their nouns."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from store.core.schemas import Job
from store.evaluation.forgetting_schemas import Forgetting
from store.evaluation.verdict_schemas import Verdict
from store.runs.schemas import Run
from tests.unit.store_samples import row_of
from tunebench.commands import training
from tunebench.terminal import output

TWICE = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], names=["a", "a", "a_2"])


def test_columns_of_one_name_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(TWICE, "json")
    assert json.loads(capsys.readouterr().out) == [{"a": 1, "a_3": 2, "a_2": 3}]
    output.print_table(TWICE, "table")
    printed = capsys.readouterr()
    assert [line.split() for line in printed.out.splitlines()] == [["a", "a_3", "a_2"], ["1", "2", "3"]]
    assert printed.err == "1 row\n"


def test_no_cell_and_no_column_of_csv_is_a_formula(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    table = pa.table(
        {
            '=HYPERLINK("x")': ["=1+1", "-5", "- a point", None, "'=1"],
            "@SUM": pa.array(["+x", "a", "+1.5e3", "\t=1", "＝1"]).dictionary_encode(),
            "-n": [-1, 2, 3, 4, 5],
            "plain": [Decimal("-1.5"), *[None] * 4],
        }
    )
    output.print_table(table, "csv")
    assert capfdbinary.readouterr().out.decode().splitlines() == [
        '"\'=HYPERLINK(""x"")","\'@SUM","\'-n","plain"',
        '"\'=1+1","\'+x",-1,"-1.5"',
        '"-5","a",2,',
        '"\'- a point","+1.5e3",3,',
        ',"\'\t=1",4,',
        '"\'\'=1","\'＝1",5,',
    ]


def test_lists_and_structs_in_csv_are_json(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """They were spelled as Python writes them, which nothing else reads back."""
    columns = {
        "list": pa.array([["a", "it's"], None], pa.list_(pa.string())),
        "struct": pa.array([{"at": datetime(2026, 1, 2, 3), "n": None}, None]),
    }
    output.print_table(pa.table(columns), "csv")
    header, first, second = csv.reader(io.StringIO(capfdbinary.readouterr().out.decode()))
    assert header == ["list", "struct"]
    assert [json.loads(cell) for cell in first] == [["a", "it's"], {"at": "2026-01-02 03:00:00", "n": None}]
    assert second == ["", ""]


def test_names_are_neither_emoji_nor_markup(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_rows(["name"], [["lr :red_heart: [/x] [bold]"]])
    assert "lr :red_heart: [/x] [bold]" in capsys.readouterr().out
    ended = row_of(Job, status="finished")
    going = row_of(Job, status="training", progress_done=1, progress_total=2, progress_unit="[/x]")
    jobs = iter([going, ended])
    assert output.watch_job(lambda: next(jobs), "lr [/x]", every=0) == ended


def test_a_run_without_a_validation_has_no_best_one(capsys: pytest.CaptureFixture[str]) -> None:
    run = row_of(
        Run, name="r", status="failed", run_id="r1", model="m", dataset_name="d", method="lora", facts={}
    )
    training.print_run(run)
    assert "best validation loss" not in capsys.readouterr().out
    training.print_run(replace(run, best_eval_loss=1.5, best_step=1200))
    assert "1.500 at step 1,200" in capsys.readouterr().out


def test_a_run_says_what_it_forgot(capsys: pytest.CaptureFixture[str]) -> None:
    run = row_of(
        Run, name="r", status="finished", run_id="r1", model="m", dataset_name="d", method="lora", facts={}
    )
    forgetting = row_of(
        Forgetting, headline="It forgot some: of facts.", sentences=["Of 2 tasks 1 was not asked."]
    )
    verdict = row_of(Verdict, headline="It learned.", sentences=["By much."], forgetting=forgetting)
    training.print_run(replace(run, last_step=4, base_eval_loss=2.0, verdict=verdict))
    lines = capsys.readouterr().out.splitlines()[-4:]
    assert lines == ["It learned.", "By much.", forgetting.headline, *forgetting.sentences]
