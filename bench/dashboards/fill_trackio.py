"""Fill a Trackio project with the runs of `bench.made.run_values`: run by the Python that has Trackio.

TRACKIO_DIR=FOLDER PEER_PYTHON -m bench.dashboards.fill_trackio RUNS POINTS
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

from trackio.sqlite_storage import SQLiteStorage

from bench.made.run_values import METRICS, PROJECT, RANKS, RATES, ManyRuns, build_values

START = datetime(2026, 11, 1, tzinfo=UTC)


def main() -> None:
    size = ManyRuns(int(sys.argv[1]), int(sys.argv[2]))
    for place in range(size.runs):
        values = build_values(place, size.count_steps(place))
        SQLiteStorage.bulk_log(
            PROJECT,
            f"LoRA {place}",
            [dict(zip(METRICS, row, strict=True)) for row in values.tolist()],
            steps=list(range(1, len(values) + 1)),
            timestamps=[
                (START + timedelta(minutes=7 * place, seconds=i)).isoformat() for i in range(len(values))
            ],
            config={
                "learning_rate": RATES[place % len(RATES)],
                "r": RANKS[place // len(RATES) % len(RANKS)],
                "seed": place,
            },
            run_id=f"r{place:06}",
        )


if __name__ == "__main__":
    main()
