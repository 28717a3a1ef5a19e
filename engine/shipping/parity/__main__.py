"""`python -m engine.shipping.parity FOLDER`: read an export and compare it with what the model said.

The Python may be another environment's, so that this and what it imports need little beside numpy and Jinja
until a reader is opened. It prints a line of JSON for what it has done so far, and writes what came of it
last.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from engine.evaluation.row_question import of_content
from engine.shipping.parity.asked import ParityAnswers, ParityFolder, ParityQuestions, ParityTexts
from engine.shipping.parity.divergence import Likeliest, divergence, normalised, same_best
from engine.shipping.parity.rendering import compare
from store.contract.jobdir import read_json, write_json
from store.documents.shipping.parity import RenderingParity


class ExportReader(Protocol):
    """An engine that holds the export."""

    tokenizer: object

    @property
    def engine(self) -> str: ...
    @property
    def context(self) -> int | None: ...
    @property
    def rope_base(self) -> float | None: ...
    @property
    def begin_token(self) -> int | None: ...

    def ids(self, text: str) -> list[int]: ...
    def logits(self, ids: list[int], places: list[int]) -> np.ndarray: ...
    def answers(
        self, prompts: list[list[int]], on_done: Callable[[int, int], None]
    ) -> tuple[list[list[int]], float | None]: ...
    def classes(self, texts: list[str], on_done: Callable[[int, int], None]) -> np.ndarray: ...
    def zeroed(self) -> list[str]: ...


class ParityCheck:
    """One export: its prompts, its answers, its distributions."""

    def __init__(self, folder: ParityFolder, asked: ParityQuestions, reader: ExportReader) -> None:
        self.asked, self.reader = asked, reader
        self.likeliest = np.load(folder.likeliest)
        self.not_finite = 0

    def run(self) -> ParityAnswers:
        rendering, same = self._rendering()
        heads = self.asked["labels"] is not None
        document: ParityAnswers = {
            "engine": self.reader.engine,
            "rendering": rendering,
            "same_ids": same,
            "kl": [],
            "same_best": [],
            "joined_kl": [],
            "loss_sum": [],
            "answers": [],
            "classes": [],
            "tokens_per_second": None,
            "rope_base": self.reader.rope_base,
            "context": self.reader.context,
            "zeroed": [],
            "not_finite": 0,
        }
        if heads:
            self._classify(document)
        elif any(same):
            self._answer(document, same)
        document["zeroed"] = self.reader.zeroed()
        document["not_finite"] = self.not_finite
        return document

    def _rendering(self) -> tuple[RenderingParity, list[bool]]:
        """What the export makes of every prompt, before it is asked anything."""
        asked, reader = self.asked, self.reader
        if asked["labels"] is not None:  # a head reads the row's text as it is
            texts = list(asked["rendered"])
        else:
            rows = zip(asked["row_ids"], asked["contents"], strict=True)
            own = [of_content(reader.tokenizer, row_id, content, None) for row_id, content in rows]
            texts = [each.rendered or "" for each in own]
        present = [reader.ids(text) for text in texts]
        return compare(asked, texts, present, reader.begin_token, reader.context)

    def _answer(self, document: ParityAnswers, same: list[bool]) -> None:
        asked = self.asked
        document["kl"], document["same_best"] = self._compared("answers", asked["answers"], same)
        every = [True] * len(asked["joined"]["ids"])
        document["joined_kl"] = [kl or [] for kl in self._compared("joined", asked["joined"], every)[0]]
        document["loss_sum"] = self._losses(asked["rows"])
        drawn = [i for i in range(asked["drawn"]) if same[i]]
        prompts = [asked["prompt_ids"][i] for i in drawn]
        new, pace = self.reader.answers(prompts, tell("The export answers"))
        by_place = dict(zip(drawn, new, strict=True))
        document["answers"] = [by_place.get(i) for i in range(asked["drawn"])]
        document["tokens_per_second"] = pace

    def _compared(
        self, name: str, texts: ParityTexts, same: list[bool]
    ) -> tuple[list[list[float] | None], list[list[bool] | None]]:
        say = tell("Comparing distributions")
        kls: list[list[float] | None] = []
        bests: list[list[bool] | None] = []
        for i, (ids, places) in enumerate(zip(texts["ids"], texts["places"], strict=True)):
            say(i, len(texts["ids"]))
            if not same[i] or not places:
                kls.append(None)
                bests.append(None)
                continue
            own = Likeliest(self.likeliest[f"{name}-{i}-ids"], self.likeliest[f"{name}-{i}-logs"])
            logs = self._logs(ids, places)
            kls.append(divergence(own, logs).tolist())
            bests.append(same_best(own, logs).tolist())
        return kls, bests

    def _logs(self, ids: list[int], places: list[int]) -> np.ndarray:
        logits = self.reader.logits(ids, places)
        bad = ~np.isfinite(logits).all(axis=1)
        self.not_finite += int(bad.sum())
        return normalised(np.where(bad[:, None], np.float32(0), logits))

    def _losses(self, texts: ParityTexts) -> list[float]:
        """Nats of the rows' own answers."""
        say, sums = tell("Measuring the loss of the rows"), []
        for i, (ids, places) in enumerate(zip(texts["ids"], texts["places"], strict=True)):
            say(i, len(texts["ids"]))
            logs = self._logs(ids, places)
            sums.append(-float(logs[np.arange(len(places)), [ids[place] for place in places]].sum()))
        return sums

    def _classify(self, document: ParityAnswers) -> None:
        drawn = self.asked["drawn"]
        texts = self.asked["rendered"][:drawn]
        logs = self.reader.classes(texts, tell("The export classifies")).astype(np.float32)
        bad = ~np.isfinite(logs).all(axis=1)
        self.not_finite += int(bad.sum())
        document["classes"] = logs.tolist()
        own = Likeliest(self.likeliest["classes-ids"], self.likeliest["classes-logs"])
        document["kl"] = [[value] for value in divergence(own, logs).tolist()]
        document["same_best"] = [[value] for value in same_best(own, logs).tolist()]


def tell(what: str) -> Callable[[int, int], None]:
    """Print how far it is."""

    def say(done: int, total: int) -> None:
        print(json.dumps({"what": what, "done": done, "total": total}), flush=True)

    return say


def open_reader(asked: ParityQuestions, tokenizer_folder: str) -> ExportReader:
    """The engine of the form; only what it needs is imported."""
    if asked["reader"] == "llama.cpp":
        from engine.shipping.parity.llama_reader import LlamaReader

        return LlamaReader(asked, tokenizer_folder)
    if asked["reader"] == "vllm":
        from engine.shipping.parity.vllm_reader import VllmReader

        return VllmReader(asked)
    if asked["reader"] == "transformers alone":
        from engine.shipping.parity.plain_reader import PlainReader

        return PlainReader(asked)
    from engine.shipping.parity.transformers_reader import TransformersReader

    return TransformersReader(asked)


def main(path: str) -> None:
    folder = ParityFolder(Path(path))
    asked: ParityQuestions = read_json(folder.questions)
    reader = open_reader(asked, str(folder.tokenizer))
    write_json(folder.answered, ParityCheck(folder, asked, reader).run())


if __name__ == "__main__":
    main(sys.argv[1])
