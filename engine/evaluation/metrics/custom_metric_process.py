"""Process that runs a custom metric: a guard, and the metric itself as its child.

`python -m engine.evaluation.metrics.custom_metric_process ANSWER PARENT SECONDS GIB`, with the question on
stdin and the answer in the file with descriptor ANSWER: a line break for each row that was started, then a
document. The guard runs no user code. It enforces the limits on the metric and everything that it starts, and
kills all of it when the metric has ended, when the worker PARENT is gone, and on SIGTERM. On Linux, processes
started by the metric stay under the guard even in a session of their own or when orphaned, and the metric
dies if the guard is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Callable

import psutil

from store.evaluation.schemas import IsolatedAnswer, IsolatedQuestion

PAUSE = 0.02  # seconds between checks for the metric's end
MEMORY_PAUSE = 0.2  # seconds between checks of its memory, which take some milliseconds
GIB = 2**30
HEADROOM_GIB = 4.0  # for memory reserved but possibly never touched: thread stacks, pools
SET_PDEATHSIG, SET_CHILD_SUBREAPER = 1, 36  # options of prctl(2)


class GuardTerminated(Exception):
    """The guard was told to terminate."""


def main(argv: list[str]) -> int:
    """Run guard and metric; always return 0, as the answer also covers failures."""
    answer, parent, seconds, gib = int(argv[0]), int(argv[1]), float(argv[2]), float(argv[3])
    signal.signal(signal.SIGTERM, _handle_sigterm)
    _call_prctl(SET_CHILD_SUBREAPER, 1)
    failed = ""
    try:
        metric = os.fork()
        if not metric:
            _run_metric(answer, gib)
        failed = _watch_metric(metric, parent, seconds, gib)
    except GuardTerminated:
        failed = "it was stopped"
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _kill_descendants()
    if failed:  # replaces the answer, except for the line breaks of the rows that were started
        begun = os.pread(answer, os.fstat(answer).st_size, 0).count(b"\n")
        os.ftruncate(answer, 0)
        os.pwrite(answer, b"\n" * begun + json.dumps({"failed": failed}).encode(), 0)
    return 0


def _handle_sigterm(*_: object) -> None:
    raise GuardTerminated


def _call_prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


# -- the guard ----------------------------------------------------------------------------------------


def _watch_metric(metric: int, parent: int, seconds: float, gib: float) -> str:
    """Wait for the metric to end; return why it gave no answer, otherwise an empty string."""
    end = time.monotonic() + seconds
    look = 0.0
    while True:
        pid, status = os.waitpid(metric, os.WNOHANG)
        if pid:
            return _describe_exit(status)
        if os.getppid() != parent:
            raise GuardTerminated
        if time.monotonic() > end:
            return f"it took longer than {seconds:g} seconds (max_seconds) and was stopped"
        if time.monotonic() > look:
            look = time.monotonic() + MEMORY_PAUSE
            if _exceeds_memory(gib):
                return f"it used more than {gib:g} GiB of memory (max_memory_gib) and was stopped"
        time.sleep(PAUSE)


def _describe_exit(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        name = signal.strsignal(-code) or f"signal {-code}"
        return f"its process crashed ({name})"
    return f"its process exited (exit code {code})" if code else ""


def _exceeds_memory(gib: float) -> bool:
    """Return whether the metric and everything it started hold more memory, counting shared pages once."""
    processes = psutil.Process().children(recursive=True)
    return (
        _sum_gib(processes, lambda process: process.memory_info().rss) > gib
        and _sum_gib(processes, _read_proportional_bytes) > gib
    )


def _sum_gib(processes: list[psutil.Process], held: Callable[[psutil.Process], int]) -> float:
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += held(process)
    return total / GIB


def _read_proportional_bytes(process: psutil.Process) -> int:
    """Return the PSS, which is more expensive to read; only Linux divides a page among those sharing it."""
    memory = process.memory_full_info()
    return int(getattr(memory, "pss", memory.uss))


def _kill_descendants() -> None:
    """Kill the guard's descendants until there are none; orphaned processes become the guard's children."""
    while True:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.kill()
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(PAUSE / 10)


# -- the metric ---------------------------------------------------------------------------------------


def _run_metric(answer: int, gib: float) -> None:
    """Run the metric, write the answer and exit; never returns."""
    guard = os.getppid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.setsid()  # so that signals to its group don't reach the guard
    _call_prctl(SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:
        os._exit(1)  # the guard died in the meantime
    os.set_inheritable(answer, False)
    most = round((gib + HEADROOM_GIB) * GIB)
    with contextlib.suppress(OSError, ValueError):  # not on every system; the guard checks anyway
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    question: IsolatedQuestion = json.load(sys.stdin)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    document = json.dumps(_compute_answer(question, answer, gib))
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(answer, document.encode())
    os._exit(0)  # don't wait for the metric's threads and exit handlers


def _compute_answer(question: IsolatedQuestion, answer: int, gib: float) -> IsolatedAnswer:
    """Return the metric's result as a document."""
    import numpy as np

    from engine.evaluation.metrics import custom_metric
    from engine.evaluation.metrics.answer_rows import Answers, MetricInput
    from store.core.home import Home

    rows = Answers(
        np.array(question["row_ids"], np.int64),
        predictions=question["predictions"],
        references=question["references"],
        prompts=question["prompts"],
        groups=question["groups"],
    )
    asked = MetricInput(rows, Home(question["home"]), question["confidence"], lambda: None)
    choice = question["choice"]
    try:
        metric = custom_metric.load_metric(asked.home.metrics / f"{choice['file']}.py")
        if metric[0] == "score":  # called row by row
            asked.check = lambda: _write_row_started(answer)
        row_scores = custom_metric.compute_scores(metric, asked, choice["options"])
    except custom_metric.CustomMetricError as error:
        return {"error": _format_reason_with_limit(str(error), gib), "traceback": error.trace}
    except BaseException as error:  # noqa: BLE001 (the border: whatever the user's code raises is its answer)
        return {
            "error": _format_reason_with_limit(custom_metric.format_error(error), gib),
            "traceback": custom_metric.format_traceback(),
        }
    return {
        "scores": [None if math.isnan(score) else score for score in row_scores.scores.tolist()],
        "reasons": [
            (place, _format_reason_with_limit(reason, gib)) for place, reason in row_scores.reasons.items()
        ],
        "estimator": row_scores.estimator,
        "whole": row_scores.whole,
        "traceback": row_scores.traceback,
    }


def _format_reason_with_limit(reason: str, gib: float) -> str:
    """Return the reason; if memory ran out, with the metric's memory limit."""
    out = "MemoryError" in reason.split(":")[0]
    return f"{reason}: the limit is {gib:g} GiB (max_memory_gib)" if out else reason


def _write_row_started(answer: int) -> None:
    os.write(answer, b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
