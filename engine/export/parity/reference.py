"""The model's side of a parity check: output of the evaluated model.

The longest rows and joined rows are included, as positions computed differently than in training show there
first. The output is cached, so that all formats of a model are compared with the same responses, generated
once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.data import training_rows
from engine.evaluation.evaluated_model import EvaluatedModel
from engine.evaluation.row_questions import RowQuestion, build_question
from engine.evaluation.row_selection import read_contents
from engine.export import model_settings
from engine.export.export_subject import ExportSubject
from engine.export.parity.exchange import (
    MAX_TOP_TOKENS,
    ParityFolder,
    ParityQuestions,
    ParityTexts,
    compute_loss,
    find_top_tokens,
    group_texts,
    log_softmax,
    read_together,
)
from engine.export.parity.folder_readers import trim_answer
from engine.export.parity.inspection import ParityRows
from engine.export.parity.transformers_reader import BATCH, compute_class_log_probs
from engine.models import classification
from engine.models.generation import GenerationOptions, find_end_tokens, generate_continuations
from engine.models.hardware import get_dtype_name
from engine.models.losses import limit_output
from engine.models.tokenization.rendering import TokenRows
from engine.models.tokenization.tokenized_rows import TokenisationRequest, tokenise_rows
from engine.worker.job import WorkerJob
from engine.worker.progress import RowProgressReporter
from store.core.documents import parse_document
from store.core.errors import DataError
from store.core.job_folder import read_json, write_json
from store.data import dataset_files
from store.export.config import ModelExport

JOINED, JOINED_TOKENS, JOINED_PLACES = 5, 1_280, 48  # joined texts, tokens, places at the end
DRAWN_PER_JOINED = 32  # sampled rows per joined text


@dataclass(frozen=True)
class ReferenceAnswers:
    """The model's responses to the sampled rows, in order, with the values needed to score them."""

    asked: ParityQuestions
    questions: list[RowQuestion]
    answers: list[list[int]]
    loss_sum: np.ndarray
    row_tokens: np.ndarray
    row_bytes: np.ndarray
    row_ids: np.ndarray  # of rows with a loss
    class_logs: np.ndarray | None

    def write(self, path: Path) -> None:
        """Write as JSON, without rounding numbers."""
        document = {key: value for key, value in vars(self).items() if key != "questions"}
        arrays = {key: value.tolist() for key, value in document.items() if isinstance(value, np.ndarray)}
        write_json(path, document | arrays | {"questions": [asdict(each) for each in self.questions]})

    @classmethod
    def read(cls, path: Path) -> ReferenceAnswers:
        """Read a file that `write` wrote."""
        document = read_json(path)
        for key in ("loss_sum", "row_tokens", "row_bytes"):
            document[key] = np.array(document[key], float)
        document["row_ids"] = np.array(document["row_ids"], np.int64)
        if document["class_logs"] is not None:
            document["class_logs"] = np.array(document["class_logs"], float)
        document["asked"] = parse_document(ParityQuestions, document["asked"])
        document["questions"] = [RowQuestion(**each) for each in document["questions"]]
        return cls(**document)


class Reference:
    """The model of one export, loaded as evaluations load it."""

    def __init__(self, job: WorkerJob, subject: ExportSubject, config: ModelExport) -> None:
        self.job, self.subject, self.config = job, subject, config
        self.loaded: EvaluatedModel = subject.load(job)
        self.loaded.model.eval()
        self.data = job.spec["dataset"]

    def ask(self, folder: ParityFolder, rows: ParityRows) -> ReferenceAnswers:
        """Generate the model's output; writes its most likely tokens, its tokenizer and the responses."""
        asked = self._questions()
        if self.loaded.labels is not None:
            made = self._classified(asked, rows.drawn, folder)
        else:
            made = self._answered(asked, rows.drawn, rows.longest, folder)
        self.loaded.tokenizer.save_pretrained(folder.tokenizer)
        made.write(folder.reference)
        return made

    def _questions(self) -> ParityQuestions:
        nothing = ParityTexts(ids=[], places=[])
        model, tokenizer = self.loaded.model, self.loaded.tokenizer
        return ParityQuestions(
            reader="transformers",
            export="",
            base=None,
            labels=self.loaded.labels,
            row_ids=[],
            contents=[],
            drawn=0,
            rendered=[],
            prompt_ids=[],
            positions=self.loaded.positions,
            max_new_tokens=self.config.max_new_tokens,
            kl_fails=0.0,
            device=self.job.device,
            dtype=get_dtype_name(next(model.parameters()).dtype),
            rope_base=model_settings.read_rope_base(model.config.to_dict()),
            begin_token=tokenizer.bos_token_id,
            answers=nothing,
            rows=nothing,
            rows_of=[],
            joined=nothing,
        )

    # -- classifiers ---------------------------------------------------------------------------------

    def _classified(
        self, asked: ParityQuestions, drawn: np.ndarray, folder: ParityFolder
    ) -> ReferenceAnswers:
        fingerprint, tokenizer = self.data["fingerprint"], self.loaded.tokenizer
        every = classification.load_texts(self.job.home, fingerprint, drawn)
        kept = [i for i, text in enumerate(every) if text]
        drawn, texts = drawn[kept], [every[i] for i in kept]
        if not texts:
            raise DataError(f"{self.data['name']} has no rows with text.", field="dataset")
        asked.row_ids, asked.drawn, asked.rendered = drawn.tolist(), len(drawn), texts
        asked.prompt_ids = [tokenizer(text).input_ids for text in texts]
        report = RowProgressReporter(self.job, len(texts), "rows", "Classifying rows with the model")
        logs = compute_class_log_probs(
            self.loaded.model, tokenizer, texts, list(self.loaded.labels or ()), asked, lambda n, _: report(n)
        )
        first = find_top_tokens(logs.astype(np.float32), logs.shape[1])
        arrays: dict[str, Any] = {"classes-ids": first.ids, "classes-logs": first.logs}
        np.savez(folder.likeliest, **arrays)
        labels = dataset_files.load_rows(self.job.home, fingerprint, columns=["label"], row_ids=drawn)[
            "label"
        ].to_pylist()
        rows = [
            RowQuestion(row_id, text, text, None, label or None)
            for row_id, text, label in zip(drawn.tolist(), texts, labels, strict=True)
        ]
        nothing = np.zeros(0)
        return ReferenceAnswers(asked, rows, [], nothing, nothing, nothing, np.zeros(0, np.int64), logs)

    # -- generating models ---------------------------------------------------------------------------

    def _answered(
        self, asked: ParityQuestions, drawn: np.ndarray, longest: np.ndarray, folder: ParityFolder
    ) -> ReferenceAnswers:
        tokenizer, home = self.loaded.tokenizer, self.job.home
        row_ids = np.concatenate([drawn, longest])
        rows = read_contents(home, self.data["fingerprint"], row_ids)
        every = [
            build_question(tokenizer, row_id, *row)
            for row_id, row in zip(row_ids.tolist(), rows, strict=True)
        ]
        asks = [q for q in every if q.rendered is not None]
        if not asks:
            raise DataError(
                f"No held-out row of {self.data['name']} can be used as a prompt: {every[0].reason}.",
                field="dataset",
            )
        first = sum(q.rendered is not None for q in every[: len(drawn)])
        asked.row_ids, asked.drawn = [q.row_id for q in asks], first
        asked.contents = [
            content for q, (content, _) in zip(every, rows, strict=True) if q.rendered is not None
        ]
        asked.rendered = [q.rendered or "" for q in asks]
        asked.prompt_ids = [tokenizer(text, add_special_tokens=False).input_ids for text in asked.rendered]
        answers = self._write(asked.prompt_ids)
        asked.answers = _build_texts(asked.prompt_ids, answers, self.loaded.positions)
        texts = self._row_texts(np.array(asked.row_ids[:first], np.int64))
        asked.rows = ParityTexts(
            ids=[texts.row(i)[0].tolist() for i in range(len(texts))],
            places=[np.flatnonzero(texts.row(i)[1]).tolist() for i in range(len(texts))],
        )
        place = {row_id: i for i, row_id in enumerate(asked.row_ids[:first])}
        asked.rows_of = [place[row_id] for row_id in texts.row_ids.tolist()]
        asked.joined = self._joined(asked.rows.ids, asked.answers.ids)
        losses = self._look(asked, folder)
        targets = [texts.row(i)[0][texts.row(i)[1]].tolist() for i in range(len(texts))]
        sizes = [len(tokenizer.decode(ids, skip_special_tokens=True).encode()) for ids in targets]
        return ReferenceAnswers(
            *(asked, asks[:first], answers[:first], losses),
            np.array([len(ids) for ids in targets], float),
            np.array(sizes, float),
            texts.row_ids,
            None,
        )

    def _write(self, prompts: list[list[int]]) -> list[list[int]]:
        report = RowProgressReporter(self.job, 0, "tokens", "Generating responses with the model")
        model, tokenizer = self.loaded.model, self.loaded.tokenizer
        how = GenerationOptions(self.config.max_new_tokens, self.job.device, BATCH, steady=True)
        new = generate_continuations(model, tokenizer, prompts, how, on_token=report)
        ends = find_end_tokens(model, tokenizer)
        return [trim_answer(tokens, ends) for tokens in new]

    def _row_texts(self, row_ids: np.ndarray) -> TokenRows:
        home, fingerprint = self.job.home, self.data["fingerprint"]
        rows = tokenise_rows(
            home,
            self.loaded.tokenizer,
            TokenisationRequest(
                fingerprint=fingerprint,
                row_count=dataset_files.open_rows(home, fingerprint).metadata.num_rows,
                row_ids=row_ids,
                completion_only=True,
                load=training_rows.make_loader(home, fingerprint, self.data["kind"]),
            ),
        )
        longest = int(rows.lengths.max(initial=1))
        return training_rows.truncate_rows(rows, min(longest, self.loaded.positions or longest)).rows

    def _joined(self, rows: list[list[int]], answers: list[list[int]]) -> ParityTexts:
        """Concatenate rows up to the model's context length, or to JOINED_TOKENS."""
        every, count = [*rows, *answers], max(1, min(JOINED, len(rows) // DRAWN_PER_JOINED))
        most = min(self.loaded.positions or JOINED_TOKENS, JOINED_TOKENS) - 1
        texts: list[list[int]] = []
        place = 0
        while every and len(texts) < count and place < count * len(every):
            ids: list[int] = []
            while len(ids) < most and place < count * len(every):
                ids += every[place % len(every)]
                place += 1
            texts.append(ids[:most])
        return ParityTexts(
            ids=texts,
            places=[list(range(max(1, len(ids) - JOINED_PLACES), len(ids))) for ids in texts],
        )

    def _look(self, asked: ParityQuestions, folder: ParityFolder) -> np.ndarray:
        """Write the model's most likely tokens; return the losses of the rows' own responses."""
        groups = group_texts(asked)
        report = RowProgressReporter(self.job, len(groups), "texts", "Scoring texts with the model")
        arrays: dict[str, Any] = {}
        sums = np.zeros(len(asked.rows.ids))
        read = read_together(self.loaded.model, self._logits, groups)
        for done, (group, several) in enumerate(zip(groups, read, strict=True), start=1):
            for text, logits in zip(group, several, strict=True):
                logs = log_softmax(logits)
                if text.kind == "rows":
                    sums[text.number] = compute_loss(text, logs)
                    continue
                first, name = find_top_tokens(logs, MAX_TOP_TOKENS), f"{text.kind}-{text.number}"
                arrays[f"{name}-ids"], arrays[f"{name}-logs"] = first
            report(done)
        np.savez(folder.likeliest, **arrays)
        return sums

    def _logits(self, ids: list[int], places: list[int]) -> np.ndarray:
        import torch

        picked = torch.zeros(1, len(ids), dtype=torch.bool)
        picked[0, [place - 1 for place in places]] = True
        inputs = torch.tensor([ids], device=self.job.device)
        with torch.inference_mode(), limit_output(self.loaded.model, picked.to(self.job.device)):
            out = self.loaded.model(input_ids=inputs, use_cache=False).logits
        logits: np.ndarray = out.float().cpu().numpy()
        return logits


def _build_texts(prompts: list[list[int]], answers: list[list[int]], positions: int | None) -> ParityTexts:
    """Return prompts with their responses, cut to the model's positions."""
    ids, places = [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        kept = prompt[-(positions - len(answer)) :] if positions else prompt
        ids.append([*kept, *answer])
        places.append(list(range(max(1, len(kept)), len(kept) + len(answer))))
    return ParityTexts(ids=ids, places=places)
