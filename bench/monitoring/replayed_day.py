"""Alerts raised by a replayed day of an endpoint: expected ones, their hour, and unexpected ones.

python bench/monitoring/replayed_day.py [--seeds 3] [--only NAME]

A day of requests is written to a log half an hour at a time; the engine's own steps ingest it, measure it,
test it and raise alerts in a store, in accelerated time. Requests come and responses take longer by day
than by night, responses differ a hundredfold in length, the first are slow as the model was just loaded,
and half a percent fails. From 14:00 on something is different, or nothing is; failures are counted until
the end of the next day, as a reference of 300 leaves their share uncertain. Prints each alert as it came,
and exits with 1 if an expected one is missing, or there is another.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.made.monitored import Monitored
from bench.made.request_log import Traffic, append, request_lines
from bench.made.shapes.draws import draw_lengths
from engine.monitoring.text import format_time
from store.jobs import job_queue
from store.monitoring import monitor_alerts, monitors
from store.monitoring.config import MonitorSettings
from store.serving.schemas import RequestLine

ENDPOINT = "endpoint-1"
MIDNIGHT = 20_833 * 86_400.0
DAY, SLICE = 86_400.0, 1_800.0
REQUESTS = 3_000  # requests per day
CHANGE = 14 * 3_600.0
EVALUATED = "job-evaluated"
_BANK = ("Why was my {} declined?", "How do I change the {} of my account?", "When will my {} arrive?",
         "I was charged twice for a {}, please help", "Can I cancel a {} from the app?")  # fmt: skip
_THINGS = ("card", "bank transfer", "cash withdrawal", "direct debit", "top up", "refund", "virtual card")
_KITCHEN = ("For how many minutes do I have to boil {} when I cook for six on an old gas stove?",
            "My {} always burns at the bottom of the pan, what could I do to keep the heat lower next time?",
            "Which herbs and which wine would you serve with {} at a dinner outside?")  # fmt: skip
_FOODS = ("red lentils", "fish soup", "rice pudding", "roast potatoes", "pumpkin curry", "mushroom risotto")


@dataclass(frozen=True)
class ReplayedDay:
    """Changes from CHANGE on, and the alerts expected, by kind and subject."""

    name: str
    slower: float = 1.0
    failing: float = 0.005
    kitchen: float = 0.0  # share of requests on another topic
    days: int = 1  # including this one; the alert may come later if the reference is uncertain
    expected: frozenset[tuple[str, str]] = frozenset()


DAYS = (
    ReplayedDay("nothing changes"),
    ReplayedDay("answers take four times as long", slower=4, expected=frozenset({("latency", "slower")})),
    ReplayedDay("answers take twice as long", slower=2, expected=frozenset({("latency", "slower")})),
    ReplayedDay(
        "5% fail in place of 0.5%", failing=0.05, days=2, expected=frozenset({("errors", "failing")})
    ),
    ReplayedDay(
        "six in ten ask about something else, at greater length", kitchen=0.6,
        expected=frozenset(("drift", name) for name in ("input_topic", "input_distance", "input_length")),
    ),
)  # fmt: skip


class Seen(NamedTuple):
    """Result of a day. hours: from the change to each alert; reasons: its text."""

    hours: dict[tuple[str, str], float]
    reasons: dict[tuple[str, str], str]


def asked(rng: np.random.Generator, kitchen: np.ndarray) -> list[str]:
    """Return a question for each request; about the kitchen where the mask is true."""
    forms = {True: (_KITCHEN, _FOODS), False: (_BANK, _THINGS)}
    pairs = [forms[bool(each)] for each in kitchen]
    return [str(rng.choice(form)).format(rng.choice(things)) for form, things in pairs]


def answers(tokens: np.ndarray) -> list[str]:
    """Return responses of four characters per token."""
    return [("It is on its way to you. " * (1 + int(length) // 6))[: 4 * int(length)] for length in tokens]


def lines_of(day: ReplayedDay, rng: np.random.Generator) -> list[RequestLine]:
    """Return the log of the day."""
    candidates = np.sort(rng.uniform(0, day.days * DAY, 2 * day.days * REQUESTS))
    wave = -np.cos(2 * np.pi * candidates / DAY)
    at = candidates[rng.random(len(candidates)) * 2 < 1 + 0.8 * wave]
    changed = at >= CHANGE
    tokens = np.clip(draw_lengths(rng, len(at)), 2, 1_000)
    level = (1.2 - 0.2 * np.cos(2 * np.pi * at / DAY)) * rng.lognormal(0, 0.4, len(at))
    seconds = (0.2 + 0.02 * tokens) * level * np.where(changed, day.slower, 1)
    seconds[:15] *= 8
    failed = rng.random(len(at)) < np.where(changed, day.failing, 0.005)
    texts = asked(rng, changed & (rng.random(len(at)) < day.kitchen))
    lines = list(request_lines(texts, answers(tokens), Traffic(ENDPOINT, failing=0.0), rng))
    for place, line in enumerate(lines):
        line["at"], line["seconds"] = MIDNIGHT + float(at[place]), float(seconds[place])
        line["completion_tokens"] = int(tokens[place])
        if failed[place]:
            line |= {"status": 502, "error": "backend_unavailable", "output": None, "completion_tokens": None}
            line |= {"output_characters": None, "mean_logprob": None}
    return lines


def evaluate(monitored: Monitored, rng: np.random.Generator) -> None:
    """Store an evaluation's rows and responses as the reference. Inputs are tested against it from the first
    request on, since it has no times of day.
    """
    folder = monitored.home.jobs / EVALUATED
    folder.mkdir()
    texts = asked(rng, np.zeros(400, bool))
    columns = {"prompt": texts, "prediction": answers(np.clip(draw_lengths(rng, 400), 2, 1_000))}
    nothing = pa.nulls(400, pa.float64())
    pq.write_table(pa.table(columns).append_column("probability", nothing), folder / "predictions.parquet")
    now = job_queue.to_utc(monitored.now)
    with monitored.database.transaction() as tx:
        tx.execute(
            "INSERT INTO evaluation (evaluation_id, name, notes, model, checkpoint, dataset_id, dataset_name,"
            " data_fingerprint, part, n, config, figures, details, created_at)"
            " VALUES (?, 'Bank', '', 'm', 'base', 'd', 'Bank', 'f', 'test', 400, '{}', '{}', '{}', ?)",
            [EVALUATED, now],
        )
        settings = MonitorSettings(reference="evaluation", evaluation=EVALUATED)
        monitors.configure(tx, ENDPOINT, settings, "Ada", now)


def replay(day: ReplayedDay, seed: int, folder: Path) -> Seen:
    """Replay the day, slice by slice, through the log, the store and the engine's steps."""
    rng = np.random.default_rng(seed)
    monitored = Monitored(folder, ENDPOINT, "Bank")
    monitored.now = MIDNIGHT
    evaluate(monitored, rng)
    lines = lines_of(day, rng)
    seen = Seen({}, {})
    while monitored.now < MIDNIGHT + day.days * DAY:
        end = monitored.now + SLICE
        append(monitored.log / "requests-000000.jsonl", [e for e in lines if monitored.now <= e["at"] < end])
        monitored.step(SLICE)
        for alert in monitor_alerts.open_alerts(monitored.database, ENDPOINT):
            key = alert.kind, alert.subject
            seen.hours.setdefault(key, (monitored.now - MIDNIGHT - CHANGE) / 3_600)
            seen.reasons.setdefault(key, alert.reason)
    monitored.close()
    return seen


def is_as_expected(day: ReplayedDay, seen: Seen) -> bool:
    """Whether the expected alerts were raised, no others, and none before the change."""
    return set(seen.hours) == day.expected and all(hours > 0 for hours in seen.hours.values())


def report(day: ReplayedDay, outcomes: Sequence[Seen]) -> str:
    """Format a line of the table: the alerts, and the hours until each."""
    keys = sorted({key for seen in outcomes for key in seen.hours} | day.expected)
    cells = []
    for key in keys:
        hours = [seen.hours[key] for seen in outcomes if key in seen.hours]
        delay = f"{min(hours):.1f} to {max(hours):.1f} h" if hours else "never"
        cells.append(f"{key[1]} {len(hours)} of {len(outcomes)}, after {delay}")
    right = sum(is_as_expected(day, seen) for seen in outcomes)
    return f"| {day.name} | {'; '.join(cells) or 'none'} | {right} of {len(outcomes)} |"


def main() -> int:
    """Print the table and the texts of the first alerts; return 1 if a day is not as expected."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    off = 0
    print(f"The change comes at {format_time(MIDNIGHT + CHANGE)}; {REQUESTS:,} requests a day.\n")
    print("| from 14:00 on | alerts | as expected |\n|---|---|---|")
    for day in [day for day in DAYS if options.only in day.name]:
        outcomes = []
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as folder:
                outcomes.append(replay(day, seed, Path(folder) / "home"))
        off += sum(not is_as_expected(day, seen) for seen in outcomes)
        print(report(day, outcomes), flush=True)
        for reason in outcomes[0].reasons.values():
            print(json.dumps(reason, ensure_ascii=False), file=sys.stderr, flush=True)
    return int(off > 0)


if __name__ == "__main__":
    sys.exit(main())
