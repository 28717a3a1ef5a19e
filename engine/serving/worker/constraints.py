"""Answers that must be JSON, or fit a JSON schema: which tokens may come next, by llguidance's automaton,
which knows each token's bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer

from engine.serving.protocol.forms import TokenLogprob
from engine.serving.protocol.refusals import Refused

SPACES: Any = {"whitespace_pattern": r"\n?[ ]{0,16}"}  # else a model may write blanks without end


class Grammars:
    """Makes constraints for one tokenizer."""

    def __init__(self, tokenizer: Any, vocabulary: int, ends: frozenset[int]) -> None:
        self._given = (tokenizer, vocabulary, sorted(ends))
        self._tokenizer: LLTokenizer | None = None

    def of_schema(self, schema: Mapping[str, object]) -> GrammarState:
        """One that lets through what fits the schema. Raises Refused for one that can't be held to."""
        own = self._own()
        try:
            grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=SPACES)
            wrong, why = LLMatcher.validate_grammar_with_warnings(grammar, own)
        except ValueError as error:
            wrong, why = True, [str(error)]
        if wrong:
            raise Refused(f"The JSON schema can't be held to: {' '.join(why)[:300]}", field="response_format")
        return GrammarState(LLMatcher(own, grammar, log_level=0))

    def entry(self, token: int, logprob: float) -> TokenLogprob:
        """A token as the protocol has it, special ones by their names."""
        text = str(self._given[0].decode([token], clean_up_tokenization_spaces=False))
        own = self._own()
        pieces = text.encode() if own.is_special_token(token) else own.decode_bytes([token])
        return {"token": text, "logprob": logprob, "bytes": list(pieces)}

    def _own(self) -> LLTokenizer:
        if self._tokenizer is None:
            tokenizer, vocabulary, ends = self._given
            self._tokenizer = from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=ends)
        return self._tokenizer


class GrammarState:
    """Where one answer is in its grammar."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def copy(self) -> GrammarState:
        """For another answer that begins alike."""
        return GrammarState(self._matcher.deep_copy())

    def forbid(self, scores: torch.Tensor) -> None:
        """-inf, in place, for tokens [vocabulary] that may not come next. Raises Refused where none may."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: len(scores)].astype(bool)
        if self._matcher.is_error() or not allowed.any():
            why = self._matcher.get_error().partition("\n")[0]  # below it stands the state of the parser
            raise Refused(f"The JSON schema could not be followed: {why[:300]}.", field="response_format")
        scores.masked_fill_(torch.from_numpy(~allowed).to(scores.device), -torch.inf)

    def accept(self, token: int) -> bool:
        """Take the token that was chosen; whether more may follow."""
        self._matcher.consume_token(token)
        return not self._matcher.is_stopped()
