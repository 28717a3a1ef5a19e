"""The process that asks a metric of the user's: a guard, and below it the metric itself.

`python -m engine.evaluation.metrics.custom_metric_process ANSWER PARENT SECONDS GIB`, with the question on
stdin and the answer in the file with the descriptor ANSWER: a line break for each row that was begun, then
a document. The guard runs nothing of the user's. It holds the metric and all that this starts to the
limits, and ends all of it when the metric has ended, when the worker PARENT is gone, and on SIGTERM. On
Linux, what a metric starts is the guard's even in a session of its own or with its parent gone, and the
metric dies with a guard that is killed.
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

PAUSE = 0.02  # seconds between two looks at whether the metric has ended
MEMORY_PAUSE = 0.2  # and at its memory, which takes some milliseconds
GIB = 2**30
HEADROOM_GIB = 4.0  # of memory that is reserved and may never be touched: stacks of threads, pools
SET_PDEATHSIG, SET_CHILD_SUBREAPER = 1, 36  # of prctl(2)


class GuardTerminated(Exception):
    """The guard was told to end."""


def main(argv: list[str]) -> int:
    """0: the metric has answered, or the answer says why it could not."""
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
    if failed:
        _write_failure(answer, failed)
    return 0


def _handle_sigterm(*_: object) -> None:
    raise GuardTerminated


def _call_prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


# -- the guard ----------------------------------------------------------------------------------------


def _watch_metric(metric: int, parent: int, seconds: float, gib: float) -> str:
    """Wait for the metric's end; why it gave no answer, else empty."""
    end = time.monotonic() + seconds
    look = 0.0
    while True:
        pid, status = os.waitpid(metric, os.WNOHANG)
        if pid:
            return _describe_exit(status)
        if os.getppid() != parent:
            raise GuardTerminated
        if time.monotonic() > end:
            return f"it took longer than {seconds:g} seconds (max_seconds) and was ended"
        if time.monotonic() > look:
            look = time.monotonic() + MEMORY_PAUSE
            if _exceeds_memory(gib):
                return f"it held more than {gib:g} GiB of memory (max_memory_gib) and was ended"
        time.sleep(PAUSE)


def _describe_exit(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        name = signal.strsignal(-code) or f"signal {-code}"
        return f"its process crashed ({name})"
    return f"it ended its process (exit code {code})" if code else ""


def _exceeds_memory(gib: float) -> bool:
    """Whether the metric and all that it started hold more memory, pages that they share counted once."""
    processes = psutil.Process().children(recursive=True)
    return (
        _sum_gib(processes, _read_resident_bytes) > gib
        and _sum_gib(processes, _read_proportional_bytes) > gib
    )


def _sum_gib(processes: list[psutil.Process], held: Callable[[psutil.Process], int]) -> float:
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += held(process)
    return total / GIB


def _read_resident_bytes(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


def _read_proportional_bytes(process: psutil.Process) -> int:
    """Dearer to ask; Linux alone divides a page among those that share it."""
    memory = process.memory_full_info()
    return int(getattr(memory, "pss", memory.uss))


def _kill_descendants() -> None:
    """Kill what is below the guard until nothing is: what loses its parent comes below the guard itself."""
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


def _write_failure(answer: int, failed: str) -> None:
    """In place of whatever else stands there, but for the rows that were begun."""
    begun = os.pread(answer, os.fstat(answer).st_size, 0).count(b"\n")
    os.ftruncate(answer, 0)
    os.pwrite(answer, b"\n" * begun + json.dumps({"failed": failed}).encode(), 0)


# -- the metric ---------------------------------------------------------------------------------------


def _run_metric(answer: int, gib: float) -> None:
    """Ask, answer and end; never returns."""
    guard = os.getppid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.setsid()  # what it sends to its group does not reach the guard
    _call_prctl(SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:
        os._exit(1)  # the guard died in between
    os.set_inheritable(answer, False)
    most = round((gib + HEADROOM_GIB) * GIB)
    with contextlib.suppress(OSError, ValueError):  # not on every system; the guard looks all the same
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    question: IsolatedQuestion = json.load(sys.stdin)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    document = json.dumps(_compute_answer(question, answer, gib))
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(answer, document.encode())
    os._exit(0)  # threads of the metric's and functions that it left for the end are not waited for


def _compute_answer(question: IsolatedQuestion, answer: int, gib: float) -> IsolatedAnswer:
    """What the metric says, as a document."""
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
        if metric[0] == "score":  # asked row by row
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
    """The reason; where memory ran out, how much the metric may hold too."""
    out = "MemoryError" in reason.split(":")[0]
    return f"{reason}: it may hold {gib:g} GiB (max_memory_gib)" if out else reason


def _write_row_started(answer: int) -> None:
    os.write(answer, b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
