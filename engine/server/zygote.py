"""A process that has torch and transformers imported and forks itself for every job.

`python -m engine.server.zygote` reads one JSON object a line from stdin, {"path": job folder}, and
writes one a line to stdout: {"ready": …} once, then {"started": path, "pid": …} and {"ended": path,
"pid": …, "code": …}. A job so starts in milliseconds. It ends when stdin does (the engine is gone); its
children are sessions of their own and go on.

Invariant: nothing before the fork may run a parallel region or initialise CUDA. GNU OpenMP hangs in a
child whose parent has a pool of threads, and CUDA can't be used after a fork. That is why peft, which
imports bitsandbytes, which asks every GPU for its capability, is left out where there is a GPU.
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
    """Import what jobs need; the names of modules that could not be imported, each with its reason."""
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # so that asking for a GPU does not initialise CUDA
    for name in FORK_SAFE:
        importlib.import_module(name)
    import torch

    if torch.cuda.is_available():
        return []
    problems = []
    for name in WITHOUT_GPU:
        try:
            importlib.import_module(name)
        except ImportError as error:  # the job that needs it will fail, and say why
            problems.append(f"{name}: {error}")
    if not problems:
        _rehearse()
    return problems


def _rehearse() -> None:
    """So that a preview's first rehearsal is not its process's first; on one thread, which leaves no pool."""
    import torch

    from engine.training.costs import footprint

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    footprint.warm_up_rehearsal()
    torch.set_num_threads(threads)


def report(**document: Any) -> None:
    """One line to the launcher, in a single write; to nobody where the engine was killed."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(document).encode() + b"\n")


def fork(path: str) -> int:
    """Start a worker for the job folder `path` in a session of its own; its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        _reset_child_process()
        code = process.main([path])
    finally:  # an error shows in the job's log, and the child never returns into the loop of its parent
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
    """A SIGCHLD handler that takes ended children and reports how each ended."""

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
        # Held back until the child is noted, so that "ended" can't come before "started".
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = fork(path)
        running[pid] = path
        report(started=path, pid=pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def main() -> int:
    """Import, then serve. 3: an import initialised CUDA, so that no fork could use the GPU."""
    began = time.monotonic()
    with pause_garbage_collection():
        problems = preload()
        gc.freeze()  # leaves the pages of imported modules shared with the children
    import torch

    if torch.cuda.is_initialized():
        print("An import initialised CUDA; jobs start as fresh processes instead.", file=sys.stderr)
        return 3
    report(ready=True, seconds=round(time.monotonic() - began, 2), problems=problems)
    serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
