"""Answers to a few fixed validation rows during training, scored by the metric that the config names.

They are generated greedily, so that no random numbers are drawn, and all are stored for later reading. A
metric that fails (such as a custom metric file with an error) is skipped from then on, with an alert;
training continues.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.evaluation.training_curve.run_curve import MetricValues
from engine.models.generation import GenerationOptions, generate_answers
from engine.worker.job import WorkerJob
from store.core import metrics_config
from store.core.job_folder import write_atomically
from store.core.metric_table import METRICS
from store.training.train_config import TrainConfig

if TYPE_CHECKING:
    from engine.evaluation.row_questions import Prompt

ROWS = 16  # batch size of generation
TOKEN_COST = 4  # approximate cost per row of one generated token of the batch, in validation tokens


class LiveAnswers:
    """Live answers of one run. name: a metric of `store.core.metrics_config`. weight: its share of the time
    for probes, relative to 1 for other kinds; less unless the config names the metric.
    """

    def __init__(
        self, job: WorkerJob, config: TrainConfig, tokenizer: Any, asked: Sequence[Prompt], name: str
    ) -> None:
        self.job, self.config, self.tokenizer, self.asked = job, config, tokenizer, list(asked)
        self.metrics = metrics_config.build_live_metrics(name)
        (choice,) = self.metrics.metrics
        self.key = choice.key
        listed = METRICS[choice.metric]
        self.words = listed.title if choice.metric != "own" else name.removeprefix(metrics_config.LIVE_OWN)
        self.weight = 1.0 if config.live_metric else 0.5
        self.failed = False
        self.tables: dict[int, pa.Table] = {}

    @property
    def tokens(self) -> int:
        """Approximate number of validation tokens that take the same time."""
        read = sum(len(prompt.rendered) for prompt in self.asked) // 4
        return read + TOKEN_COST * self.config.max_new_tokens * len(self.asked)

    def measure(self, step: int, model: Any, tell: Callable[[str], None]) -> None:
        """Generate and score the answers at `step`."""
        if self.failed:
            return
        texts = generate_answers(
            model,
            self.tokenizer,
            [prompt.rendered for prompt in self.asked],
            GenerationOptions(self.config.max_new_tokens, self.job.device, ROWS),
            on_token=lambda done, most: tell(f"Answering validation rows (token {done} of {most})"),
        )
        scores, reasons = self.score(texts)
        if self.failed:
            return
        self.tables[step] = self._table(step, texts, scores, reasons)
        self.write()
        if np.isfinite(scores).any():
            self.job.metrics(step, {self.key: float(np.nanmean(scores))})

    def score(self, texts: Sequence[str]) -> tuple[np.ndarray, list[str | None]]:
        """Return the score of each answer, NaN with a reason where there is none."""
        # lazy: metric libraries take a second to import
        from engine.evaluation.metrics.answer_rows import Answers
        from engine.evaluation.metrics.measurement import measure

        rows = Answers(
            np.array([prompt.row_id for prompt in self.asked], np.int64),
            predictions=list(texts),
            references=[prompt.reference for prompt in self.asked],
            prompts=[prompt.readable for prompt in self.asked],
        )
        (scored,) = measure(
            self.metrics, rows, self.job.home, policy=self.job.policy, check=self.job.check_cancelled
        )
        if scored.failed:
            self.failed = True
            self.job.alert(
                f"live_metric {self.config.live_metric or self.words}: {scored.failed} Training continues"
                " without it."
            )
        return scored.scores, [scored.reasons.get(place) for place in range(len(texts))]

    def _table(
        self, step: int, texts: Sequence[str], scores: np.ndarray, reasons: Sequence[str | None]
    ) -> pa.Table:
        count = len(self.asked)
        return pa.table(
            {
                "step": pa.array([step] * count, pa.int64()),
                "row_id": pa.array([prompt.row_id for prompt in self.asked], pa.int64()),
                "prompt": [prompt.readable for prompt in self.asked],
                "reference": [prompt.reference for prompt in self.asked],
                "prediction": list(texts),
                "metric": [self.key] * count,
                "score": pa.array(scores, pa.float64()),
                "reason": pa.array(reasons, pa.string()),
            }
        )

    def values_by_step(self) -> list[MetricValues]:
        """Return the scores by step, for the rows that have a score at every step."""
        if not self.tables:
            return []
        steps = sorted(self.tables)
        scores = np.array([self.tables[step]["score"].to_numpy() for step in steps])
        kept = np.isfinite(scores).all(axis=0)
        ids = np.array([prompt.row_id for prompt in self.asked])[kept]
        if len(ids) < 2:
            return []
        every = np.ones(len(ids))
        return [
            MetricValues(step=step, row_ids=ids, values=row[kept], weights=every)
            for step, row in zip(steps, scores, strict=True)
        ]

    def rewind(self, last: int) -> None:
        """Read what an earlier attempt wrote, up to step `last`."""
        self.tables = {}
        if self.job.dir.live_answers.exists():
            table = pq.read_table(self.job.dir.live_answers)
            for step in pc.unique(table["step"]).to_pylist():
                if step <= last:
                    self.tables[step] = table.filter(pc.equal(table["step"], step)).combine_chunks()

    def write(self) -> None:
        """Write all answers atomically."""
        with write_atomically(self.job.dir.live_answers, flush=False) as aside:
            pq.write_table(pa.concat_tables([self.tables[step] for step in sorted(self.tables)]), aside)
