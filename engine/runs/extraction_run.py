"""What base and tuned model can be made to write of the rows of a run: asked, kept row by row, and judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.diagnostics.memorisation import verbatim as judged
from engine.diagnostics.memorisation.extraction import similarity
from engine.evidence import extraction_prompts
from engine.evidence.evidence import Evidence
from engine.evidence.extraction_prompts import MemoryPassage, Written
from engine.forward.losses import RowLosses
from engine.probes import sample_prompts
from engine.rows.render import Load, TokenRows
from engine.worker.job import WorkerJob
from store.documents.runs.evidence_rows import WrittenRow
from store.documents.verdicts.memorisation import Extraction, RowPart


class ExtractionRun:
    """Of one run. seen: training rows that are measured as a probe; held: the rows that judge it; load: row
    ids to conversations or texts."""

    def __init__(self, job: WorkerJob, tokenizer: Any, seen: TokenRows, held: TokenRows, load: Load) -> None:
        self.job, self.tokenizer, self.load = job, tokenizer, load
        self.chosen = [
            extraction_prompts.choose(tokenizer, seen, "train"),
            extraction_prompts.choose(tokenizer, held, "held_out"),
        ]
        if not self.chosen[0].passages:  # there is nothing to control
            self.chosen[1] = extraction_prompts.choose(tokenizer, held, "held_out", 0)

    @property
    def passages(self) -> list[MemoryPassage]:
        """Of training rows, then of held-out ones."""
        return [passage for chosen in self.chosen for passage in chosen.passages]

    def ask(
        self, model: Any, seen: RowLosses, held: RowLosses, on_token: extraction_prompts.OnToken
    ) -> list[Written]:
        """What `model` goes on with; seen, held: its losses of the rows."""
        measured = {"train": seen, "held_out": held}
        return extraction_prompts.write(
            model, self.tokenizer, self.passages, measured, device=self.job.device, on_token=on_token
        )

    def judge(self, base: Evidence, tuned: Evidence) -> Extraction:
        """The `extraction` part of the verdict; `recalled.parquet` is left beside it."""
        rows = self._rows(base.written, tuned.written)
        if rows:
            pq.write_table(pa.Table.from_pylist(rows), self.job.dir.extraction)
        train, held = ([_row(row) for row in rows if row["part"] == part.part] for part in self.chosen)
        counted: dict[RowPart, judged.AskedCounts] = {
            part.part: {"rows": part.rows, "short": part.short, "passed": part.passed} for part in self.chosen
        }
        return judged.assess(train, held, counted, extraction_prompts.LEAST)

    def _rows(self, base: Sequence[Written], tuned: Sequence[Written]) -> list[WrittenRow]:
        return [
            self._row(passage, before, after)
            for passage, before, after in zip(self.passages, base, tuned, strict=True)
        ]

    def _row(self, passage: MemoryPassage, before: Written, after: Written) -> WrittenRow:
        reference = passage.text.strip()
        return {
            "part": passage.part,
            "row_id": passage.row_id,
            "prompt": self._prompt(passage),
            "prefix": passage.prefix,
            "reference": passage.text,
            "tokens": len(passage.wanted),
            "base": before.text,
            "base_same": before.same,
            "base_whole": before.whole,
            "base_similarity": similarity(reference, before.text.strip()),
            "tuned": after.text,
            "tuned_same": after.same,
            "tuned_whole": after.whole,
            "tuned_similarity": similarity(reference, after.text.strip()),
        }

    def _prompt(self, passage: MemoryPassage) -> str:
        content = self.load(np.asarray([passage.row_id]))[0]
        if isinstance(content, str):
            return ""
        prompt = sample_prompts.prompt_of_chat(self.tokenizer, passage.row_id, content)
        return prompt.readable if prompt else ""


def _row(row: WrittenRow) -> judged.ContinuedRow:
    return {
        "row_id": row["row_id"],
        "reference": row["reference"],
        "base": row["base"],
        "tuned": row["tuned"],
        "tokens": row["tokens"],
        "base_same": row["base_same"],
        "tuned_same": row["tuned_same"],
    }
