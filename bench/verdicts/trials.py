"""Runs for the benches that check the evidence of runs.

They are launched and waited for as by any user, through an engine with its own home folder, so that they
can be viewed afterwards with `tunebench up`. A run whose name already exists in the home folder is not run
again.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from engine.evaluation.comparison import pareto
from engine.evaluation.statistics.intervals import Interval, ratio_interval
from engine.evaluation.verdicts import paired_measurements
from store.core.figure_schemas import Estimate
from store.core.home import Home
from store.core.job_folder import JobDir
from store.core.job_kinds import ALIVE
from store.data import datasets
from store.http.client import Client
from store.runs import run_outcomes, runs
from store.runs.schemas import Run
from tunebench.terminal import processes


class Trials:
    """The runs of one home folder; `trec_file`: file of TREC's questions."""

    def __init__(self, folder: Path, trec_file: Path | None = None) -> None:
        self.trec_file = trec_file
        os.environ["TUNEBENCH_NO_SAMPLE"] = "1"
        self.home = Home(folder).create()
        running = processes.find_running_engine(self.home)
        self.client: Client = running or processes.start_engine(self.home)

    def close(self) -> None:
        """Stop the engine."""
        processes.stop_engine(self.home)

    def data(self, name: str, source: dict[str, str], **others: Any) -> str:
        """Return the name of a data set; import it if missing."""
        names = {row.name for row in datasets.list_datasets(self.client)}
        if name not in names:
            asked = {"name": name, "source": source, **others}
            self._wait(self.client.command("import_dataset", asked)["job_id"])
        return name

    def trec(self) -> str:
        """Return the data set of TREC's questions with the type of answer that each asks for."""
        if not self.trec_file:
            raise SystemExit("Say where TREC's questions lie: --trec FILE")
        return self.data(
            "TREC",
            {"path": str(self.trec_file.resolve())},
            format="text_label",
            columns={"text": "text", "label": "coarse"},
            ignore=["fine"],
        )

    def front(self, selected: Sequence[Run]) -> dict[str, str]:
        """Return, for each run by name, whether it is on the front of gain against forgetting."""
        ids = {run.run_id: run.name for run in selected}
        points = [
            pareto.RunPoint(
                run=row.run_id,
                group=row.method,
                setting=row.learning_rate or 0.0,
                gain=_point_figure(row.gain),
                forgetting=_point_figure(row.prose),
            )
            for row in run_outcomes.costs(self.client)
            if row.run_id in ids
        ]
        return {ids[place["run"]]: place["status"] for place in pareto.compute_front(points)}

    def run(self, name: str, **config: Any) -> Run:
        """Return the finished run with that name; launch it if missing. Raises SystemExit if it failed."""
        finished = [run for run in runs.list_runs(self.client, search=name) if run.name == name]
        if not finished:
            began = time.monotonic()
            run_id = self.client.command("launch", {"name": name, **config})["run_id"]
            self._wait(run_id)
            print(f"  {name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        else:
            run_id = finished[0].run_id
        return runs.get_run(self.client, run_id)

    def forgets_more(self, first: Run, other: Run) -> Interval:
        """Return how much more of the prose `first` forgot than `other`, in nats per token, paired by
        passage.
        """
        first_probes, other_probes = (
            pq.read_table(JobDir(self.home.jobs / run.run_id).probes, filters=[("model", "=", "tuned")])
            for run in (first, other)
        )
        prose = paired_measurements.pair_probes(other_probes, first_probes)["prose"]
        return ratio_interval(prose.tuned["loss_sum"] - prose.base["loss_sum"], prose.base["tokens"])

    def judged_seconds(self, run: Run) -> float:
        """Return the seconds from the end of training to the verdict."""
        lines = JobDir(self.home.jobs / run.run_id).events.read_text().splitlines()
        events = [json.loads(line) for line in lines]
        began = next(event["at"] for event in events if event.get("status") == "evaluating")
        return float(events[-1]["at"] - began)

    def row_losses(self, run: Run) -> tuple[np.ndarray, np.ndarray]:
        """Return the summed losses of the held-out rows under the tuned model, and their tokens, by row."""
        table = pq.read_table(JobDir(self.home.jobs / run.run_id).row_losses).sort_by("row_id")
        return table["tuned_loss"].to_numpy(), table["tokens"].to_numpy()

    def _wait(self, job_id: str) -> None:
        while True:
            sql = "SELECT status, error FROM job WHERE job_id = ?"
            job = self.client.people.query(sql, [job_id]).to_pylist()[0]
            if job["status"] not in ALIVE:
                break
            time.sleep(0.5)
        if job["status"] != "finished":
            raise SystemExit(f"{job_id} {job['status']}: {job['error']}")


def _point_figure(estimate: Estimate | None) -> pareto.PointFigure:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high} if estimate else {}


def with_interval(measured: Interval | Estimate, digits: int = 3) -> str:
    """Format a value with its interval and n."""
    value, low, high = (f"{end:+.{digits}f}" for end in (measured.value, measured.low, measured.high))
    return f"{value} ({low} to {high}, n {measured.n})"
