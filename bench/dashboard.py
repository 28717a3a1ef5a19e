"""Curves at a thousand runs and 38 million points, beside MLflow and Trackio with the same data.

    python -m venv PEERS && PEERS/bin/pip install mlflow trackio
    python bench/dashboard.py [--peers PEERS/bin/python] [--folder FOLDER] [--rounds 20]

Each tracker answers its own page's request for one metric of ten runs of 10,000 steps over HTTP, at its
first view and zoomed in to 400 steps. Tunebench answers through both of its servers. FOLDER keeps the stores
for the next time (about 10 GB). Limits: 40 ms at the median for either request, and a tenth of each peer's;
Trackio has no request for a zoom. The exit code is 1 if one is missed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx
import numpy as np
import pyarrow as pa

from bench.dashboards.peers import METRIC, ZOOM, Mlflow, Trackio, count_bytes, fill, start, time_requests
from bench.made.many_runs import make_many_runs
from bench.made.run_values import LONG_RUNS, ManyRuns
from bench.report import Figure, Section
from bench.served import Served
from store.core.home import Home

MILLISECONDS, TIMES = 40.0, 10.0
PORT = 8640  # ours; the peers' follow
Medians = dict[str, float]  # of each request


def measure_own(folder: Path, size: ManyRuns, rounds: int) -> tuple[list[Figure], Medians]:
    """Measure both requests through the screens."""
    home = Home(folder) if folder.exists() else make_many_runs(folder, size)
    runs = [f"r{place:06}" for place in range(size.runs - LONG_RUNS, size.runs)]
    served = Served(home, PORT)
    client = httpx.Client(base_url=served.entrance.partition("/?")[0], headers=served.cookie, timeout=60)

    def ask(**ends: int) -> None:
        answer = client.post("/curves", json={"runs": runs, "metric": METRIC, **ends}).raise_for_status()
        assert len(set(pa.ipc.open_stream(answer.content).read_all()["run"].to_pylist())) == LONG_RUNS

    try:
        taken = {
            "ten curves": time_requests(ask, rounds),
            "ten curves, zoomed": time_requests(lambda: ask(first=ZOOM[0], last=ZOOM[1]), rounds),
        }
    finally:
        client.close()
        served.stop()
    figures = []
    for name, each in taken.items():
        figures.append(Figure(f"{name}, median of {rounds}", float(np.median(each)), "ms", MILLISECONDS, "≤"))
        figures.append(Figure(f"{name}, 95th percentile", float(np.percentile(each, 95)), "ms"))
    figures.append(Figure("store on disk", count_bytes(folder) / 1e6, "MB"))
    return figures, {name: float(np.median(each)) for name, each in taken.items()}


def measure_peer(peer: Mlflow | Trackio, python: Path, rounds: int, own: Medians) -> list[Figure]:
    """Measure a peer's requests; its store is filled if it is not there."""
    figures = []
    if not peer.folder.exists():
        figures.append(Figure("to fill the store", fill(peer, python).seconds, "s"))
    figures.append(Figure("store on disk", count_bytes(peer.folder) / 1e6, "MB"))
    process = start(peer, python)
    try:
        taken = {"ten curves": time_requests(peer.read_curves, rounds)}
        if isinstance(peer, Mlflow):
            taken["ten curves, zoomed"] = time_requests(peer.zoom, rounds)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
    for name, each in taken.items():
        figures.append(Figure(f"{name}, median of {rounds}", float(np.median(each)), "ms"))
        figures.append(Figure("  times Tunebench's", float(np.median(each)) / own[name], "", TIMES, "≥", 1))
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--peers", type=Path, help="a Python that has mlflow and trackio; without, ours alone"
    )
    parser.add_argument("--folder", type=Path, help="where the stores are made, and found the next time")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    size = ManyRuns()
    with tempfile.TemporaryDirectory(prefix="tunebench-bench-") as temporary:
        folder = arguments.folder or Path(temporary)
        figures, own = measure_own(folder / "tunebench", size, arguments.rounds)
        sections = [Section(f"Tunebench: {size.runs:,} runs, {size.points:,} points", figures)]
        if arguments.peers:
            python = arguments.peers.absolute()
            for peer in (
                Mlflow(folder / "mlflow", size, PORT + 1),
                Trackio(folder / "trackio", size, PORT + 2),
            ):
                sections.append(Section(peer.name, measure_peer(peer, python, arguments.rounds, own)))
    for section in sections:
        section.show()
    return int(any(figure.missed for section in sections for figure in section.figures))


if __name__ == "__main__":
    sys.exit(main())
