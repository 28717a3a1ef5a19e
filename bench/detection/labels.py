"""Detection of wrong labels: some labels of a real file are changed at random, and searched for.

The rows go through the importer and the job that measures the group `labels`, as for a user. The measure
is the average precision of the ranking (1: every changed label ranks before every other one), compared
with a random ranking, over several seeds. A file's own wrong labels count against it.

    python bench/detection/labels.py --file FILE.csv [--text text] [--label category] [--share 0.05] [--json]

Limit: a mean average precision of 0.9. The exit code is 1 if it is missed.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow.parquet as pq
from sklearn.metrics import average_precision_score

from engine.data import import_job, measurement_job
from engine.worker.job import WorkerJob
from store.core.home import Home
from store.core.job_folder import write_json

SEEDS = 3
LIMIT = 0.9

Rows = list[tuple[str, str]]


def read(path: Path, text: str, label: str) -> Rows:
    with open(path, encoding="utf-8", newline="") as file:
        return [(row[text], row[label]) for row in csv.DictReader(file)]


def flipped(rows: Rows, share: float, seed: int) -> tuple[Rows, np.ndarray]:
    """Change the labels of a share of the rows; return the rows and a mask of the changed ones."""
    random = np.random.default_rng(seed)
    labels = sorted({label for _, label in rows})
    wrong = np.zeros(len(rows), bool)
    wrong[random.choice(len(rows), round(share * len(rows)), replace=False)] = True
    changed = []
    for (text, label), bad in zip(rows, wrong, strict=True):
        others = [other for other in labels if other != label]
        changed.append((text, others[random.integers(len(others))] if bad else label))
    return changed, wrong


def make_job(home: Home, kind: str, config: dict[str, Any], **order: Any) -> WorkerJob:
    folder = home.jobs / f"{kind}-{time.monotonic_ns()}"
    folder.mkdir()
    write_json(
        folder / "config.json",
        {"job_id": folder.name, "kind": kind, "home": str(home.path), "config": config, **order},
    )
    return WorkerJob(folder)


def rank(home: Home, rows: Rows) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the suspicion of each row, whether it is suspected, and the seconds of measuring."""
    path = home.path / "rows.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    config = {
        "name": "labels",
        "source": {"path": str(path)},
        "format": "text_label",
        "columns": {"text": "text", "label": "label"},
    }
    imported = import_job.run(make_job(home, "import", config))
    assert imported["row_count"] == len(rows), f"{imported['skipped_count']} rows were skipped"
    job = make_job(
        home,
        "profile",
        {"dataset": "labels", "group": "labels"},
        dataset={"fingerprint": imported["fingerprint"]},
    )
    began = time.perf_counter()
    measurement_job.run(job)
    seconds = time.perf_counter() - began
    table = pq.read_table(job.dir.path / "labels.parquet")
    suspicion = -table["label_rank"].cast("float64").fill_null(1e12).to_numpy()
    return suspicion, table["label_suspect"].fill_null(False).to_numpy(zero_copy_only=False), seconds


def measure(rows: Rows, share: float, seed: int) -> dict[str, float]:
    changed, wrong = flipped(rows, share, seed)
    with tempfile.TemporaryDirectory() as folder:
        suspicion, suspected, seconds = rank(Home(folder).create(), changed)
    chance = np.random.default_rng(seed + 1000).random(len(rows))
    hits = int((suspected & wrong).sum())
    return {
        "seed": seed,
        "average_precision": float(average_precision_score(wrong, suspicion)),
        "random": float(average_precision_score(wrong, chance)),
        "suspects": int(suspected.sum()),
        "precision": hits / max(1, int(suspected.sum())),
        "recall": hits / int(wrong.sum()),
        "seconds": seconds,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="category")
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rows = read(asked.file, asked.text, asked.label)
    results = [measure(rows, asked.share, seed) for seed in range(SEEDS)]
    mean = float(np.mean([each["average_precision"] for each in results]))
    if asked.json:
        print(
            json.dumps(
                {"rows": len(rows), "share": asked.share, "mean": mean, "limit": LIMIT, "runs": results}
            )
        )
    else:
        print(f"{len(rows):,} rows, {asked.share:.0%} of the labels changed")
        for each in results:
            print(
                f"seed {each['seed']}: average precision {each['average_precision']:.3f}"
                f" (random {each['random']:.3f}); {each['suspects']:,} suspects,"
                f" precision {each['precision']:.2f}, recall {each['recall']:.2f}; {each['seconds']:.1f} s"
            )
        print(f"mean {mean:.3f}, limit {LIMIT}")
    return int(mean < LIMIT)


if __name__ == "__main__":
    sys.exit(main())
