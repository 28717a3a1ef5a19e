"""A user's own metric: it is asked, and whatever it does, the evaluation goes on and says what happened."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from engine.evaluation.metrics.answer_rows import Answers
from engine.evaluation.metrics.measurement import measure
from engine.evaluation.statistics.metric_estimates import RowScores, aggregate_scores
from engine.worker.job import JobCancelled
from store.core.home import Home
from store.core.metrics_config import MetricsConfig


def run(tmp_path: Path, source: str, rows: int = 40, **options: Any) -> tuple[RowScores, str]:
    home = Home(tmp_path).create()
    (home.metrics / "mine.py").write_text(source, encoding="utf-8")
    config = MetricsConfig.parse({"metrics": [{"metric": "own", "file": "mine", **options}, "exact_match"]})
    predictions = ["a" if i % 4 else "b" for i in range(rows)]
    logged: list[str] = []
    answers = Answers(np.arange(100, 100 + rows), predictions, ["a"] * rows, ["p"] * rows)
    mine, exact = measure(config, answers, home, log=logged.append)
    assert aggregate_scores(exact).value == 0.75  # nothing that a metric does ends the others
    assert mine.name == "eval/mine"
    return mine, "\n".join(logged)


def test_a_function_is_asked_row_by_row_for_what_it_takes(tmp_path: Path) -> None:
    mine, _ = run(tmp_path, "def score(prediction, reference, prompt):\n    return prediction == reference")
    assert mine.scores.sum() == 30
    figure = aggregate_scores(mine)
    assert (figure.value, figure.n, figure.failed) == (0.75, 40, "")
    assert figure.low < 0.75 < figure.high
    mine, _ = run(tmp_path, "def score(prediction, unit=2):\n    return len(prediction) * unit")
    assert mine.scores.tolist() == [2] * 40
    mine, _ = run(tmp_path, "import functools\nscore = lambda prediction: 1")
    assert mine.scores.tolist() == [1] * 40


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("raise KeyError('price')", "KeyError: 'price'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("return float('nan')", "ValueError: it gave nan"),
        ("return 'good'", "TypeError: it gave 'good' (str), not a number"),
        ("return None", "TypeError: it gave None (NoneType), not a number"),
        ("return [1]", "TypeError: it gave [1] (list), not a number"),
        ("return 10 ** 400", "OverflowError"),
        ("return deep(1)", "RecursionError"),
    ],
)
def test_one_row_that_fails_is_counted_with_its_error(tmp_path: Path, line: str, reason: str) -> None:
    mine, log = run(
        tmp_path,
        "calls = 0\ndef deep(n):\n    return deep(n) + 1\ndef score(prediction, reference):\n"
        f"    global calls\n    calls += 1\n    if calls == 17:\n        {line}\n    return 1.0",
    )
    figure = aggregate_scores(mine)
    assert (figure.n, figure.unscored.count, figure.failed) == (39, 1, "")
    row, why = figure.unscored.examples[0]
    assert row == 116
    assert why.startswith(reason)
    assert "Traceback" in log


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def score(prediction:\n", "mine.py is not valid Python: line 1"),
        ("\0", "mine.py"),
        (
            "import no_such_package",
            "mine.py can't be run: ModuleNotFoundError: No module named 'no_such_package'",
        ),
        ("raise SystemExit", "mine.py can't be run: SystemExit"),
        ("x = 1", "mine.py has no function score or scores, and no evaluate.Metric."),
        (
            "def score(answer, gold):\n    return 1",
            "It has the parameter 'answer'; a metric is passed prediction,",
        ),
        ("def score(prediction):\n    return 1 / 0", "No row could be scored; the first: ZeroDivisionError"),
        ("def scores(predictions):\n    return [1, 2, 3]", "It returned 3 values for 40 rows."),
        ("def scores(predictions):\n    return 5", "TypeError: 'int' object is not iterable"),
        ("def scores(predictions):\n    raise OSError('disk')", "OSError: disk"),
    ],
)
def test_a_metric_that_fails_says_why(tmp_path: Path, source: str, reason: str) -> None:
    mine, log = run(tmp_path, source)
    assert mine.failed.startswith(reason)
    assert aggregate_scores(mine).value is None
    if "raise" in source or "/ 0" in source:
        assert "Traceback" in log


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    config = MetricsConfig.parse({"metrics": [{"metric": "own", "file": "gone"}]})
    scored = measure(config, Answers(np.arange(1), ["a"]), Home(tmp_path), log=lambda text: None)
    assert scored[0].failed.endswith(
        "gone.py can't be read (No such file or directory); add the file of the metric."
    )


def test_a_function_for_all_rows_gives_a_number_for_each(tmp_path: Path) -> None:
    mine, _ = run(
        tmp_path, "import numpy\ndef scores(predictions, references):\n    return numpy.arange(40) / 39"
    )
    assert aggregate_scores(mine).value == pytest.approx(0.5)
    mine, _ = run(tmp_path, "def scores(predictions):\n    return [1] * 39 + ['x']")
    assert mine.reasons == {39: "TypeError: it gave 'x' (str), not a number"}


def test_a_row_without_a_reference_is_no_row_of_a_metric_that_needs_one(tmp_path: Path) -> None:
    home = Home(tmp_path).create()
    (home.metrics / "mine.py").write_text("def score(prediction, reference):\n    return 1", encoding="utf-8")
    config = MetricsConfig.parse({"metrics": [{"metric": "own", "file": "mine"}]})
    answers = Answers(np.arange(3), ["a", None, "c"], ["a", "b", None])
    figure = aggregate_scores(measure(config, answers, home)[0])
    assert (figure.n, figure.unscored.count) == (1, 2)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "def score(prediction):\n    os._exit(0)",
            "mine.py: its process was stopped before it could answer in",
        ),
        (
            "def score(prediction):\n    os._exit(3)",
            "mine.py: its process exited (exit code 3) in row 100.",
        ),
        (
            "calls = []\ndef score(prediction):\n    calls.append(1)\n    if len(calls) == 17:\n"
            "        os.kill(os.getpid(), 11)\n    return 1",
            "mine.py: its process crashed (Segmentation fault) in row 116.",
        ),
        ("raise KeyboardInterrupt", "mine.py can't be run: KeyboardInterrupt"),
        ("def scores(predictions):\n    raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("def scores(predictions):\n    os.kill(0, 9)", "mine.py: its process crashed (Killed)."),
        (
            "def score(prediction):\n    os.kill(os.getppid(), 9)\n    time.sleep(30)",
            "mine.py: its process was stopped before it could answer in row 100.",
        ),
    ],
)
def test_a_metric_that_ends_its_process_ends_alone(tmp_path: Path, source: str, reason: str) -> None:
    mine, _ = run(tmp_path, "import os, time\n" + source)
    assert mine.failed.startswith(reason)


def test_a_row_that_is_interrupted_is_one_row(tmp_path: Path) -> None:
    mine, _ = run(
        tmp_path,
        "def score(prediction, n=[]):\n    n.append(1)\n    if len(n) == 3:\n        raise KeyboardInterrupt"
        "\n    return 1",
    )
    assert mine.reasons == {2: "KeyboardInterrupt"}


def test_the_limits_of_time_and_memory_are_named(tmp_path: Path) -> None:
    mine, _ = run(tmp_path, "def score(prediction):\n    while True: pass", max_seconds=1)
    assert mine.failed == "mine.py: it took longer than 1 seconds (max_seconds) and was stopped in row 100."
    slowly = "import time\ndef score(prediction, held=[]):\n    while True:\n"
    slowly += "        held.append(bytearray(2**24))\n        time.sleep(0.01)"
    mine, _ = run(tmp_path, slowly, max_memory_gib=0.25)
    assert mine.failed.startswith("mine.py: it used more than 0.25 GiB of memory (max_memory_gib)")
    mine, _ = run(tmp_path, "def score(prediction):\n    return len(bytearray(2**36))", max_memory_gib=0.25)
    assert mine.failed.endswith("MemoryError: the limit is 0.25 GiB (max_memory_gib).")


LEAVES = """
import os, subprocess, sys, time
ENV = dict(os.environ, LEFT_BY=MARK)
def score(prediction):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=ENV)
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=ENV, start_new_session=True)
    subprocess.run([sys.executable, "-c", "import os, time\\nif not os.fork(): os.setsid(); time.sleep(60)"],
                   env=ENV)
    REST
"""


def left_by(mark: str) -> list[int]:
    """Processes that a metric with this mark started and that are still there."""
    there = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("LEFT_BY") == mark and process.status() != psutil.STATUS_ZOMBIE:
                there.append(process.pid)
    return there


@pytest.mark.parametrize("rest", ["return 1", "raise SystemExit", "os._exit(1)", "os.kill(os.getpid(), 11)"])
def test_what_a_metric_started_ends_with_it(tmp_path: Path, rest: str) -> None:
    mark = str(tmp_path)
    run(tmp_path, LEAVES.replace("MARK", repr(mark)).replace("REST", rest), rows=4)
    assert left_by(mark) == []


def test_what_a_metric_started_ends_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    mark, home = str(tmp_path), Home(tmp_path).create()
    source = LEAVES.replace("MARK", repr(mark)).replace("REST", "time.sleep(60)")
    (home.metrics / "mine.py").write_text(source)
    script = (
        "import sys, numpy\nfrom engine.evaluation.metrics.answer_rows import Answers\n"
        "from engine.evaluation.metrics.measurement import measure\nfrom store.core.home import Home\n"
        "from store.core.metrics_config import MetricsConfig\n"
        "config = MetricsConfig.parse({'metrics': [{'metric': 'own', 'file': 'mine'}]})\n"
        "measure(config, Answers(numpy.arange(1), ['a']), Home(sys.argv[1]))\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", script, mark], cwd=Path(__file__).parents[3])
    try:
        until(lambda: len(left_by(mark)) == 3)
    finally:
        worker.kill()
        worker.wait()
    until(lambda: not left_by(mark))


def test_a_cancelled_job_ends_the_metric(tmp_path: Path) -> None:
    mark, home = str(tmp_path), Home(tmp_path).create()
    source = LEAVES.replace("MARK", repr(mark)).replace("REST", "time.sleep(60)")
    (home.metrics / "mine.py").write_text(source)
    config = MetricsConfig.parse({"metrics": [{"metric": "own", "file": "mine"}]})

    def check() -> None:
        if len(left_by(mark)) == 3:
            raise JobCancelled

    with pytest.raises(JobCancelled):
        measure(config, Answers(np.arange(1), ["a"]), home, check=check)
    assert left_by(mark) == []


def until(holds: Callable[[], bool]) -> None:
    """Wait for it, 30 seconds at most."""
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)
