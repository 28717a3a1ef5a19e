"""`python -m engine.shipping.parity FOLDER`: read an export and compare it with what the model said.

The Python may be another environment's, so that this and what it imports need little beside numpy and Jinja
until a reader is opened. It prints a line of JSON for what it has done so far, and writes what came of it
last.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from engine.evaluation.row_question import of_content
from engine.shipping.parity.asked import ParityAnswers, ParityFolder, ParityQuestions
from engine.shipping.parity.divergence import Likeliest, divergence, normalised, same_best
from engine.shipping.parity.reading import AskedText, grouped, loss_of
from engine.shipping.parity.rendering import compare
from engine.shipping.parity.sure_loss import SureLoss
from engine.shipping.parity.told_answers import begun
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
    def read(self, groups: Sequence[list[AskedText]]) -> Iterator[list[np.ndarray]]: ...
    def ends_answer(self, token: int) -> bool: ...
    def answers(self, prompts: list[list[int]], on_done: Callable[[int, int], None]) -> list[list[int]]: ...
    def pace(self, prompts: list[list[int]]) -> float | None: ...
    def classes(self, texts: list[str], on_done: Callable[[int, int], None]) -> np.ndarray: ...
    def zeroed(self) -> list[str]: ...


class ParityCheck:
    """One export: its prompts, its answers, its distributions."""

    def __init__(self, folder: ParityFolder, asked: ParityQuestions, reader: ExportReader) -> None:
        self.asked, self.reader = asked, reader
        self.likeliest = np.load(folder.likeliest)
        self.not_finite = 0
        self.favourites: dict[int, list[int]] = {}  # of drawn prompts, at the places of the model's answer
        self.sure_after: int | None = None

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
            "sure_after": None,
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
        self._read(document, same)
        drawn = [i for i in range(asked["drawn"]) if i in self.favourites]
        if self.sure_after is None:
            drawn = [i for i in range(asked["drawn"]) if same[i]]
        else:  # of rows drawn further nothing is known
            document["joined_kl"], document["loss_sum"] = [], []
        by_place = self._answers(drawn)
        document["answers"] = [by_place.get(i) for i in range(asked["drawn"])]
        document["tokens_per_second"] = self.reader.pace([asked["prompt_ids"][i] for i in drawn])
        document["sure_after"] = self.sure_after

    def _answers(self, drawn: list[int]) -> dict[int, list[int]]:
        """Of each of these prompts; only what its own likeliest tokens don't tell is generated."""
        asked, reader = self.asked, self.reader
        started = {i: begun(asked, i, self.favourites.get(i), reader.ends_answer) for i in drawn}
        rest = [i for i in drawn if started[i].open]
        prompts = [asked["prompt_ids"][i] + started[i].tokens for i in rest]
        new = dict(zip(rest, reader.answers(prompts, tell("The export answers")), strict=True))
        most = asked["max_new_tokens"]
        return {i: [*started[i].tokens, *new.get(i, [])][:most] for i in drawn}

    def _read(self, document: ParityAnswers, same: list[bool]) -> None:
        """Divergences and losses. Drawn rows come in an order of chance, and none more once it is sure that
        the form has failed."""
        say, groups, drawn = tell("Comparing distributions"), grouped(self.asked), self.asked["drawn"]
        document["kl"] = [None] * len(same)
        document["same_best"] = [None] * len(same)
        document["joined_kl"] = [[] for _ in self.asked["joined"]["ids"]]
        document["loss_sum"] = [0.0] * len(self.asked["rows"]["ids"])
        loss = SureLoss(self.asked["kl_fails"], self.asked["max_new_tokens"])
        for done, (group, several) in enumerate(zip(groups, self.reader.read(groups), strict=True)):
            say(done, len(groups))
            kl: list[float] | None = None
            for text, logits in zip(group, several, strict=True):
                logs = self._finite(logits)
                if text.kind == "rows":
                    document["loss_sum"][text.number] = loss_of(text, logs)
                elif text.kind == "joined":
                    document["joined_kl"][text.number] = self._divergence(text, logs)[0]
                elif same[text.number]:
                    self.favourites[text.number] = logs.argmax(axis=1).tolist()
                    kl, best = self._divergence(text, logs)
                    document["kl"][text.number], document["same_best"][text.number] = kl, best
            if done + 1 < drawn and kl is not None and loss.bet(kl):
                self.sure_after = done + 1
                return

    def _divergence(self, text: AskedText, logs: np.ndarray) -> tuple[list[float], list[bool]]:
        """From the model's distributions at each place, and whether the likeliest token is the same."""
        name = f"{text.kind}-{text.number}"
        own = Likeliest(self.likeliest[f"{name}-ids"], self.likeliest[f"{name}-logs"])
        return divergence(own, logs).tolist(), same_best(own, logs).tolist()

    def _finite(self, logits: np.ndarray) -> np.ndarray:
        """Log-probabilities; places without numbers are counted, and all tokens alike there."""
        bad = ~np.isfinite(logits).all(axis=1)
        self.not_finite += int(bad.sum())
        return normalised(np.where(bad[:, None], np.float32(0), logits))

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
