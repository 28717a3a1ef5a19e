"""Base and tuned model on the same held-out rows and probes: losses item by item, answers side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from engine.data.render import Rows, render_prompt
from engine.data.tool_turns import TOOLS
from engine.diagnostics import forgetting
from engine.evaluation import requests, samples
from engine.evaluation.generation import answers
from engine.evaluation.losses import RowLosses
from engine.evaluation.probes import SEEN, Measured, Probe
from engine.evaluation.verbatim import OnToken, Written
from engine.job import Job
from engine.tuning import memory
from engine.tuning.objectives import Objective
from store import interpolation
from store.config import TrainConfig

PROMPT_TOKENS = 32  # of a plain text, whose continuation is asked for


@dataclass
class Prompt:
    """A held-out row as a question: the rendered prompt, and the answer that the row has."""

    row_id: int
    shown: str
    rendered: str
    reference: str


def choose_prompts(
    tokenizer: Any, rows: Rows, load: Callable[[np.ndarray], list[Any]], count: int, seed: int
) -> list[Prompt]:
    """`count` of the rows, drawn by `seed`; a row without an answer is passed over."""
    order = np.random.default_rng([seed, 7]).permutation(len(rows))
    found: list[Prompt] = []
    for index in order:
        if len(found) == count:
            break
        row_id = int(rows.row_ids[index])
        content = load(np.asarray([row_id]))[0]
        prompt = prompt_of_text(tokenizer, row_id, content) if isinstance(content, str) else None
        if prompt is None and not isinstance(content, str):
            prompt = prompt_of_chat(tokenizer, row_id, content)
        if prompt is not None:
            found.append(prompt)
    return found


def prompt_of_chat(tokenizer: Any, row_id: int, messages: list[dict[str, str]]) -> Prompt | None:
    """The turns before the last answer; None without one."""
    rendered = render_prompt(tokenizer, messages)
    if rendered is None:
        return None
    last = max(i for i, m in enumerate(messages) if m["role"] == "assistant")
    turns = [m for m in messages[:last] if m["role"] not in ("system", TOOLS)]
    shown = (
        turns[0]["content"] if len(turns) == 1 else "\n".join(f"{m['role']}: {m['content']}" for m in turns)
    )
    return Prompt(row_id, shown, rendered[0], rendered[1])


def prompt_of_text(tokenizer: Any, row_id: int, text: str) -> Prompt | None:
    """The beginning of a text, to be continued; None where it is too short."""
    offsets = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False).offset_mapping
    if len(offsets) < 4:
        return None
    end = offsets[min(PROMPT_TOKENS, len(offsets) // 2) - 1][1]
    bos = tokenizer.bos_token or ""
    begins = bos and tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
    return Prompt(row_id, text[:end], (bos if begins else "") + text[:end], text[end:].strip())


@dataclass
class Evidence:
    """What one model made of the held-out rows and probes: losses of the rows, answers to the prompts; and
    what it wrote of rows from memory."""

    losses: RowLosses
    answers: list[str]
    probes: list[Measured]
    written: list[Written] = field(default_factory=list)

    @property
    def seen(self) -> Measured | None:
        """Rows that were trained on."""
        return next((measured for measured in self.probes if measured.probe == SEEN), None)

    def probe_table(self, **same: Any) -> pa.Table:
        """A row for each item of all probes."""
        return pa.concat_tables([measured.table(**same) for measured in self.probes])


class Asks(Protocol):
    """Who asks a model for rows from memory, with its losses of training rows and of held-out ones."""

    def ask(self, model: Any, seen: RowLosses, held: RowLosses, on_token: OnToken) -> list[Written]: ...


PACED = ("losses", "answers", "probes", "memory")  # parts of the judging, in order


class Pace:
    """How long the judging takes, for an estimate: what one model took is what the next will take."""

    def __init__(self, models: int = 2) -> None:
        self.models = models  # still to be measured, the present one included
        self.seconds: dict[str, float] = {}  # of each part, as the first model took it
        self.told = 0.0
        self.begin("losses")

    def begin(self, part: str) -> None:
        """The present model's next part begins."""
        self.part, self.began = part, time.perf_counter()

    def end(self) -> None:
        """The present part is done."""
        self.seconds[self.part] = time.perf_counter() - self.began

    def due(self) -> bool:
        """Whether a second has passed since this was last true."""
        now = time.perf_counter()
        if now - self.told < 1:
            return False
        self.told = now
        return True

    def left(self, share: float) -> float:
        """Seconds until all models are measured, with this share (above 0) of the present part done."""
        taken = time.perf_counter() - self.began
        known = self.seconds | {self.part: taken / share}
        here = known[self.part] - taken
        # of what the first model's later parts take nothing is known yet
        here += sum(self.seconds.get(part, 0.0) for part in PACED[PACED.index(self.part) + 1 :])
        return here + (self.models - 1) * sum(known.values())


def measure(
    job: Job,
    config: TrainConfig,
    model: Any,
    tokenizer: Any,
    objective: Objective,
    rows: Rows,
    prompts: list[Prompt],
    probes: Sequence[Probe],
    recall: Asks | None,
    pace: Pace,
    which: str,
) -> Evidence:
    """Losses, answers and probes of `model`, called `which` in the progress. Raises Cancelled when asked to
    stop."""

    def on_batch(done: int) -> None:
        job.check_cancelled()
        memory.guard(config, torch.device(job.device))
        if pace.due():
            left = pace.left(done / len(rows))
            job.progress(done, len(rows), "rows", f"Evaluating {which} on held-out rows", left)

    def on_token(done: int, most: int) -> None:
        job.check_cancelled()
        if pace.due():
            asked = "rows from memory" if pace.part == "memory" else "held-out prompts"
            job.progress(done, most, "tokens", f"Asking {which} {asked}", pace.left(done / most))

    pace.begin("losses")
    losses = objective.measure(
        model,
        rows,
        batch_size=config.per_device_eval_batch_size,
        device=torch.device(job.device),
        on_batch=on_batch,
    )
    pace.end()
    pace.begin("answers")
    texts = answers(
        model,
        tokenizer,
        [prompt.rendered for prompt in prompts],
        max_new_tokens=config.max_new_tokens,
        device=job.device,
        on_token=on_token,
    )
    pace.end()
    pace.begin("probes")
    found = Evidence(losses, texts, list(_measured(job, config, model, probes, pace, which)))
    pace.end()
    pace.begin("memory")
    if recall and found.seen and found.seen.rows:
        found.written = recall.ask(model, found.seen.rows, losses, on_token)
    pace.end()
    pace.models -= 1
    return found


def _measured(
    job: Job, config: TrainConfig, model: Any, probes: Sequence[Probe], pace: Pace, which: str
) -> Iterator[Measured]:
    whole, before = sum(probe.tokens for probe in probes), 0
    for probe in probes:
        name = probe.name.replace("_", " ")

        def on_items(done: int, probe: Probe = probe, name: str = name, before: int = before) -> None:
            job.check_cancelled()
            memory.guard(config, torch.device(job.device))
            if pace.due():
                share = (before + probe.tokens * done / len(probe)) / whole
                job.progress(done, len(probe), "items", f"Probing {which}: {name}", pace.left(share))

        yield probe.measure(
            model,
            batch_size=config.per_device_eval_batch_size,
            device=torch.device(job.device),
            on_items=on_items,
        )
        before += probe.tokens


def write(job: Job, split: str, base: Evidence, tuned: Evidence, prompts: list[Prompt]) -> None:
    """`row_losses.parquet`, `predictions.parquet` and `probes.parquet` of the job."""
    pq.write_table(
        pa.table(
            {
                "split": [split] * len(base.losses.row_ids),
                "row_id": base.losses.row_ids,
                "tokens": base.losses.tokens,
                "base_loss": base.losses.loss_sum,
                "tuned_loss": tuned.losses.loss_sum,
                "base_correct": base.losses.correct,
                "tuned_correct": tuned.losses.correct,
            }
        ),
        job.dir.row_losses,
    )
    strings = {
        "split": [split] * len(prompts),
        "prompt": [p.shown for p in prompts],
        "reference": [p.reference for p in prompts],
        "base": base.answers,
        "tuned": tuned.answers,
    }
    columns = {"row_id": pa.array([p.row_id for p in prompts], pa.int64())}
    columns |= {name: pa.array(values, pa.string()) for name, values in strings.items()}
    pq.write_table(pa.table(columns), job.dir.predictions)
    if base.probes:
        both = [each.probe_table(model=which) for which, each in (("base", base), ("tuned", tuned))]
        pq.write_table(pa.concat_tables(both), job.dir.probes)
        requests.write(job, base.probes, tuned.probes)


def write_items(job: Job, probes: Sequence[Probe]) -> None:
    """`probe_items.parquet` of the job: what the items of the probes are."""
    if probes:
        pq.write_table(pa.concat_tables([probe.listing() for probe in probes]), job.dir.probe_items)


def add_forgetting(
    verdict: dict[str, Any],
    base: Evidence,
    tuned: Evidence,
    config: TrainConfig,
    earlier: dict[str, Any] | None = None,
) -> None:
    """What the probes say of what was lost, into the verdict, with what to try. earlier: the advice to stop
    at a step that was as good, in place of half the epochs."""
    pairs = [(b, t) for b, t in zip(base.probes, tuned.probes, strict=True) if b.probe != SEEN]
    if not pairs:
        return
    tables = (pa.concat_tables([m.table() for m in some]) for some in zip(*pairs, strict=True))
    found = forgetting.assess(*tables, config=config.model_dump())
    samples.add_agreement(found, base.probes, tuned.probes)
    if earlier and found["state"] in ("some", "much"):
        others = [piece for piece in found["advice"] if piece["kind"] != "epochs"]
        found["advice"] = [earlier, *others]
        shorter = {
            "num_train_epochs",
            "max_steps",
        }  # what the course shows comes before a guess at its length
        verdict["advice"] = [piece for piece in verdict["advice"] if not shorter & set(piece["change"])]
    if interpolation.refusal(config):
        found["advice"] = [piece for piece in found["advice"] if piece["kind"] != "interpolation"]
    said = {field for piece in verdict["advice"] for field in piece["change"]}
    new = [piece for piece in found["advice"] if not said & set(piece["change"])]
    verdict["forgetting"] = found
    verdict["advice"] = [*verdict["advice"], *new]
