"""The host process of the playground: keeps models loaded and answers requests over a Unix socket.

Requests and events are one per line. The process belongs to the engine that started it: it ends with the
connection, however the engine ended, and the engine may kill it at any time, because it has no state to
lose. Concurrent answers take turns of one token each, so that several stream at once and each stops within
a token of the request. An answer pauses while its reader lags behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from engine.playground.answers import LocalAnswer, RemoteAnswer
from engine.playground.model_cache import ModelCache
from engine.worker.job import WorkerJob
from engine.worker.process import describe_error
from store.core.address_policy import AddressPolicy
from store.playground.config import ChatModel
from store.playground.schemas import ChatCommand, ChatEvent, HostEvent

NICENESS_BESIDE_RUN = 5  # niceness: a thread gets a third of the time of a run's thread
AUTOGROUP = Path("/proc/self/autogroup")  # Linux schedules by autogroup if each session has its own
MAX_READER_LAG = 64  # tokens that a reader may be behind
READER_POLL_SECONDS = 0.05  # seconds to wait for a reader
DISCONNECTED: ChatCommand = {"do": "stop", "id": ""}  # the engine disconnected


class _AnswerProgress:
    """An answer of a loaded model, and the progress of its reader."""

    def __init__(self, answer: LocalAnswer) -> None:
        self.answer, self.events = answer, answer.stream_events()
        self.sent = self.acknowledged = 0

    @property
    def is_paused(self) -> bool:
        return self.sent - self.acknowledged >= MAX_READER_LAG


class Host:
    """Request loop of the process over its connection."""

    def __init__(self, job: WorkerJob, connection: socket.socket) -> None:
        self._job, self._connection = job, connection
        self._cache = ModelCache(job)
        self._commands: queue.Queue[ChatCommand] = queue.Queue()
        self._answers: dict[str, _AnswerProgress] = {}
        self._remote: dict[str, RemoteAnswer] = {}
        self._writing = threading.Lock()

    def serve(self) -> None:
        """Serve requests until the engine disconnects."""
        threading.Thread(target=self._receive, name="orders", daemon=True).start()
        while True:
            for command in self._list_commands():
                if command is DISCONNECTED:
                    return
                self._execute(command)
            for answer_id, progress in list(self._answers.items()):
                if not progress.is_paused:
                    self._advance(answer_id, progress)

    def _receive(self) -> None:
        with self._connection.makefile("rb") as lines:
            try:
                for line in lines:
                    self._commands.put(json.loads(line))
            except (OSError, ValueError):
                pass  # cut off in the middle of a line
        self._commands.put(DISCONNECTED)

    def _list_commands(self) -> Iterator[ChatCommand]:
        """Yield the requests received; block for the next one if there is nothing to generate."""
        working = [progress for progress in self._answers.values() if not progress.is_paused]
        try:
            if not working:
                yield self._commands.get(timeout=READER_POLL_SECONDS if self._answers else None)
            while True:
                yield self._commands.get_nowait()
        except queue.Empty:
            return

    def _execute(self, command: ChatCommand) -> None:
        answer_id = command["id"]
        if command["do"] == "taken":
            if progress := self._answers.get(answer_id):
                progress.acknowledged = command["tokens"]
        elif command["do"] == "share":
            lower_priority(command["threads"])
        elif command["do"] == "stop":
            self._answers.pop(answer_id, None)
            if remote := self._remote.get(answer_id):
                remote.stop()
        else:
            try:
                self._start_answer(answer_id, command)
            except Exception as error:  # noqa: BLE001 (the border: one model's trouble is not the next one's)
                self._send_failure(answer_id, error)

    def _start_answer(self, answer_id: str, command: ChatCommand) -> None:
        choice = ChatModel.parse(command["model"])
        if choice.endpoint:
            policy = AddressPolicy.of(command.get("networks", ()), self._job.home)
            remote = RemoteAnswer(choice.endpoint, command["messages"], choice.sampling, policy)
            self._remote[answer_id] = remote
            threading.Thread(target=self._forward_remote, args=(answer_id, remote), daemon=True).start()
            return
        if not self._cache.contains(choice):
            self._send(answer_id, {"type": "loading"})
        in_use = [progress.answer.ready.weights for progress in self._answers.values()]
        ready = self._cache.get(choice, in_use, command["label"], command.get("memory"))
        answer = LocalAnswer(ready, command["messages"], choice.sampling, self._job.device)
        self._answers[answer_id] = _AnswerProgress(answer)
        self._report_memory()

    def _advance(self, answer_id: str, progress: _AnswerProgress) -> None:
        try:
            event = next(progress.events, None)
            if event is None:
                del self._answers[answer_id]
                return
            progress.sent += event["type"] == "token"
            self._send(answer_id, event)
        except Exception as error:  # noqa: BLE001 (the border)
            self._answers.pop(answer_id, None)
            self._send_failure(answer_id, error)

    def _forward_remote(self, answer_id: str, remote: RemoteAnswer) -> None:
        try:
            for event in remote.stream_events():
                self._send(answer_id, event)
        except Exception as error:  # noqa: BLE001 (the border)
            self._send_failure(answer_id, error)
        finally:
            del self._remote[answer_id]

    def _send_failure(self, answer_id: str, error: Exception) -> None:
        traceback.print_exception(error)  # to the log of this process
        document = describe_error(error)
        document.pop("traceback", None)
        self._send(answer_id, {"type": "failed", "error": document})

    def _report_memory(self) -> None:
        gpu = torch.cuda.memory_allocated() if self._job.device.startswith("cuda") else 0
        self._write({"id": "", "type": "alive", "gpu_bytes": gpu, "loaded": self._cache.labels})

    def _send(self, answer_id: str, event: ChatEvent) -> None:
        self._write({"id": answer_id, **event})

    def _write(self, event: HostEvent) -> None:
        line = json.dumps(event, ensure_ascii=True, allow_nan=False).encode() + b"\n"
        try:
            with self._writing:
                self._connection.sendall(line)
        except OSError:
            self._commands.put(DISCONNECTED)


def lower_priority(threads: int) -> None:
    """Limit the process to `threads` threads at lower priority, so that a run goes first.

    Threads started later inherit the priority.
    """
    torch.set_num_threads(threads)
    tasks = Path("/proc/self/task")
    thread_ids = [int(task.name) for task in tasks.iterdir()] if tasks.exists() else [0]
    for task in thread_ids:
        with contextlib.suppress(ProcessLookupError):  # the thread has ended
            os.setpriority(os.PRIO_PROCESS, task, NICENESS_BESIDE_RUN)
    with contextlib.suppress(OSError):  # the kernel has no autogroups
        AUTOGROUP.write_text(str(NICENESS_BESIDE_RUN))


def run(job: WorkerJob) -> dict[str, Any]:
    """Serve until the engine disconnects. config: `socket`, the path at which the engine listens."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(job.config["socket"])
    with connection:
        Host(job, connection).serve()
    return {}
