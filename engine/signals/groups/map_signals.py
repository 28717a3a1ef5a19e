"""The group `map`: where each row lies on a map of meanings, its topic, its template; how diverse the set is.

Everything rests on one vector a row (`embeddings`), is drawn by fixed seeds, and is the same on every run.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from engine.signals.embedded import diversity, topics
from engine.signals.embedded.embeddings import row_texts, row_vectors
from engine.signals.embedded.openings import openings
from engine.signals.embedded.projection import SAMPLE, components, drawn, layout
from engine.signals.group import Progress
from engine.worker.job import WorkerJob
from engine.worker.phases import Phase, Phases
from store.config.data.data_config import ProfileConfig
from store.documents.data.signal_figures import SetFigure

OPTIONS: tuple[str, ...] = ()
PROMPT = 400  # characters of a prompt in which its first words are looked for


def phases(rows: int) -> Phases:
    """In seconds on two cores, as measured with 4,000 and 40,000 rows."""
    laid_out = min(rows, SAMPLE)
    return (
        Phase("Reading what the rows mean", 1e-4 * rows),
        Phase("Finding the main directions", 2e-6 * rows),
        Phase("Finding topics", 0.5 + 1e-5 * rows),
        Phase("Laying out ", 3.5e-3 * laid_out),
        Phase("Placing the rows between their neighbours", 2e-5 * (rows - laid_out)),
        Phase("Finding templates", 1e-5 * rows),
        Phase("Measuring diversity", 1e-4 * rows),
    )


def compute(
    job: WorkerJob, config: ProfileConfig, rows_path: Path, progress: Progress
) -> tuple[pa.Table, dict[str, SetFigure]]:
    """x, y, cluster and template of every row, and the figures of `diversity`."""
    vectors = row_vectors(job.home, rows_path, progress)
    total = len(vectors)
    points = components(vectors, progress)
    progress(0, 1, "step", "Finding topics")
    clusters = topics.cluster(points)
    sample = drawn(total, topics.NAMED_FROM)
    texts = row_texts(rows_path, topics.FIRST).take(pa.array(sample)).to_pylist()
    names = topics.names(clusters[sample], texts)
    places = layout(points, progress)
    progress(0, 1, "phase", "Finding templates")
    templates = openings(row_texts(rows_path, PROMPT, prompts=True).to_pylist())
    progress(0, 1, "figure", "Measuring diversity")
    figures = diversity.figures(rows_path, vectors, clusters, templates)
    table = pa.table(
        {
            "row_id": pa.array(np.arange(total, dtype=np.int64)),
            "x": pa.array(places[:, 0]),
            "y": pa.array(places[:, 1]),
            "cluster": pa.DictionaryArray.from_arrays(pa.array(clusters), pa.array(names, pa.string())).cast(
                pa.string()
            ),
            "template": pa.array(templates, pa.string()),
        }
    )
    return table, figures
