"""Typed questions about a state: a probability for each option, from the scores of the options' labels.

Questions, prompts and answers have the form of transformers' decision models, whose own reader checks them.
Any model that chats can be asked: it is shown the options with their labels, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jinja2 import Environment
from transformers.decision import DecisionConfig
from transformers.decision.template_utils import DECISION_PROMPT, Question, label_token_ids, parse_questions

from engine.rows.render import rendered
from engine.serving.protocol.bodies import DecisionBody
from engine.serving.protocol.json_object import JsonObject
from engine.serving.protocol.refusals import Refused
from store.documents.serving.backend import LabelSettings

PLAIN: LabelSettings = {"temperature": 1.0, "threshold": None}


@dataclass(frozen=True)
class AskedQuestion:
    """One question as the model is asked it; `labels`: the token of each option."""

    question: Any
    prompt: list[int]
    labels: list[int]


class Decisions:
    """Reads questions and writes answers; counts how many it abstained from."""

    def __init__(self, settings: LabelSettings | None) -> None:
        self._settings = settings or PLAIN
        self._asked = self._answered = 0
        self._template = Environment(autoescape=False).from_string(DECISION_PROMPT)

    def read(self, body: DecisionBody, tokenizer: Any) -> list[AskedQuestion]:
        """The questions of a request. Raises Refused, of status 422 for questions of a wrong form."""
        try:
            questions = parse_questions(body.questions, DecisionConfig())
        except ValueError as error:
            raise Refused(str(error), status=422, field="questions") from error
        return [self._question(question, body.state, tokenizer) for question in questions]

    def _question(self, question: Question, state: Any, tokenizer: Any) -> AskedQuestion:
        try:
            labels = label_token_ids(tokenizer, tuple(question.labels))
        except ValueError as error:
            raise Refused(str(error), field="questions") from error
        text = self._template.render(state=state, question=question)
        prompt = rendered(tokenizer, [{"role": "user", "content": text}], generation_prompt=True)
        return AskedQuestion(question, tokenizer(prompt, add_special_tokens=False).input_ids, labels)

    def answers(self, questions: Sequence[AskedQuestion], scores: Sequence[torch.Tensor]) -> JsonObject:
        """The answer to each question, from the scores of the token after its prompt."""
        answers = {}
        for asked, own in zip(questions, scores, strict=True):
            chances = (own[torch.tensor(asked.labels)] / self._settings["temperature"]).softmax(-1)
            answer = asked.question.answer(chances.tolist())
            threshold = self._settings["threshold"]
            if threshold is not None:
                self._asked += 1
                abstained = float(chances.max()) < threshold
                self._answered += not abstained
                answer |= {"abstained": abstained, "threshold": threshold}
                answer |= {"coverage": self._answered / self._asked, "asked": self._asked}
            answers[asked.question.name] = answer
        return answers
