"""A process that has imported torch and transformers and forks itself for every job.

`python -m engine.server.zygote` reads one JSON object per line from stdin, {"path": job folder}, and writes
one per line to stdout: {"ready": …} once, then {"started": path, "pid": …} and {"ended": path, "pid": …,
"code": …}. So a job starts in milliseconds. It ends when stdin does (the engine is gone); its children have
sessions of their own and continue.

Invariant: nothing before the fork may run a parallel region or initialise CUDA. GNU OpenMP hangs in a child
whose parent has a thread pool, and CUDA can't be used after a fork. That is why peft, which imports
bitsandbytes, which queries every GPU's capability, is left out if there is a GPU.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from engine.worker import process
from engine.worker.machine_load import pause_garbage_collection
from store.core.job_kinds import JOB_KINDS

FORK_SAFE = ("numpy", "pandas", "pyarrow.parquet", "torch", "transformers", "accelerate")
WITHOUT_GPU = (
    "peft",
    "transformers.models.llama.modeling_llama",
    *sorted({kind.module for kind in JOB_KINDS.values()}),
)


def preload() -> list[str]:
    """Import what jobs need; return the names of modules that failed to import, each with the reason."""
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # so that checking for a GPU does not initialise CUDA
    for name in FORK_SAFE:
        importlib.import_module(name)
    import torch

    if torch.cuda.is_available():
        return []
    problems = []
    for name in WITHOUT_GPU:
        try:
            importlib.import_module(name)
        except ImportError as error:  # the job that needs it will fail with the reason
            problems.append(f"{name}: {error}")
    if not problems:
        _rehearse()
    return problems


def _rehearse() -> None:
    """Rehearse once, so that a preview's first rehearsal is fast; on one thread, which leaves no pool."""
    import torch

    from engine.training.costs import footprint

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    footprint.warm_up_rehearsal()
    torch.set_num_threads(threads)


def report(**document: Any) -> None:
    """Write one line to the launcher, in a single write; ignored if the engine was killed."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(document).encode() + b"\n")


def fork(path: str) -> int:
    """Start a worker for the job folder `path` in a session of its own; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        _reset_child_process()
        code = process.main([path])
    finally:  # errors go to the job's log, and the child never returns into its parent's loop
        if sys.exc_info()[1] is not None:
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _reset_child_process() -> None:
    """Undo what only the parent needs: signal handlers, stdin, the shared random state, torch's pool.

    In a fork, torch replaces its thread pool at the first use, without a lock: of two threads of the first
    parallel region one may find none ("Invalid thread pool!"). So it is used here, while there is one thread.
    """
    import torch

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    random.seed()
    torch.set_num_threads(torch.get_num_threads())


def make_reaper(running: dict[int, str]) -> Callable[..., None]:
    """Return a SIGCHLD handler that reaps ended children and reports their exit codes."""

    def reap(*_: object) -> None:
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            report(ended=running.pop(pid), pid=pid, code=os.waitstatus_to_exitcode(status))

    return reap


def serve() -> None:
    """Fork for every line of stdin until it ends."""
    running: dict[int, str] = {}
    signal.signal(signal.SIGCHLD, make_reaper(running))
    for line in sys.stdin:
        path = json.loads(line)["path"]
        # Blocked until the child is recorded, so that "ended" can't come before "started".
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = fork(path)
        running[pid] = path
        report(started=path, pid=pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def main() -> int:
    """Import, then serve. Returns 3 if an import initialised CUDA, so that no fork could use the GPU."""
    began = time.monotonic()
    with pause_garbage_collection():
        problems = preload()
        gc.freeze()  # keeps the pages of imported modules shared with the children
    import torch

    if torch.cuda.is_initialized():
        print("An import initialised CUDA; jobs start as fresh processes instead.", file=sys.stderr)
        return 3
    report(ready=True, seconds=round(time.monotonic() - began, 2), problems=problems)
    serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
