"""Time of the monitor screen's queries with ten million logged requests; the limit is half a second.

python bench/monitoring/monitor.py [--requests 10000000] [--rounds 20] [--folder FOLDER]

The store is created by SQL: thirty days of one endpoint, two versions, a shadow, feedback on one in a
hundred. Then all queries of the screen are run for each window, repeatedly, while a log is being ingested.
Prints the 50th and 95th percentile of each query and of them all together, and the cost of ingesting a
log; exits with 1 if a whole screen takes half a second or more at the 95th percentile.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter, process_time

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from bench.made.monitored import add_endpoint
from bench.made.request_log import Traffic, request_lines, thumbs
from engine.monitoring.drift import LENGTH_STEP
from store.core.home import Home
from store.db.database import Database
from store.monitoring import feedback, log_ingest, monitor_alerts, monitors, side_by_side, traffic
from store.monitoring.log_ingest import LogBatch
from store.monitoring.traffic import Window

ENDPOINT = "endpoint-1"
END = datetime(2027, 1, 31)
DAYS = 30
LIMIT = 0.5  # seconds
PART = 1_000_000  # requests created at a time
BATCH = 500  # lines ingested at a time

_REQUESTS = """
    INSERT INTO request BY NAME
    SELECT *, caller AS dealt_to, version AS dealt FROM (SELECT $1 AS endpoint_id, i AS place,
        'chatcmpl-' || lower(hex(hash(i))) AS request_id,
        $2::TIMESTAMP + to_microseconds((i * ($3 / $4))::BIGINT) AS asked_at, 'chat' AS kind,
            'intents' AS model,
        CASE WHEN i % 10 = 0 THEN 'intents@4' ELSE 'intents@3' END AS version,
        CASE WHEN i % 10 = 0 THEN 'candidate' WHEN i % 10 = 1 THEN 'shadow' ELSE 'live' END AS role,
        NULL AS person_id, 'caller-' || (hash(i + 1) % 5000) AS caller,
        CASE WHEN hash(i + 2) % 200 = 0 THEN 502 ELSE 200 END AS status,
        CASE WHEN hash(i + 2) % 200 = 0 THEN 'backend_unavailable' END AS error,
        20 + hash(i + 3) % 400 AS prompt_tokens, 10 + hash(i + 4) % 300 AS completion_tokens,
        0.1 * exp((hash(i + 5) % 1000) / 400.0 - 1) AS first_token_seconds,
        exp((hash(i + 6) % 1000) / 300.0 - 2) AS seconds, 'stop' AS finish_reason,
        -1.0 * (hash(i + 7) % 1000) / 700.0 AS mean_logprob, NULL AS label, NULL AS confidence,
            false AS abstained,
        40 + hash(i + 8) % 200 AS input_characters, 30 + hash(i + 9) % 500 AS output_characters,
        '[{"role": "user", "content": "Where is my card ' || i || '?"}]' AS messages,
        'It is on its way to you, number ' || i || '.' AS output, 0 AS redacted,
        CASE WHEN i % 3 = 0 THEN 'web' ELSE 'app' END AS grouped_by
    FROM range($5::BIGINT, $6::BIGINT) t(i))
"""
_SIGNALS = """
    INSERT INTO request_signal BY NAME
    SELECT endpoint_id, place, asked_at, input_characters AS input_length, 'en' AS input_language,
        (hash(place) % 1000) / 1500.0 AS input_distance, 'topic ' || (hash(place) % 12) AS input_topic,
        output_characters AS output_length, 0.0 AS output_refusal,
            (hash(place) % 50) / 500.0 AS output_repetition,
        NULL AS output_label, mean_logprob AS confidence
    FROM request WHERE role = 'live' AND status < 400
"""
_HOURS = """
    INSERT INTO signal_hour BY NAME
    SELECT $1 AS endpoint_id, name, hour, list(struct_pack(bin := bin, category := category,
        n := n)) AS counts
    FROM (
        SELECT '{name}' AS name, date_trunc('hour', asked_at) AS hour, {bin} AS bin, {category} AS category,
            count(*) AS n FROM request_signal GROUP BY ALL
    ) GROUP BY ALL
"""
_FEEDBACK = """
    INSERT INTO feedback BY NAME
    SELECT 'feedback-' || place AS feedback_id, request_id, endpoint_id, asked_at AS given_at,
        NULL AS person_id,
        'thumb' AS kind, (hash(place) % 5 > 0)::INT AS value, NULL AS text, '' AS comment, version, role,
            caller, asked_at, model, dealt, dealt_to,
        grouped_by, NULL AS correct, true AS is_last
    FROM request WHERE place % 100 IN (0, 2)
"""


def make(database: Database, requests: int) -> None:
    """Fill the store with this number of requests."""
    microseconds = DAYS * 86_400 * 1e6
    start = END - timedelta(days=DAYS)
    with database.transaction() as tx:
        add_endpoint(tx, ENDPOINT, "Intents")
        tx.execute(
            "INSERT INTO monitor VALUES (?, '{}', 0, ?, ?, NULL, '[]', '', ?, NULL, NULL)",
            [ENDPOINT, requests, requests, END],
        )
    for first in range(0, requests, PART):
        end = min(requests, first + PART)
        with database.transaction() as tx:
            tx.execute(_REQUESTS, [ENDPOINT, start, microseconds, requests, first, end])
        print(f"  {end:,} requests", flush=True)
    _add_figures(database, requests)
    with database.transaction() as tx:
        tx.execute(_SIGNALS)
        tx.execute(_FEEDBACK)
        length = f"round(ln(1 + {{}}) / {LENGTH_STEP!r})::INT"
        for name, key in (
            ("input_length", length.format("input_length")),
            ("output_length", length.format("output_length")),
            ("input_distance", "round(input_distance / 0.004)::INT"),
            ("output_repetition", "round(output_repetition / 0.005)::INT"),
            ("output_refusal", "0"),
            ("confidence", "(1500 + round(confidence / 0.01))::INT"),
        ):
            tx.execute(_HOURS.format(name=name, bin=key, category="NULL"), [ENDPOINT])
        for name in ("input_language", "input_topic"):
            tx.execute(_HOURS.format(name=name, bin="NULL", category=name), [ENDPOINT])


def _add_figures(database: Database, requests: int) -> None:
    """Add the figures one day at a time, to bound the memory."""
    for day in range(DAYS):
        first, end = requests * day // DAYS, requests * (day + 1) // DAYS
        with database.transaction() as tx:
            rows = tx.query("SELECT * FROM request WHERE place >= ? AND place < ?", [first, end])
            with tx.table("day", rows):
                log_ingest.add_figures(tx, "day")


def questions(database: Database, window: Window) -> dict[str, Callable[[], object]]:
    """Return all queries of the screen by name."""
    db, window_of_ten = database, (ENDPOINT, window)
    places = (9_000_000, 9_000_500)
    return {
        "endpoints": lambda: monitors.endpoints(db),
        "monitor": lambda: monitors.find(db, ENDPOINT),
        "alerts": lambda: (
            monitor_alerts.open_alerts(db, ENDPOINT),
            monitor_alerts.past_alerts(db, ENDPOINT),
        ),
        "span": lambda: traffic.span(db, ENDPOINT),
        "traffic by version": lambda: traffic.by_version(db, *window_of_ten),
        "traffic over time": lambda: traffic.points(db, *window_of_ten),
        "drift": lambda: traffic.signal_counts(db, *window_of_ten),
        "feedback by version": lambda: feedback.by_version(db, *window_of_ten),
        "feedback by group": lambda: feedback.by_group(db, *window_of_ten),
        "versions side by side": lambda: side_by_side.listed(db, ENDPOINT),
        "feedback without request": lambda: feedback.unmatched(db, *window_of_ten),
        "golden set": lambda: monitors.golden_runs(db, ENDPOINT),
        "lines of the log": lambda: monitors.torn(db, ENDPOINT),
        "rows behind an alert": lambda: traffic.most_unlike(
            db, ENDPOINT, "input_distance", places, order="DESC", limit=8
        ),
    }


Times = defaultdict[str, list[tuple[float, float]]]


def measure(database: Database, rounds: int) -> Times:
    """Return the wall-clock and processor time of each query and of a whole screen, in seconds, for windows
    of one hour up to all thirty days. Other work on the machine affects the first and not the second.
    """
    times: Times = defaultdict(list)
    lengths = [timedelta(hours=1), timedelta(days=1), timedelta(days=7), timedelta(days=DAYS)]
    for turn in range(rounds):
        length = lengths[turn % len(lengths)]
        whole = perf_counter(), process_time()
        for name, ask in questions(database, Window(END - length, END)).items():
            began = perf_counter(), process_time()
            ask()
            times[name].append(_since(began))
        times["the whole screen"].append(_since(whole))
        times[f"of it with a window of {length.days or 1} {'days' if length.days else 'hour'}"].append(
            _since(whole)
        )
        _take_in(database, times, turn)
    return times


def _since(began: tuple[float, float]) -> tuple[float, float]:
    return perf_counter() - began[0], process_time() - began[1]


def _take_in(database: Database, times: Times, turn: int) -> None:
    """Ingest a batch of requests and one of feedback on some of them, as written by a gateway."""
    rng = np.random.default_rng(turn)
    live = Traffic(ENDPOINT, start=1_801_353_600.0, every=0.01)
    lines = list(request_lines(["Where is it?"] * BATCH, ["There."] * BATCH, live, rng, first=turn * BATCH))
    words = list(thumbs(lines, 0.1, 0.8, rng))
    for series, batch in (("requests", lines), ("feedback", words)):
        began = perf_counter(), process_time()
        offset = 100 * turn
        log_ingest.ingest_batch(
            database, LogBatch(ENDPOINT, series, f"{series}-000000.jsonl", batch, offset, offset + 100), END
        )
        times[f"taking in {BATCH if series == 'requests' else 'some'} lines of {series}"].append(
            _since(began)
        )


def main() -> int:
    """Print the table; return 1 if the whole screen is too slow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        home = Home(Path(folder) / "home").create()
        database = Database(home.database, [home.datasets, home.jobs])
        began = perf_counter()
        make(database, options.requests)
        size = home.database.stat().st_size / 2**30
        print(f"made in {perf_counter() - began:.0f} s, {size:.1f} GiB\n")
        times = measure(database, options.rounds)
        database.close()
    print("| question | half within, ms | 95 of 100 within, ms | of it processor, ms |\n|---|---|---|---|")
    for name, seconds in times.items():
        clock, processor = np.array(seconds).T * 1_000
        half, most = np.quantile(clock, [0.5, 0.95])
        print(f"| {name} | {half:.0f} | {most:.0f} | {np.quantile(processor, 0.95):.0f} |")
    slowest = float(np.quantile([clock for clock, _ in times["the whole screen"]], 0.95))
    return int(slowest >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
