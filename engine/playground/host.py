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
GONE: ChatCommand = {"do": "stop", "id": ""}  # the engine disconnected


class _AnswerProgress:
    """An answer of a loaded model, and the progress of its reader."""

    def __init__(self, answer: LocalAnswer) -> None:
        self.answer, self.events = answer, answer.events()
        self.sent = self.taken = 0

    @property
    def rests(self) -> bool:
        return self.sent - self.taken >= MAX_READER_LAG


class Host:
    """Request loop of the process over its connection."""

    def __init__(self, job: WorkerJob, connection: socket.socket) -> None:
        self._job, self._connection = job, connection
        self._shelf = ModelCache(job)
        self._orders: queue.Queue[ChatCommand] = queue.Queue()
        self._turns: dict[str, _AnswerProgress] = {}
        self._remote: dict[str, RemoteAnswer] = {}
        self._writing = threading.Lock()

    def serve(self) -> None:
        """Serve requests until the engine disconnects."""
        threading.Thread(target=self._listen, name="orders", daemon=True).start()
        while True:
            for order in self._waiting():
                if order is GONE:
                    return
                self._obey(order)
            for answer_id, turns in list(self._turns.items()):
                if not turns.rests:
                    self._go_on(answer_id, turns)

    def _listen(self) -> None:
        with self._connection.makefile("rb") as lines:
            try:
                for line in lines:
                    self._orders.put(json.loads(line))
            except (OSError, ValueError):
                pass  # cut off in the middle of a line
        self._orders.put(GONE)

    def _waiting(self) -> Iterator[ChatCommand]:
        """Yield the requests received; block for the next one if there is nothing to generate."""
        working = [turns for turns in self._turns.values() if not turns.rests]
        try:
            if not working:
                yield self._orders.get(timeout=READER_POLL_SECONDS if self._turns else None)
            while True:
                yield self._orders.get_nowait()
        except queue.Empty:
            return

    def _obey(self, order: ChatCommand) -> None:
        answer_id = order["id"]
        if order["do"] == "taken":
            if turns := self._turns.get(answer_id):
                turns.taken = order["tokens"]
        elif order["do"] == "share":
            lower_priority(order["threads"])
        elif order["do"] == "stop":
            self._turns.pop(answer_id, None)
            if remote := self._remote.get(answer_id):
                remote.stop()
        else:
            try:
                self._begin(answer_id, order)
            except Exception as error:  # noqa: BLE001 (the border: one model's trouble is not the next one's)
                self._fail(answer_id, error)

    def _begin(self, answer_id: str, order: ChatCommand) -> None:
        choice = ChatModel.parse(order["model"])
        if choice.endpoint:
            policy = AddressPolicy.of(order.get("networks", ()), self._job.home)
            remote = RemoteAnswer(choice.endpoint, order["messages"], choice.sampling, policy)
            self._remote[answer_id] = remote
            threading.Thread(target=self._relay, args=(answer_id, remote), daemon=True).start()
            return
        if not self._shelf.holds(choice):
            self._send(answer_id, {"type": "loading"})
        in_use = [turns.answer.ready.weights for turns in self._turns.values()]
        ready = self._shelf.take(choice, in_use, order["label"], order.get("memory"))
        answer = LocalAnswer(ready, order["messages"], choice.sampling, self._job.device)
        self._turns[answer_id] = _AnswerProgress(answer)
        self._say_memory()

    def _go_on(self, answer_id: str, turns: _AnswerProgress) -> None:
        try:
            event = next(turns.events, None)
            if event is None:
                del self._turns[answer_id]
                return
            turns.sent += event["type"] == "token"
            self._send(answer_id, event)
        except Exception as error:  # noqa: BLE001 (the border)
            self._turns.pop(answer_id, None)
            self._fail(answer_id, error)

    def _relay(self, answer_id: str, remote: RemoteAnswer) -> None:
        try:
            for event in remote.events():
                self._send(answer_id, event)
        except Exception as error:  # noqa: BLE001 (the border)
            self._fail(answer_id, error)
        finally:
            del self._remote[answer_id]

    def _fail(self, answer_id: str, error: Exception) -> None:
        traceback.print_exception(error)  # to the log of this process
        document = describe_error(error)
        document.pop("traceback", None)
        self._send(answer_id, {"type": "failed", "error": document})

    def _say_memory(self) -> None:
        gpu = torch.cuda.memory_allocated() if self._job.device.startswith("cuda") else 0
        self._write({"id": "", "type": "alive", "gpu_bytes": gpu, "loaded": self._shelf.names})

    def _send(self, answer_id: str, event: ChatEvent) -> None:
        self._write({"id": answer_id, **event})

    def _write(self, event: HostEvent) -> None:
        line = json.dumps(event, ensure_ascii=True, allow_nan=False).encode() + b"\n"
        try:
            with self._writing:
                self._connection.sendall(line)
        except OSError:
            self._orders.put(GONE)


def lower_priority(threads: int) -> None:
    """Limit the process to `threads` threads at lower priority, so that a run goes first.

    Threads started later inherit the priority.
    """
    torch.set_num_threads(threads)
    tasks = Path("/proc/self/task")
    own = [int(task.name) for task in tasks.iterdir()] if tasks.exists() else [0]
    for task in own:
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
