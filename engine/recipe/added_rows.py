"""The step add_rows: rows of another data set, with the deal kept.

Every row of the old version says from then on which part it is in, as a run or its own split has dealt it;
so no row that has judged is ever trained on. An added row that asks what a held-out row asks, under another
system turn too or earlier in its conversation, is not taken for training, and a training row gives way to an
added one that answers the same question otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from engine.data.deal.asked import asked_by_rows
from engine.data.deal.kept_deal import parts_by_split, parts_of_run
from engine.data.deal.leakage import digests_and_prompts, questions
from engine.data.deal.split import split_of
from engine.near.digest import normalise
from engine.recipe.working import BATCH_ROWS, Working
from engine.rows.dataset import SCHEMA, load
from store.config.data.recipe import AddRows
from store.contract.errors import ConfigError
from store.documents.data.row import Kind
from store.documents.tables.job_order import OrderDataset


def run(work: Working, step: AddRows, index: int) -> None:
    """Keep the deal, and add the rows after those that are there. Raises ConfigError for a data set of
    another kind, the version itself, and parts without a row."""
    other, old = work.mixed[step.dataset], work.origins[0].dataset
    if other["fingerprint"] == old["fingerprint"]:
        raise ConfigError(f"{step.dataset} has these rows already.", fix="Add others.", field="dataset")
    if other["kind"] != work.kind:
        raise ConfigError(
            f"{step.dataset} is of the kind {other['kind']}, and these rows are {work.kind}.",
            fix="Add a data set of the same kind.",
            field="dataset",
        )
    if step.run:
        parts = parts_of_run(work.home, old["fingerprint"], step.run)
    else:
        parts = parts_by_split(work.home, old["fingerprint"], split_of(old))
    theirs = parts_by_split(work.home, other["fingerprint"], split_of(other))
    row_ids = np.flatnonzero(np.isin(theirs, list(step.parts)))
    if not len(row_ids):
        raise ConfigError(
            f"{step.dataset} has no row in {' or '.join(step.parts)}.",
            fix="Name others.",
            field="parts",
        )
    living = work.living()
    living = living[living < work.parents]
    undrawn = living[np.array([parts[number] is None for number in living], bool)]
    work.drop(index, undrawn, "not among the training rows that the run drew")
    first = work.total
    work.add(index, other, row_ids, _tables(work, other["fingerprint"], row_ids))
    _keep_parts(work, parts, first, theirs[row_ids])
    _drop_repeated(work, index, Added(work, other, row_ids, first), parts)


class Added:
    """The rows that were added: digests, prompts, what they ask however it is put, and answers, by their
    place among them. `first`: the number of the first one."""

    def __init__(self, work: Working, other: OrderDataset, row_ids: np.ndarray, first: int) -> None:
        self.first = first
        self.digests, self.prompts = digests_and_prompts(work.home, other["fingerprint"], row_ids)
        self.asked = asked_by_rows(work.home, other["fingerprint"], row_ids)
        self.answers = answers(work, other["fingerprint"], row_ids)


def _keep_parts(work: Working, parts: np.ndarray, first: int, added: np.ndarray) -> None:
    whole = np.full(work.total, "train", object)  # what another step mixed in before is trained on
    whole[: work.parents] = parts[: work.parents]
    whole[first:] = added
    work.keep_parts(whole)


def _drop_repeated(work: Working, index: int, added: Added, parts: np.ndarray) -> None:
    """Added rows that ask what a held-out row asks, and training rows that an added one corrects."""
    old = work.origins[0].dataset
    living = work.living()
    living = living[living < work.parents]
    held = np.array([parts[number] in ("validation", "test") for number in living], bool)
    digests, prompts = digests_and_prompts(work.home, old["fingerprint"], living)
    old_asked = asked_by_rows(work.home, old["fingerprint"], living)
    repeats = np.isin(added.digests, digests[held])
    repeats |= added.asked.asking(np.intersect1d(old_asked.of(held), old_asked.questions()))
    work.drop(index, np.flatnonzero(repeats) + added.first, "repeats a row that is held out")
    if work.kind == "text":
        return
    asked = questions(prompts)
    trained = living[~held & np.isin(prompts, asked[np.isin(asked, added.prompts[~repeats])])]
    corrected = _corrected(work, trained, added, repeats)
    reasons = [f"{work.name(by)} answers it otherwise" for by in corrected.values()]
    work.drop(index, np.fromiter(corrected, np.int64, len(corrected)), reasons)


def _corrected(work: Working, rows: np.ndarray, added: Added, left_out: np.ndarray) -> dict[int, int]:
    """Of these old rows those to whose question an added row has another answer, and the number of that."""
    if not len(rows):
        return {}
    fingerprint = work.origins[0].dataset["fingerprint"]
    by_prompt = {
        int(prompt): place
        for place, prompt in enumerate(added.prompts.tolist())
        if prompt and not left_out[place]
    }
    prompts = digests_and_prompts(work.home, fingerprint, rows)[1].tolist()
    own = answers(work, fingerprint, rows)
    return {
        int(number): by_prompt[prompt] + added.first
        for number, prompt, answer in zip(rows.tolist(), prompts, own, strict=True)
        if contradicts(work.kind, answer, added.answers[by_prompt[prompt]])
    }


Answer = tuple[str, str, str | None]  # folded: the last turn, the rejected one; and the label


def answers(work: Working, fingerprint: str, row_ids: np.ndarray) -> list[Answer]:
    """What each of these rows answers."""
    table = load(work.home, fingerprint, ["messages", "label", "rejected"], row_ids)
    return [
        answer_of(turns[-1]["content"] if turns else "", rejected, label)
        for turns, label, rejected in zip(
            *(table[name].to_pylist() for name in ("messages", "label", "rejected")), strict=True
        )
    ]


def answer_of(text: str, rejected: str | None, label: str | None) -> Answer:
    """As answers are compared."""
    return normalise(text), normalise(rejected or ""), label


def contradicts(kind: Kind, old: Answer, new: Answer) -> bool:
    """Whether two rows with one prompt can't both be right: of pairs, where they prefer opposite answers."""
    if kind == "preference":
        return old[0] == new[1] or old[1] == new[0]
    return old != new


def _tables(work: Working, fingerprint: str, row_ids: np.ndarray) -> Iterator[pa.Table]:
    for start in range(0, len(row_ids), BATCH_ROWS):
        work.progress.at(start / len(row_ids))
        rows = load(work.home, fingerprint, SCHEMA.names, row_ids[start : start + BATCH_ROWS])
        yield rows.select(SCHEMA.names)
