"""One answer of a held model, as events; whoever asks for the next event lets it make one token more.

What can't be answered is refused before the model is run: a conversation that doesn't fit into what the model
can see, or that its template refuses.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from jinja2.exceptions import TemplateError

from engine.forward.generation import ends_of
from engine.forward.stepwise import DrawnFrom, NotANumber, Step, steps
from engine.playground.shelf import Ready
from engine.playground.text_pieces import Held, StopStrings, TokenText
from engine.rows.render import Messages, rendered
from store.config.judging.talk_config import TalkSampling
from store.contract.errors import ConfigError, ModelError
from store.documents.talk.talk_events import EndReason, TalkEvent, TalkFigures, TalkToken, TokenChance

UNMEASURED: TalkToken = {"text": "", "logprob": None, "top": []}  # bytes at the end that are no character


def prompt_tokens(ready: Ready, messages: Messages, sampling: TalkSampling) -> list[int]:
    """The conversation as the model is asked it. Raises ConfigError (messages, max_new_tokens)."""
    try:
        text = rendered(ready.tokenizer, messages, generation_prompt=True)
    except (TemplateError, TypeError, ValueError) as error:
        raise ConfigError(
            f"The model's chat template refuses the conversation: {error}.",
            fix="Some take no system prompt, or want the turns to alternate: leave the system prompt empty.",
            field="messages",
        ) from error
    tokens: list[int] = ready.tokenizer(text, add_special_tokens=False).input_ids
    if not tokens:
        raise ConfigError("The conversation has no tokens for this model.", fix="Say more.", field="messages")
    room = ready.positions
    if room and len(tokens) >= room:
        raise ConfigError(
            f"The conversation has {len(tokens):,} tokens, and the model can see {room:,}.",
            fix="Go on from an earlier turn, or say less.",
            field="messages",
        )
    if room and len(tokens) + sampling.max_new_tokens > room:
        raise ConfigError(
            f"The conversation has {len(tokens):,} tokens; with {sampling.max_new_tokens:,} new ones they are"
            f" more than the {room:,} that the model can see.",
            fix=f"Set max new tokens to {room - len(tokens):,} or less, or go on from an earlier turn.",
            field="max_new_tokens",
        )
    return tokens


class Answer:
    """The answer while it is made."""

    def __init__(
        self,
        ready: Ready,
        messages: Messages,
        sampling: TalkSampling,
        device: str,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.ready, self._sampling, self._clock, self._device = ready, sampling, clock, device
        self._prompt = prompt_tokens(ready, messages, sampling)
        self._times: list[float] = []
        self._began = clock()

    def events(self) -> Iterator[TalkEvent]:
        """`begin`, each token, `end`. Raises ModelError where the model's scores are no numbers."""
        self._began = self._clock()
        yield {"type": "begin", "prompt_tokens": len(self._prompt)}
        text = TokenText(self.ready.tokenizer)
        stops: StopStrings[TalkToken] = StopStrings(self._sampling.stop)
        reason: EndReason = "length"
        for step in self._steps():
            self._times.append(self._clock())
            if step is None:
                reason = "end"
                break
            yield from _token_events(stops.add(text.add(step.token), self._chances(text, step)))
            if stops.stopped:
                reason = "stop"
                break
        if not stops.stopped:
            yield from _token_events([*stops.rest(), *([Held(rest)] if (rest := text.rest()) else [])])
        yield {"type": "end", "reason": reason, "figures": self._figures()}

    def _steps(self) -> Iterator[Step | None]:
        """Steps up to a closing token, for which None stands."""
        asked = self._sampling
        drawn = DrawnFrom(asked.temperature, asked.top_p, asked.top_k, asked.repetition_penalty, asked.seed)
        model = self.ready.switched_on()
        ends = ends_of(model, self.ready.tokenizer)
        made = steps(model, self._prompt, drawn, self._device)
        for _ in range(asked.max_new_tokens):
            self.ready.switched_on()
            try:
                step = next(made)
            except NotANumber as error:
                raise ModelError(
                    f"After {len(self._times):,} tokens the model's scores are not numbers (NaN), so there is"
                    " no next token.",
                    fix="Its weights are damaged, or its precision is too small for it: look at the run's"
                    " curves, or choose an earlier checkpoint.",
                    field="model",
                ) from error
            if step.token in ends:
                yield None
                return
            yield step

    def _chances(self, text: TokenText, step: Step) -> TalkToken:
        """The token with its alternatives; its text comes when it is known."""
        top: list[TokenChance] = [
            {"text": text.alone(token), "logprob": logprob} for token, logprob in step.alternatives
        ]
        return {"text": "", "logprob": step.logprob, "top": top}

    def _figures(self) -> TalkFigures:
        times = self._times
        more = len(times) - 1
        return {
            "prompt_tokens": len(self._prompt),
            "tokens": len(times),
            "first_token_seconds": times[0] - self._began if times else None,
            "tokens_per_second": more / (times[-1] - times[0]) if more > 0 and times[-1] > times[0] else None,
        }


def _token_events(pieces: list[Held[TalkToken]]) -> Iterator[TalkEvent]:
    for piece in pieces:
        yield {"type": "token", **(piece.about or UNMEASURED), "text": piece.text}
