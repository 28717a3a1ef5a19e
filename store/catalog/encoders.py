"""Encoders: models that read a text and can't write one. They take a classification head, and no other task.

A model is known by the `model_type` of its config, or by the class that its config names. Tests hold each of
these against transformers: that it has a classifier, and no position that the engine doesn't know of.
"""

from __future__ import annotations

ENCODERS = frozenset({
    "albert", "bert", "camembert", "data2vec-text", "deberta", "deberta-v2", "distilbert", "electra", "ernie",
    "megatron-bert", "mobilebert", "modernbert", "mpnet", "rembert", "roberta", "roberta-prelayernorm",
    "roformer", "xlm-roberta", "xlm-roberta-xl",
})  # fmt: skip
# Their first position is that after the number of the padding token, so that fewer are left for a row.
SHIFTED = frozenset({
    "camembert", "data2vec-text", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl",
})  # fmt: skip


def reads_only(model_type: str) -> bool:
    """Whether a model of that type is an encoder; "DebertaV2" is taken for "deberta-v2"."""
    return _folded(model_type) in _FOLDED


def _folded(model_type: str) -> str:
    return model_type.lower().replace("-", "").replace("_", "")


_FOLDED = frozenset(map(_folded, ENCODERS))
