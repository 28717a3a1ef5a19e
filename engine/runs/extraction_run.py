"""What base and tuned model can be made to write of the rows of a run: asked, kept row by row, and judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.diagnostics.memorisation import verbatim as judged
from engine.diagnostics.memorisation.extraction import similarity
from engine.evidence import extraction_prompts
from engine.evidence.evidence import Evidence
from engine.evidence.extraction_prompts import Passage, Written
from engine.forward.losses import RowLosses
from engine.probes import sample_prompts
from engine.rows.render import TokenRows
from engine.worker.job import Job

Load = Callable[[np.ndarray], list[Any]]


class Recall:
    """Of one run. seen: training rows that are measured as a probe; held: the rows that judge it; load: row
    ids to conversations or texts."""

    def __init__(self, job: Job, tokenizer: Any, seen: TokenRows, held: TokenRows, load: Load) -> None:
        self.job, self.tokenizer, self.load = job, tokenizer, load
        self.chosen = [
            extraction_prompts.choose(tokenizer, rows, part)
            for part, rows in (("train", seen), ("held_out", held))
        ]
        if not self.chosen[0].passages:  # there is nothing to control
            self.chosen[1] = extraction_prompts.choose(tokenizer, held, "held_out", 0)

    @property
    def passages(self) -> list[Passage]:
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

    def judge(self, base: Evidence, tuned: Evidence) -> dict[str, Any]:
        """The `extraction` part of the verdict; `recalled.parquet` is left beside it."""
        rows = self._rows(base.written, tuned.written)
        if rows:
            pq.write_table(pa.Table.from_pylist(rows), self.job.dir.recalled)
        train, held = ([_row(row) for row in rows if row["part"] == one.part] for one in self.chosen)
        counted: dict[str, judged.Counted] = {
            one.part: {"rows": one.rows, "short": one.short, "passed": one.passed} for one in self.chosen
        }
        return judged.assess(train, held, counted, extraction_prompts.LEAST)

    def _rows(self, base: Sequence[Written], tuned: Sequence[Written]) -> list[dict[str, Any]]:
        found = []
        for passage, before, after in zip(self.passages, base, tuned, strict=True):
            row: dict[str, Any] = {
                "part": passage.part,
                "row_id": passage.row_id,
                "prompt": self._prompt(passage),
                "prefix": passage.prefix,
                "reference": passage.text,
                "tokens": len(passage.wanted),
            }
            for name, one in (("base", before), ("tuned", after)):
                alike = similarity(passage.text.strip(), one.text.strip())
                row |= {name: one.text, f"{name}_same": one.same, f"{name}_whole": one.whole}
                row[f"{name}_similarity"] = alike
            found.append(row)
        return found

    def _prompt(self, passage: Passage) -> str:
        content = self.load(np.asarray([passage.row_id]))[0]
        if isinstance(content, str):
            return ""
        prompt = sample_prompts.prompt_of_chat(self.tokenizer, passage.row_id, content)
        return prompt.readable if prompt else ""


def _row(row: dict[str, Any]) -> judged.Row:
    return {
        "row_id": row["row_id"],
        "reference": row["reference"],
        "base": row["base"],
        "tuned": row["tuned"],
        "tokens": row["tokens"],
        "base_same": row["base_same"],
        "tuned_same": row["tuned_same"],
    }
