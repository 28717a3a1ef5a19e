"""A two-layer Llama with random weights and a byte-level tokenizer, made in a second, for tests.

Real enough for every code path of training, small enough that a step takes milliseconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
ENCODER_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def make_tokenizer(template: str | None = CHATML) -> Any:
    """A tokenizer of 259 tokens: the bytes and three special ones; pad is eos, as in SmolLM2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=SPECIAL[1], eos_token=SPECIAL[2], unk_token=SPECIAL[0]
    )
    tokenizer.pad_token = SPECIAL[2]
    if template is not None:
        tokenizer.chat_template = template
    return tokenizer


def make_model(seed: int = 0, **changes: Any) -> Any:
    """A Llama of 2 layers and width 32 in fp32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    shape = {
        "vocab_size": 259,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    return LlamaForCausalLM(LlamaConfig(**(shape | changes)))


def write_model(folder: Path, template: str | None = CHATML, seed: int = 0, **changes: Any) -> Path:
    """Model and tokenizer as `save_pretrained` leaves them; `changes` to the model's config."""
    make_model(seed, **changes).save_pretrained(folder)
    make_tokenizer(template).save_pretrained(folder)
    return folder


def make_encoder_tokenizer() -> Any:
    """The bytes as tokens, [CLS] before and [SEP] after each text; no end-of-text token, as BERT has none."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*ENCODER_SPECIAL, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    around = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=around)
    pad, unknown, first, between, mask = ENCODER_SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=pad,
        unk_token=unknown,
        cls_token=first,
        sep_token=between,
        mask_token=mask,
    )


def encoder_config(kind: str, **changes: Any) -> Any:
    """The config of an encoder of 2 layers and width 32, of the model type `kind`."""
    from transformers import AutoConfig

    tokens = {
        "initializer_range": 0.1,
        "pad_token_id": 0,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    shape = {"vocab_size": 261, "max_position_embeddings": 256, **tokens}
    if kind == "distilbert":
        own = {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4}
    else:
        own = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return AutoConfig.for_model(kind, **(shape | own | changes))


def write_encoder(folder: Path, kind: str = "bert", **changes: Any) -> Path:
    """An encoder with random weights as it is published: trained to fill in words, so without a classifier
    and, where it is a BERT, without a pooler."""
    import torch
    from transformers import AutoModelForMaskedLM

    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(encoder_config(kind, **changes)).save_pretrained(folder)
    make_encoder_tokenizer().save_pretrained(folder)
    return folder


def write_rows(
    home: Any,
    fingerprint: str,
    rows: list[Any],
    *,
    labels: list[str | None] | None = None,
    rejected: list[str] | None = None,
) -> None:
    """A data set of conversations (with labels), of pairs of answers, or of plain texts, where an import
    would have put it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from store.data.dataset_files import LATER, SCHEMA

    texts = all(isinstance(row, str) for row in rows)
    count = len(rows)
    columns = {
        "row_id": range(count),
        "line": range(1, count + 1),
        "messages": [None] * count if texts else rows,
        "text": rows if texts else [" ".join(m["content"] for m in row) for row in rows],
        "label": labels or [None] * count,
        "rejected": rejected or [None] * count,
        "digest": range(count),
        "source": ["{}"] * count,
        **{name: [None] * count for name in LATER},
    }
    home.rows(fingerprint).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({n: list(c) for n, c in columns.items()}, schema=SCHEMA), home.rows(fingerprint))


def make_job(home: Any, name: str, *, kind: str = "chat", resume: bool = False, **fields: Any) -> Any:
    """A train job on the data set `rows` of the home folder; a resumed one keeps its folder."""
    from engine.worker.job import WorkerJob
    from store.core.job_folder import write_json
    from store.training.train_config import TrainConfig

    folder = home.jobs / name
    folder.mkdir(exist_ok=True)
    given = {"model": str(home.models / "tiny"), "dataset": "rows", "dtype": "float32", "sample_prompts": 2}
    given |= {"probes": False}  # the suite is long for bytes as tokens: tests of it ask for it
    config = TrainConfig(**(given | fields)).resolved(100, 10_000)
    order = {
        "job_id": name,
        "run_id": name,
        "kind": "train",
        "home": str(home.path),
        "device": "cpu",
        "attempt": 2 if resume else 1,
        "resume": resume,
        "config": config.model_dump(),
        "dataset": {"fingerprint": "rows", "name": "rows", "kind": kind},
        "split": {"split_seed": 0, "validation_size": 0.1, "test_size": 0.1},
    }
    write_json(folder / "config.json", order)
    return WorkerJob(folder)


def worse_answers(rows: list[list[dict[str, str]]]) -> list[str]:
    """A rejected answer to each of `conversations`: backwards, and a little longer."""
    return [row[-1]["content"][::-1] + "!" * (i % 3) for i, row in enumerate(rows)]


def conversations(count: int) -> list[list[dict[str, str]]]:
    """Short questions of different lengths, whose answers can be learned."""
    colours = ["red", "green", "blue", "white"]
    return [
        [
            {"role": "user", "content": f"Number {i}" + "?" * (i % 5)},
            {"role": "assistant", "content": colours[i % 4] + " " + str(i % 4)},
        ]
        for i in range(count)
    ]
