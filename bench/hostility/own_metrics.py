"""Custom metrics that crash, end their process, never end, take all memory or leave processes behind.

Metrics that kill their guard on purpose are not tested: it is the user's own code, guarded against
accidents.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import psutil

from bench.hostility import Attempt
from engine.evaluation.metrics.answer_rows import Answers
from engine.evaluation.metrics.measurement import measure
from engine.evaluation.statistics.metric_estimates import aggregate_scores
from store.core.home import Home
from store.core.metrics_config import MetricsConfig

ROWS = 12
ENDS = {
    "returns": "return 1",
    "raises": "raise ValueError('no')",
    "exits": "raise SystemExit(1)",
    "is interrupted": "raise KeyboardInterrupt",
    "ends its process": "os._exit(0)",
    "crashes": "os.kill(os.getpid(), signal.SIGSEGV)",
    "kills its group": "os.kill(0, signal.SIGKILL)",
    "kills its guard": "os.kill(os.getppid(), signal.SIGKILL)\n    time.sleep(60)",
    "never ends": "while True: pass",
    "ignores SIGTERM": "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    time.sleep(60)",
    "takes all memory": "held = [bytearray(2**24) for _ in range(10**6)]",
    "reserves all memory": "bytearray(2**45)",
    "closes every file": "os.closerange(0, 256)\n    return 1",
    "answers for itself": "[os.write(int(n), b'{}') for n in os.listdir('/proc/self/fd')[3:-1]]",
    "recurses": "return score(prediction)",
}
LEAVES = {
    "nothing": "pass",
    "a child": "subprocess.Popen(['sleep', '60'], env=ENV)",
    "a session": "subprocess.Popen(['sleep', '60'], env=ENV, start_new_session=True)",
    "an orphan": "subprocess.run(['sh', '-c', 'setsid sleep 60 &'], env=ENV)",
    "a fork": "os.fork() or time.sleep(60)",
}
SOURCE = """
import os, signal, subprocess, time
ENV = dict(os.environ, LEFT_BY={mark!r})
def score(prediction):
    {leaves}
    {ends}
"""


def attempts(seed: int, folder: Path) -> list[Attempt]:
    """Try every way to end with everything that can be left behind, in a random order."""
    every = [(end, left) for end in ENDS for left in LEAVES if end != "kills its guard" or left == "nothing"]
    order = np.random.default_rng(seed).permutation(len(every))
    return [_attempt(*every[place], folder / str(place)) for place in order]


def _attempt(end: str, left: str, folder: Path) -> Attempt:
    home = Home(folder).create()
    source = SOURCE.format(mark=str(folder), leaves=LEAVES[left], ends=ENDS[end])
    (home.metrics / "mine.py").write_text(source)
    own = {"metric": "own", "file": "mine", "max_seconds": 2, "max_memory_gib": 0.25}
    config = MetricsConfig.parse({"metrics": [own, "exact_match"]})
    rows = Answers(np.arange(ROWS), ["a"] * ROWS, ["a"] * ROWS)
    mine, exact = measure(config, rows, home, log=lambda text: None)
    name = f"it {end}, leaving {left}"
    if aggregate_scores(exact).value != 1:
        return Attempt(name, "another metric has no figure")
    scored = bool(np.isfinite(mine.scores).all())
    if scored != (end in ("returns",)) and end not in ("closes every file",):
        return Attempt(name, "it has a score" if scored else f"it has no score: {mine.failed}")
    if not scored and not mine.failed:
        return Attempt(name, "it failed without a word")
    return Attempt(name, f"{len(here)} processes are left" if (here := _left(str(folder))) else "")


def _left(mark: str) -> list[int]:
    here = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("LEFT_BY") == mark and process.status() != psutil.STATUS_ZOMBIE:
                here.append(process.pid)
    return here
