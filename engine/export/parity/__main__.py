"""`python -m engine.export.parity FOLDER`: read an export and compare it with the model's stored output.

Prompts are compared as rendered and tokenized by both sides, bytes first and then tokens. Responses are
generated only as far as the most likely tokens don't determine them. The Python may be another environment's,
so this module and its imports need little beyond numpy and Jinja until a reader is opened. Progress is
printed as lines of JSON; the result is written last.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from engine.evaluation.row_questions import build_question
from engine.export.parity.exchange import (
    LossTest,
    ParityAnswers,
    ParityFolder,
    ParityQuestions,
    QuestionText,
    TopTokens,
    compare_argmax,
    compute_kl,
    compute_loss,
    group_texts,
    log_softmax,
)
from store.core.documents import parse_document
from store.core.export_schemas import RenderingExample, RenderingParity
from store.core.job_folder import read_json, write_json

EXAMPLE_CHARACTERS = 60  # characters shown of an example


def compare_renderings(
    asked: ParityQuestions,
    texts: list[str],
    present: list[list[int]],
    begin_token: int | None,
    context: int | None,
) -> tuple[RenderingParity, list[bool]]:
    """Return the counts, and for each prompt whether its ids are the same.

    context: the export's context length, as stated in its files.
    """
    expected = asked.prompt_ids
    same = [ids == own for ids, own in zip(present, expected, strict=True)]
    other_bytes = [text != own for text, own in zip(texts, asked.rendered, strict=True)]
    example = None
    for i in range(len(texts)):
        if other_bytes[i] or not same[i]:
            example = _build_example(asked, i, texts[i], present[i])
            break
    return RenderingParity(
        prompts=len(texts),
        other_bytes=sum(other_bytes),
        other_ids=len(same) - sum(same),
        doubled_bos=sum(
            _count_begin_tokens(ids, begin_token) > max(1, _count_begin_tokens(own, begin_token))
            for ids, own in zip(present, expected, strict=True)
        ),
        cut=sum(_is_too_long(ids, context) != _is_too_long(ids, asked.positions) for ids in expected),
        example=example,
    ), same


def _count_begin_tokens(ids: list[int], begin_token: int | None) -> int:
    """Count the BOS tokens at the start of a prompt."""
    return next((place for place, token in enumerate(ids) if token != begin_token), len(ids))


def _is_too_long(ids: list[int], limit: int | None) -> bool:
    return bool(limit) and len(ids) >= (limit or 0)


def _build_example(asked: ParityQuestions, place: int, text: str, ids: list[int]) -> RenderingExample:
    """Return the first difference: by characters, otherwise by tokens."""
    row_id, own, own_ids = asked.row_ids[place], asked.rendered[place], asked.prompt_ids[place]
    if text != own:
        at = _find_first_difference(own, text)
        begin = max(0, at - EXAMPLE_CHARACTERS // 3)
        return RenderingExample(
            row_id=row_id,
            place=at,
            expected=own[begin : at + EXAMPLE_CHARACTERS],
            present=text[begin : at + EXAMPLE_CHARACTERS],
        )
    at = _find_first_difference(own_ids, ids)
    few = slice(max(0, at - 2), at + 8)
    return RenderingExample(row_id=row_id, place=at, expected=str(own_ids[few]), present=str(ids[few]))


def _find_first_difference(own: str | list[int], other: str | list[int]) -> int:
    """Return the index of the first difference."""
    both = zip(own, other, strict=False)
    return next((i for i, (a, b) in enumerate(both) if a != b), min(len(own), len(other)))


# The export's response follows from its most likely token after each token of the model's response. If these
# match everywhere, which is so for most rows of most formats, the export responds the same and nothing has to
# be generated. Otherwise its response is the model's up to the first difference, and is generated from there.


class AnswerPrefix(NamedTuple):
    """Known tokens of the export's response; open: whether it continues after them."""

    tokens: list[int]
    open: bool


def find_answer_prefix(
    asked: ParityQuestions, row: int, favourites: list[int] | None, ends: Callable[[int], bool]
) -> AnswerPrefix:
    """Return the prefix of the export's response that its distributions determine.

    favourites: most likely tokens at the places of the model's response to this prompt; None if not compared.
    """
    prompt, ids = asked.prompt_ids[row], asked.answers.ids[row]
    answer, most = ids[len(prompt) :], asked.max_new_tokens
    room = asked.positions is None or len(ids) + most <= asked.positions
    # a truncated prompt is truncated elsewhere once tokens are appended
    if favourites is None or ids[: len(prompt)] != prompt or len(favourites) != len(answer) or not room:
        return AnswerPrefix([], open=True)
    parted = next((i for i, (a, b) in enumerate(zip(answer, favourites, strict=True)) if a != b), None)
    tokens = answer if parted is None else [*answer[:parted], favourites[parted]]
    ended = next((i for i, token in enumerate(tokens) if ends(token)), None)
    if ended is not None:
        return AnswerPrefix(tokens[: ended + 1], open=False)
    return AnswerPrefix(tokens, open=len(tokens) < most)


class ExportReader(Protocol):
    """Interface of an engine that has loaded the export."""

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
    def read(self, groups: Sequence[list[QuestionText]]) -> Iterator[list[np.ndarray]]: ...
    def ends_answer(self, token: int) -> bool: ...
    def answers(self, prompts: list[list[int]], on_done: Callable[[int, int], None]) -> list[list[int]]: ...
    def pace(self, prompts: list[list[int]]) -> float | None: ...
    def classes(self, texts: list[str], on_done: Callable[[int, int], None]) -> np.ndarray: ...
    def zeroed(self) -> list[str]: ...


class ParityCheck:
    """Check of one export: prompts, responses, distributions."""

    def __init__(self, folder: ParityFolder, asked: ParityQuestions, reader: ExportReader) -> None:
        self.asked, self.reader = asked, reader
        self.likeliest = np.load(folder.likeliest)
        self.not_finite = 0
        self.favourites: dict[int, list[int]] = {}  # by sampled prompt, at the places of the response
        self.sure_after: int | None = None

    def run(self) -> ParityAnswers:
        rendering, same = self._rendering()
        heads = self.asked.labels is not None
        document = ParityAnswers(
            engine=self.reader.engine,
            rendering=rendering,
            kl=[],
            same_best=[],
            joined_kl=[],
            loss_sum=[],
            answers=[],
            classes=[],
            tokens_per_second=None,
            rope_base=self.reader.rope_base,
            context=self.reader.context,
            zeroed=[],
            not_finite=0,
            sure_after=None,
        )
        if heads:
            self._classify(document)
        elif any(same):
            self._answer(document, same)
        document.zeroed = self.reader.zeroed()
        document.not_finite = self.not_finite
        return document

    def _rendering(self) -> tuple[RenderingParity, list[bool]]:
        """Render and tokenize every prompt with the export, and compare."""
        asked, reader = self.asked, self.reader
        if asked.labels is not None:  # a classification head reads the row's text unchanged
            texts = list(asked.rendered)
        else:
            rows = zip(asked.row_ids, asked.contents, strict=True)
            own = [build_question(reader.tokenizer, row_id, content, None) for row_id, content in rows]
            texts = [each.rendered or "" for each in own]
        present = [reader.ids(text) for text in texts]
        return compare_renderings(asked, texts, present, reader.begin_token, reader.context)

    def _answer(self, document: ParityAnswers, same: list[bool]) -> None:
        asked = self.asked
        self._read(document, same)
        drawn = [i for i in range(asked.drawn) if i in self.favourites]
        if self.sure_after is None:
            drawn = [i for i in range(asked.drawn) if same[i]]
        else:  # the remaining rows were not read
            document.joined_kl, document.loss_sum = [], []
        by_place = self._answers(drawn)
        document.answers = [by_place.get(i) for i in range(asked.drawn)]
        document.tokens_per_second = self.reader.pace([asked.prompt_ids[i] for i in drawn])
        document.sure_after = self.sure_after

    def _answers(self, drawn: list[int]) -> dict[int, list[int]]:
        """Return the responses to these prompts, generating only what its distributions don't determine."""
        asked, reader = self.asked, self.reader
        started = {i: find_answer_prefix(asked, i, self.favourites.get(i), reader.ends_answer) for i in drawn}
        rest = [i for i in drawn if started[i].open]
        prompts = [asked.prompt_ids[i] + started[i].tokens for i in rest]
        new = dict(
            zip(
                rest,
                reader.answers(prompts, report_progress("Generating responses with the export")),
                strict=True,
            )
        )
        most = asked.max_new_tokens
        return {i: [*started[i].tokens, *new.get(i, [])][:most] for i in drawn}

    def _read(self, document: ParityAnswers, same: list[bool]) -> None:
        """Compute divergences and losses.

        Sampled rows come in random order, and reading stops once it is certain that the format has failed.
        """
        say, groups, drawn = (
            report_progress("Comparing distributions"),
            group_texts(self.asked),
            self.asked.drawn,
        )
        document.kl = [None] * len(same)
        document.same_best = [None] * len(same)
        document.joined_kl = [[] for _ in self.asked.joined.ids]
        document.loss_sum = [0.0] * len(self.asked.rows.ids)
        loss = LossTest(self.asked.kl_fails, self.asked.max_new_tokens)
        for done, (group, several) in enumerate(zip(groups, self.reader.read(groups), strict=True)):
            say(done, len(groups))
            kl: list[float] | None = None
            for text, logits in zip(group, several, strict=True):
                logs = self._finite(logits)
                if text.kind == "rows":
                    document.loss_sum[text.number] = compute_loss(text, logs)
                elif text.kind == "joined":
                    document.joined_kl[text.number] = self._divergence(text, logs)[0]
                elif same[text.number]:
                    self.favourites[text.number] = logs.argmax(axis=1).tolist()
                    kl, best = self._divergence(text, logs)
                    document.kl[text.number], document.same_best[text.number] = kl, best
            if done + 1 < drawn and kl is not None and loss.bet(kl):
                self.sure_after = done + 1
                return

    def _divergence(self, text: QuestionText, logs: np.ndarray) -> tuple[list[float], list[bool]]:
        """Return the divergence from the model at each place, and whether the likeliest token is the same."""
        name = f"{text.kind}-{text.number}"
        own = TopTokens(self.likeliest[f"{name}-ids"], self.likeliest[f"{name}-logs"])
        return compute_kl(own, logs).tolist(), compare_argmax(own, logs).tolist()

    def _finite(self, logits: np.ndarray) -> np.ndarray:
        """Return log-probabilities; places with non-finite logits are counted and become uniform."""
        bad = ~np.isfinite(logits).all(axis=1)
        self.not_finite += int(bad.sum())
        return log_softmax(np.where(bad[:, None], np.float32(0), logits))

    def _classify(self, document: ParityAnswers) -> None:
        drawn = self.asked.drawn
        texts = self.asked.rendered[:drawn]
        logs = self.reader.classes(texts, report_progress("Classifying rows with the export")).astype(
            np.float32
        )
        bad = ~np.isfinite(logs).all(axis=1)
        self.not_finite += int(bad.sum())
        document.classes = logs.tolist()
        own = TopTokens(self.likeliest["classes-ids"], self.likeliest["classes-logs"])
        document.kl = [[value] for value in compute_kl(own, logs).tolist()]
        document.same_best = [[value] for value in compare_argmax(own, logs).tolist()]


def report_progress(what: str) -> Callable[[int, int], None]:
    """Return a function that prints progress."""

    def say(done: int, total: int) -> None:
        print(json.dumps({"what": what, "done": done, "total": total}), flush=True)

    return say


def open_reader(asked: ParityQuestions, tokenizer_folder: str) -> ExportReader:
    """Open the format's engine, importing only what it needs."""
    if asked.reader == "llama.cpp":
        from engine.export.llama_library import LlamaReader

        return LlamaReader(asked, tokenizer_folder)
    if asked.reader == "vllm":
        from engine.export.parity.folder_readers import VllmReader

        return VllmReader(asked)
    if asked.reader == "transformers alone":
        from engine.export.parity.folder_readers import PlainReader

        return PlainReader(asked)
    from engine.export.parity.transformers_reader import TransformersReader

    return TransformersReader(asked)


def main(path: str) -> None:
    folder = ParityFolder(Path(path))
    asked = parse_document(ParityQuestions, read_json(folder.questions))
    reader = open_reader(asked, str(folder.tokenizer))
    write_json(folder.answered, ParityCheck(folder, asked, reader).run())


if __name__ == "__main__":
    main(sys.argv[1])
