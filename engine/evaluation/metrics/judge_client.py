"""Concurrent client for chat completions over the OpenAI protocol, with a budget.

Requests that may succeed later (429, 5xx, no connection, a timeout) are retried, after an increasing pause or
the one that the server names. The timeout covers the whole response, however slowly it arrives, and so does
the size limit; stopping cancels the requests in progress. If the endpoint fails for several questions in a
row, or rejects the key or the model, no more requests are sent: the remaining questions get the reason at
once. Replies are cached in the home folder by request, so that repeating the same evaluation costs nothing.
The key is read when needed, and is removed from everything that a server returns.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import stat
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from store.core.address_policy import AddressPolicy
from store.core.addresses import split_host_and_port
from store.core.errors import ConfigError
from store.core.job_folder import read_json, write_json
from store.core.metric_options import Endpoint
from store.http.outgoing import create_checked_async_client

MAX_CONSECUTIVE_FAILURES = 5  # unanswered questions in a row, after which no more are sent
FIRST_PAUSE = 0.5  # seconds, doubled after each try
MAX_PAUSE = 30.0
EXCERPT_LENGTH = 200
MAX_ANSWER_BYTES = 1_000_000
POLL_SECONDS = 0.2  # seconds between checks whether to stop
STOPPED = "it was stopped"

Messages = list[dict[str, str]]


@dataclass
class Reply:
    """Reply to a question: the text, or why there is none. `cached`: no request was sent."""

    text: str = ""
    problem: str = ""
    cached: bool = False


@dataclass(frozen=True)
class ChatRequest:
    """Body of a chat completion request, with all fields to send to the endpoint."""

    body: dict[str, Any]

    def digest(self, base_url: str) -> str:
        """Return a hash that identifies the request at this address."""
        asked = json.dumps([base_url, self.body], sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(asked.encode()).hexdigest()


class JudgeClient:
    """Client of one endpoint, subject to the address policy."""

    def __init__(self, endpoint: Endpoint, policy: AddressPolicy, cache: Path | None = None) -> None:
        self.endpoint, self.cache, self._policy = endpoint, cache, policy
        self.calls = 0
        self.closed = ""  # why no more requests are sent
        self._away = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._key = read_api_key(endpoint)
        self._http = create_checked_async_client(
            endpoint.base_url, policy, endpoint.timeout, endpoint.concurrency
        )
        self._pool = ThreadPoolExecutor(endpoint.concurrency, thread_name_prefix="judge")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="judge loop", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Cancel requests in progress and close the connections."""
        self._stop.set()
        asyncio.run_coroutine_threadsafe(self._end_posts(), self._loop).result()
        self._pool.shutdown(cancel_futures=True)
        asyncio.run_coroutine_threadsafe(self._http.aclose(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end_posts(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def ask(
        self,
        questions: Sequence[Messages],
        accept: Callable[[str], bool],
        check: Callable[[int], None] = lambda done: None,
    ) -> list[Reply]:
        """Return a reply to each question. Only texts that `accept` approves are cached; `check(questions
        done)` is called after each and a few times a second, and may raise to stop.

        Raises ConfigError if the address is refused.
        """
        with suppress(OSError):  # a name that can't be resolved is reported for each question
            self._policy.places(*split_host_and_port(self.endpoint.base_url), field="base_url")
        try:
            replies = [self._pool.submit(self._ask_accepted, messages, accept) for messages in questions]
            return _collect_replies(replies, check)
        except BaseException:
            self.closed = self.closed or STOPPED
            self._stop.set()
            raise

    def _ask_accepted(self, messages: Messages, accept: Callable[[str], bool]) -> Reply:
        request = self._request(messages)
        place = self._place(request)
        if place is not None and isinstance(kept := _read_cached(place), str):
            return Reply(kept, cached=True)
        text, problem = self._tried(request)
        if not problem and place is not None and accept(text):
            place.parent.mkdir(parents=True, exist_ok=True)
            write_json(place, {"text": text})
        return Reply(text, problem)

    def _request(self, messages: Messages) -> ChatRequest:
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": self.endpoint.max_tokens,
        }
        if self.endpoint.json_mode:
            body["response_format"] = {"type": "json_object"}
        sent = {name: value for name, value in (body | self.endpoint.extra).items() if value is not None}
        return ChatRequest(sent)

    def _place(self, request: ChatRequest) -> Path | None:
        if self.cache is None:
            return None
        name = request.digest(self.endpoint.base_url)
        return self.cache / name[:2] / f"{name}.json"

    def _tried(self, request: ChatRequest) -> tuple[str, str]:
        """Return (text, problem) after up to the allowed number of tries."""
        problem = ""
        for attempt in range(self.endpoint.retries + 1):
            if closed := self._spend():
                return "", problem or closed
            text, problem, again = self._sent(request)
            if again is None:
                self._answered(problem)
                return text, problem
            if attempt < self.endpoint.retries:
                self._stop.wait(again or min(MAX_PAUSE, FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1))
        self._unanswered(problem)
        return "", problem

    def _spend(self) -> str:
        """Take one call from the budget; return why there is none left, otherwise an empty string."""
        with self._lock:
            if not self.closed and self.calls >= self.endpoint.max_calls:
                self.closed = f"the budget of {self.endpoint.max_calls:,} calls is spent"
            if not self.closed:
                self.calls += 1
            return self.closed

    def _answered(self, problem: str) -> None:
        with self._lock:
            self._away = 0
            # wrong key, model or address: every other question would fail the same way
            permanent = problem.startswith(("HTTP 401", "HTTP 403", "HTTP 404", "HTTP 405", "HTTP 3"))
            if permanent and not self.closed:
                self.closed = problem

    def _unanswered(self, problem: str) -> None:
        with self._lock:
            self._away += 1
            if self._away >= MAX_CONSECUTIVE_FAILURES and not self.closed:
                self.closed = f"the judge was given up after {self._away} questions in a row: {problem}"

    def _sent(self, request: ChatRequest) -> tuple[str, str, float | None]:
        """Return (text, problem, None), or ("", problem, pause before the next try; 0 for the
        default one).
        """
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        posted = asyncio.run_coroutine_threadsafe(self._post(request, headers), self._loop)
        try:
            answer = posted.result()
        except CancelledError:
            return "", STOPPED, None
        except (httpx.TimeoutException, TimeoutError):
            return "", f"no answer within {self.endpoint.timeout:g} seconds", 0.0
        except ConfigError as error:  # the address resolves differently than for the first question
            self.closed = self.closed or self._clean(str(error))
            return "", self.closed, None
        except httpx.RequestError as error:
            return "", self._clean(f"no connection ({type(error).__name__}: {error})"), 0.0
        if answer.status_code == 429 or answer.status_code >= 500:
            return "", self._clean(f"HTTP {answer.status_code}: {answer.text}"), _parse_retry_after(answer)
        if answer.status_code != 200:
            return "", self._clean(f"HTTP {answer.status_code}: {answer.text}"), None
        return (*self._content(answer), None)

    async def _post(self, request: ChatRequest, headers: dict[str, str]) -> httpx.Response:
        """Return the whole response; timeout and size limit apply to all of it."""
        if self._stop.is_set():
            raise asyncio.CancelledError
        address = f"{self.endpoint.base_url}/chat/completions"
        async with (
            asyncio.timeout(self.endpoint.timeout),
            self._http.stream("POST", address, json=request.body, headers=headers) as answer,
        ):
            parts, size = [], 0
            async for part in answer.aiter_bytes():
                parts.append(part)
                size += len(part)
                if size > MAX_ANSWER_BYTES:
                    break
        kept = {name: answer.headers[name] for name in ("Retry-After",) if name in answer.headers}
        return httpx.Response(answer.status_code, headers=kept, content=b"".join(parts))

    def _content(self, answer: httpx.Response) -> tuple[str, str]:
        """Return (text, problem) of a response with status 200."""
        if len(answer.content) > MAX_ANSWER_BYTES:
            return "", f"an answer of over {MAX_ANSWER_BYTES:,} bytes"
        try:
            text = answer.json()["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            return "", self._clean(f"no chat completion: {answer.text}")
        return (self._without_key(text), "") if isinstance(text, str) else ("", "an answer without text")

    def _clean(self, text: str) -> str:
        return " ".join(self._without_key(text).split())[:EXCERPT_LENGTH]

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text


def _collect_replies(replies: Sequence[Future[Reply]], check: Callable[[int], None]) -> list[Reply]:
    """Collect the replies in order; `check` is called with the number collected."""
    gathered: list[Reply] = []
    for reply in replies:
        while not reply.done():
            wait([reply], POLL_SECONDS)
            check(len(gathered))
        gathered.append(reply.result())
        check(len(gathered))
    return gathered


def _parse_retry_after(answer: httpx.Response) -> float:
    try:
        return max(0.0, min(MAX_PAUSE, float(answer.headers.get("Retry-After", 0))))
    except ValueError:
        return 0.0


def _read_cached(place: Path) -> Any:
    try:
        document = read_json(place)
    except ValueError:  # truncated file
        return None
    return document.get("text") if isinstance(document, dict) else None


def read_api_key(endpoint: Endpoint) -> str:
    """Return the key, or "" if none is named. Raises ConfigError naming the field, never the key."""
    if endpoint.key_env:
        key = os.environ.get(endpoint.key_env, "").strip()
        if not key:
            raise ConfigError(
                f"The environment variable {endpoint.key_env} is not set where the engine runs.",
                fix="Set it before the engine is started, or name a key_file.",
                field="key_env",
            )
        return _check_header(key, "key_env")
    if not endpoint.key_file:
        return ""
    path = Path(endpoint.key_file).expanduser()
    try:
        with open(path, encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            key = file.read(10_000).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The key can't be read from {path}.", field="key_file") from error
    if mode & 0o077:
        raise ConfigError(
            f"{path} can be read by others (mode {mode:04o}).",
            fix=f"Run chmod 600 {path}, and replace a key that others may have seen.",
            field="key_file",
        )
    return _check_header(key, "key_file")


def _check_header(key: str, field: str) -> str:
    if not key or not key.isascii() or not key.isprintable():
        raise ConfigError(f"What {field} names is empty or no key.", field=field)
    return key
