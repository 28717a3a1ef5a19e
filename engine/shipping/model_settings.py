"""config.json, tokenizer_config.json and the like, as transformers writes them: each family of models has
fields of its own, so that what is needed of them is read by name."""

from __future__ import annotations

from typing import Any

ModelSettings = dict[str, Any]
