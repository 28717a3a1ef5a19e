"""Parts of the gateway alone: files of the log, places, ids, cuts of a stream, what is taken out of texts."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.serving.gateway.answer_reading import AnswerObserver, EventSplitter
from engine.serving.gateway.api_keys import ApiKeys, restore_usage
from engine.serving.gateway.backend_processes import Slots
from engine.serving.gateway.call import Call
from engine.serving.gateway.log_files import DAY, LogFiles, RequestIds
from engine.serving.gateway.redaction import redact
from engine.serving.gateway.request_bodies import Refusal, estimate_prompt_tokens
from engine.serving.gateway.routing import HourCounts
from engine.serving.protocol.answers import LogprobTally, parse_tally
from store.serving.schemas import EndpointState, KeyUse, LastHour
from tests.unit.store_samples import row_of


def test_files_go_on_where_they_were_and_begin_anew_when_full(tmp_path: Path) -> None:
    files = LogFiles(tmp_path, "requests", file_bytes=60)
    for n in range(5):
        assert files.append({"n": n, "text": "x" * 20})
    files.close()
    assert len(list(tmp_path.iterdir())) == 5
    with open(tmp_path / "requests-000005.jsonl", "ab") as torn:
        torn.write(b'{"n": 5, "te')  # a kill amid a write
    again = LogFiles(tmp_path, "requests", file_bytes=1000)
    again.append({"n": 6})
    lines = [
        json.loads(line) for path in sorted(tmp_path.iterdir()) for line in path.read_text().splitlines()
    ]
    assert [line["n"] for line in lines] == [0, 1, 2, 3, 4, 6]
    os.utime(tmp_path / "requests-000001.jsonl", (0, 0))
    again.remove_old(30)
    assert not (tmp_path / "requests-000001.jsonl").exists()


def test_a_file_goes_on_for_a_day_so_that_old_lines_go(tmp_path: Path) -> None:
    day = 24 * 3600.0
    files = LogFiles(tmp_path, "requests")
    files.append({"at": 1000.0})
    files.remove_old(30, now=1000.0 + 0.9 * day)
    assert [path.name for path in tmp_path.iterdir()] == ["requests-000001.jsonl"]
    files.remove_old(30, now=1000.0 + 1.1 * day)
    files.append({"at": 1000.0 + 2 * day})
    os.utime(tmp_path / "requests-000001.jsonl", (1000, 1000))
    files.remove_old(30, now=1000.0 + 2.5 * day)
    assert len(list(tmp_path.iterdir())) == 2
    files.remove_old(30, now=1000.0 + 31 * day)
    assert "requests-000001.jsonl" not in {path.name for path in tmp_path.iterdir()}


def test_a_full_disk_costs_lines_and_no_half_ones(tmp_path: Path) -> None:
    room = 30

    def write(file: int, line: bytes) -> int:
        if len(line) <= room:
            return os.write(file, line)
        if room:
            return os.write(file, line[:room])  # as a disk that fills up does
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files = LogFiles(tmp_path, "requests", write=write)
    assert files.append({"n": 1})
    assert not files.append({"n": 2, "text": "x" * 100})
    room = 0
    assert not files.append({"n": 3})
    assert (files.lines, files.lost, files.error) == (1, 2, "No space left on device")
    room = 1000
    assert files.append({"n": 4})
    assert [
        json.loads(line)["n"] for line in (tmp_path / "requests-000001.jsonl").read_text().splitlines()
    ] == [1, 4]


def _line(
    at: float, key_id: str | None = "k", tokens: int = 10, error: str | None = None
) -> dict[str, object]:
    return {"at": at, "seconds": 2.0, "key_id": key_id, "tokens": tokens, "error": error}


def test_what_keys_used_is_as_it_was_told_and_what_came_after(tmp_path: Path) -> None:
    day = 20_000 * DAY
    files = LogFiles(tmp_path, "requests", file_bytes=300)
    files.append(_line(day + 100))
    last_use = KeyUse(key_id="k", day="2024-10-04", tokens=10, requests=2, used_at=day + 101)
    before = row_of(EndpointState, at=day + 101, keys=[last_use], counted=files.position)
    files.append(_line(day + 100.5, tokens=7))  # under way then: counted as a request, its tokens not yet
    files.append(_line(day + 102, error="requests_per_minute", tokens=0))
    for line in (_line(day + 103), _line(day + 104, key_id=None), _line(day + 105, key_id="other")):
        files.append(line)
    assert len(list(tmp_path.iterdir())) > 1, "the log goes on in the next file"
    used = {use.key_id: use for use in restore_usage(before, files, day + 106)}
    assert used["k"] == replace(last_use, tokens=27, requests=3, used_at=day + 103)
    assert (used["other"].tokens, used["other"].requests) == (10, 1)
    assert last_use.tokens == 10, "what was told is not changed"
    anew = {use.key_id: use.tokens for use in restore_usage(None, files, day + 106)}
    assert anew == {"k": 27, "other": 10}
    tomorrow = {use.key_id: use.day for use in restore_usage(before, files, day + DAY + 1)}
    assert tomorrow == {"k": "2024-10-04"}, "yesterday's lines count for nothing"
    old = replace(before, counted=None)
    assert restore_usage(old, files, day + 106) == [last_use]


def test_what_keys_used_is_told_as_it_was(tmp_path: Path) -> None:
    keys = ApiKeys(tmp_path / "keys.json", clock=lambda: 20_000 * DAY + 100.0)
    key: Any = {"key_id": "k"}
    keys.settle_tokens(key, 0, 5)
    (before,) = keys.list_usage()
    keys.settle_tokens(key, 0, 7)  # while what was told is being written, and stands in the log after it
    assert before.tokens == 5


def test_a_log_that_is_none_keeps_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "requests-000001.jsonl").write_text('{"key_id": "k"}\nno line\n')
    assert restore_usage(None, LogFiles(tmp_path, "requests"), time.time()) == []


def test_places_go_to_requests_before_copies() -> None:
    async def played() -> list[str]:
        slots, order = Slots(1, queue=2), []

        async def hold(name: str, low: bool = False) -> None:
            await slots.acquire(low_priority=low)
            order.append(name)
            await asyncio.sleep(0)
            slots.release(0.1)

        await slots.acquire()
        tasks = [asyncio.create_task(hold("copy", low=True)), asyncio.create_task(hold("first"))]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(hold("second")), asyncio.create_task(hold("gone"))]
        await asyncio.sleep(0)
        assert isinstance(tasks[3].exception(), Refusal)  # only two may wait
        tasks[2].cancel()
        slots.release()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (slots.running, slots.waiting) == (0, 0)
        return order

    assert asyncio.run(played()) == ["first", "copy"]


def test_an_id_tells_whose_it_is(tmp_path: Path) -> None:
    ids = RequestIds(tmp_path)
    made = ids.create("chat")
    assert RequestIds(tmp_path).verify(made)
    assert not ids.verify(made[:-1] + ("0" if made[-1] != "0" else "1"))
    assert not ids.verify("")
    assert not ids.verify("chatcmpl-ü")
    other = tmp_path / "other"
    other.mkdir()
    assert not RequestIds(other).verify(made)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_events_are_whole_wherever_a_stream_was_cut(size: int) -> None:
    stream = b': hello\n\ndata: {"a": 1}\n\ndata: {"b":\ndata: 2}\n\ndata: [DONE]\n\n'
    splitter = EventSplitter()
    pieces = [stream[place : place + size] for place in range(0, len(stream), size)]
    events = [event for piece in pieces for event in splitter.split(piece)]
    assert events == [b'{"a": 1}', b'{"b":\n2}', b"[DONE]"]
    windows, splitter = stream.replace(b"\n", b"\r\n"), EventSplitter()
    pieces = [windows[place : place + size] for place in range(0, len(windows), size)]
    assert [event for piece in pieces for event in splitter.split(piece)] == events


@pytest.mark.parametrize("size", [1, 1000])
def test_what_is_told_beside_an_event_is_known_with_it(size: int) -> None:
    stream = b': logprobs -1.5 2\ndata: {"a": 1}\n\ndata: {"b": 2}\n\n: logprobs -4.5 3 1\ndata: {"c": 3}\n\n'
    splitter = EventSplitter()
    pairs = [
        (event, splitter.tally)
        for place in range(0, len(stream), size)
        for event in splitter.split(stream[place : place + size])
    ]
    assert pairs == [(b'{"a": 1}', (-1.5, 2, 0)), (b'{"b": 2}', (-1.5, 2, 0)), (b'{"c": 3}', (-4.5, 3, 1))]


@pytest.mark.parametrize(
    "words", ["", "-1.5", "nan 3", "-inf 3", "-1 0", "-1 -2", "a b", "1e999 1", "-1 2 3 4", "-1 2 -1"]
)
def test_a_tally_that_is_none_says_nothing(words: str) -> None:
    assert parse_tally(words) is None
    assert parse_tally(LogprobTally(-0.1, 3, 2).to_text()) == (-0.1, 3, 2)


def test_what_is_read_of_an_answer() -> None:
    seen = AnswerObserver()
    logprobs = {"content": [{"token": "a", "logprob": -1.0}, {"token": "b", "logprob": -2.0}]}
    seen.read({"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": logprobs}]})
    seen.read({"choices": [{"index": 1, "delta": {"content": "other"}}, "odd", {"index": 0, "delta": None}]})
    seen.read({"choices": None, "usage": {"prompt_tokens": 3, "completion_tokens": True}})
    assert (seen.output, seen.mean_logprob, seen.total_tokens) == ("a", -1.5, 3)


@pytest.mark.parametrize(
    "odd",
    [
        {"choices": [{"message": "hi"}]},
        {"choices": [{"delta": ["hi"], "logprobs": {"content": 3, "token_logprobs": "no"}}]},
        {"choices": [{"logprobs": {"token_logprobs": [10**400, float("nan")]}}]},
        {"usage": {"prompt_tokens": -5, "completion_tokens": 2**40}},
        {"label": "a", "confidence": True},
    ],
)
def test_an_odd_answer_leaves_gaps(odd: dict[str, object]) -> None:
    seen = AnswerObserver()
    seen.read(odd)
    assert (seen.output, seen.mean_logprob, seen.total_tokens or 0, seen.confidence) == ("", None, 0, None)


def test_a_yes_or_no_is_a_label_unless_it_abstained() -> None:
    no, unsure = AnswerObserver(), AnswerObserver()
    no.read({"answers": {"q": {"type": "noul", "noul": 0.25}}})
    unsure.read({"answers": {"q": {"type": "noul", "noul": 0.5, "abstained": True, "coverage": 0.1}}})
    assert (no.label, no.confidence, no.abstained) == ("false", 0.75, False)
    assert (unsure.label, unsure.abstained) == (None, True)


def test_personal_data_goes_from_every_text() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "I am at ada@example.org"}]}]
    kept, places = redact(messages)
    assert (kept[0]["content"][0]["text"], places) == ("I am at [EMAIL]", 1)


def test_the_last_hour_forgets_what_is_older() -> None:
    now = 0.0
    hour = HourCounts(lambda: now)
    hour.add(200, 0.1, 5)
    now = 3000.0
    hour.add(503, 1.0, 0)
    hour.add(429, 0.0, 0)
    assert replace(hour.build_state(), p95_seconds=0) == LastHour(
        requests=3, errors=1, refused=1, tokens=5, p95_seconds=0, n=1
    )
    now = 4000.0
    assert (hour.build_state().requests, hour.build_state().n) == (2, 0)


def test_a_call_of_a_function_that_is_cut_is_charged_by_what_was_told_of_it() -> None:
    """None of its text leaves before it is whole."""

    async def tokens(tally: LogprobTally | None) -> int:
        call = Call("e", "r", "chat")
        call.body = body
        call.observer.read({"choices": [{"index": 0, "delta": {}}]})
        call.observer.tally = tally
        return call.tokens

    body: Any = {"messages": [{"role": "user", "content": "x" * 400}]}
    assert asyncio.run(tokens(None)) == 0
    assert asyncio.run(tokens(LogprobTally(-1.0, 40))) == 40 + estimate_prompt_tokens(body)
