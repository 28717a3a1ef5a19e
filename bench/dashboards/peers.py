"""MLflow and Trackio as servers over the runs of `bench.made.run_values`, asked for curves as their pages do.

Each is filled and served by a Python of its own, so that neither can change what is installed beside
Tunebench. A figure is that of the answered request; what their pages do with it afterwards is not counted.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import httpx

from bench.made.run_values import LONG_RUNS, LONG_STEPS, PROJECT, ManyRuns

ROOT = Path(__file__).resolve().parents[2]
METRIC = "train/loss"
POINTS = 320  # of a curve, as MLflow's page asks
ZOOM = (LONG_STEPS // 2, LONG_STEPS // 2 + 400)  # first and last step
SECONDS = 120.0  # for a server to answer at first


class Filled(NamedTuple):
    """What filling a peer's store took."""

    seconds: float
    bytes: int


class Mlflow:
    """MLflow's server on its SQLite store, which answers with the curves of a metric in bulk."""

    name = "MLflow"
    module = "bench.dashboards.fill_mlflow"

    def __init__(self, folder: Path, size: ManyRuns, port: int) -> None:
        self.size = size
        self.folder = folder
        self.arguments = [str(folder), str(size.runs), str(size.points)]
        self.environment: dict[str, str] = {}
        self.command = ["-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
        self.command += ["--port", str(port), "--workers", "1"]
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS)
        self._long_runs: list[str] = []

    def prepare(self) -> None:
        """Raises httpx.HTTPError until the server answers."""
        newest = self._search({"max_results": LONG_RUNS, "order_by": ["attributes.start_time DESC"]})
        self._long_runs = [str(run["info"]["run_id"]) for run in newest]

    def read_curves(self) -> None:
        assert self._count_points({}) >= LONG_RUNS * POINTS

    def zoom(self) -> None:
        assert self._count_points({"start_step": ZOOM[0], "end_step": ZOOM[1]}) >= LONG_RUNS * POINTS

    def _search(self, document: Mapping[str, object]) -> list[dict[str, dict[str, object]]]:
        answer = self._client.post("/api/2.0/mlflow/runs/search", json={"experiment_ids": ["1"], **document})
        runs: list[dict[str, dict[str, object]]] = answer.raise_for_status().json()["runs"]
        return runs

    def _count_points(self, steps: Mapping[str, int]) -> int:
        parameters = {"run_ids": self._long_runs, "metric_key": METRIC, "max_results": POINTS, **steps}
        path = "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval"
        return len(self._client.get(path, params=parameters).raise_for_status().json()["metrics"])


class Trackio:
    """Trackio's server on its SQLite store: its page reads all metrics of a run to draw one, and zooms into
    what it has.
    """

    name = "Trackio"
    module = "bench.dashboards.fill_trackio"

    def __init__(self, folder: Path, size: ManyRuns, port: int) -> None:
        self.size = size
        self.folder = folder
        self.arguments = [str(size.runs), str(size.points)]
        self.environment = {"TRACKIO_DIR": str(folder)}
        options = f"project={PROJECT!r}, open_browser=False, server_port={port}, block_thread=True"
        self.command = ["-c", f"import trackio; trackio.show({options})"]
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS)

    def prepare(self) -> None:
        """Raises httpx.HTTPError until the server answers."""
        self._ask("get_runs_for_project", {"project": PROJECT})

    def read_curves(self) -> None:
        newest = range(self.size.runs - LONG_RUNS, self.size.runs)
        runs = [{"run": f"LoRA {place}", "run_id": f"r{place:06}"} for place in newest]
        batch = {"project": PROJECT, "runs": runs, "max_points": POINTS}
        assert len(self._ask("get_logs_batch", batch)) == LONG_RUNS

    def zoom(self) -> None:
        self.read_curves()

    def _ask(self, name: str, document: Mapping[str, object]) -> list[object] | dict[str, object]:
        answer = self._client.post(f"/api/{name}", json=document).raise_for_status()
        content: list[object] | dict[str, object] = answer.json()["data"]
        return content


def fill(peer: Mlflow | Trackio, python: Path) -> Filled:
    """Fill the peer's store by its own Python. Raises subprocess.CalledProcessError."""
    peer.folder.mkdir(parents=True)
    began = time.perf_counter()
    command = [str(python), "-m", peer.module, *peer.arguments]
    subprocess.run(command, cwd=ROOT, env=os.environ | peer.environment, check=True, capture_output=True)
    return Filled(time.perf_counter() - began, count_bytes(peer.folder))


def count_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def start(peer: Mlflow | Trackio, python: Path) -> subprocess.Popen[bytes]:
    """Start the peer's server and wait until it answers. Raises TimeoutError."""
    process = subprocess.Popen(
        [str(python), *peer.command],
        cwd=peer.folder,
        env=os.environ | peer.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            peer.prepare()
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return process
    raise TimeoutError(f"{peer.name} did not answer within {SECONDS:.0f} s.")


def time_requests(ask: Callable[[], None], rounds: int) -> list[float]:
    """Return the milliseconds of each request; one before them warms up."""
    ask()
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - began) * 1000)
    return taken
