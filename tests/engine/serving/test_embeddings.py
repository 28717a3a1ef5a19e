"""Embeddings: the vectors that transformers gives, pooled as the folder says, by OpenAI's own client."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import torch
from transformers import AutoModel

from engine.serving.protocol.answers import RequestError
from engine.serving.torch_backend.answering import load_answerer
from engine.serving.torch_backend.one_pass_models import EncoderAnswerer, LoadedEncoder
from store.core.errors import ModelError
from tests.engine.serving import served
from tests.tiny import make_encoder_tokenizer, write_encoder, write_model

TEXTS = ["a cat", "the whole history of the world, as it is told to children", "dog"]


@contextmanager
def encoder(folder: Path, model: Path) -> Iterator[openai.OpenAI]:
    spec = served.spec_of(folder, model=str(model), adapters=[])
    transport = httpx.HTTPTransport(uds=spec["socket"])
    with served.server(load_answerer(spec), spec["socket"]), httpx.Client(transport=transport) as http:
        yield openai.OpenAI(base_url="http://backend/v1", api_key="-", http_client=http, max_retries=0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[openai.OpenAI]:
    with encoder(tmp_path_factory.mktemp("e"), model) as client:
        yield client


def expected(model: Path, pooling: str = "mean") -> np.ndarray:
    """Each text alone, by transformers."""
    loaded: Any = AutoModel.from_pretrained(model).eval()
    tokenizer, vectors = make_encoder_tokenizer(), []
    for text in TEXTS:
        with torch.inference_mode():
            states = loaded(input_ids=torch.tensor([tokenizer(text).input_ids])).last_hidden_state[0]
        pooled = states.mean(0) if pooling == "mean" else states[0]
        vectors.append((pooled / pooled.norm()).numpy())
    return np.stack(vectors)


def of(answer: Any) -> np.ndarray:
    return np.array([entry.embedding for entry in answer.data])


def test_vectors_are_those_of_each_text_alone_and_of_length_one(client: openai.OpenAI, model: Path) -> None:
    answer = client.embeddings.create(model="base", input=TEXTS)
    assert [entry.index for entry in answer.data] == [0, 1, 2]
    assert np.allclose(of(answer), expected(model), atol=1e-5)
    assert np.allclose(np.linalg.norm(of(answer), axis=1), 1)
    tokens = sum(len(make_encoder_tokenizer()(text).input_ids) for text in TEXTS)
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (tokens, tokens)


def test_a_text_tokens_and_both_encodings_give_the_same_vector(client: openai.OpenAI) -> None:
    tokens = make_encoder_tokenizer()(TEXTS[0]).input_ids
    given: list[Any] = [TEXTS[0], [TEXTS[0]], tokens, [tokens]]
    vectors = [
        of(client.embeddings.create(model="base", input=each, encoding_format="float")) for each in given
    ]
    assert all(np.allclose(vector, vectors[0], atol=1e-6) for vector in vectors)
    body = {"model": "base", "input": TEXTS[0], "encoding_format": "base64"}
    packed = client.post("/embeddings", body=body, cast_to=httpx.Response).json()["data"][0]["embedding"]
    assert np.allclose(np.frombuffer(base64.b64decode(packed), "<f4"), vectors[0][0], atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"dimensions": 8}, "dimensions", "32 numbers"),
        ({"input": ["a", ""]}, "input", "Text 1 is empty"),
        ({"input": []}, "input", "from 1 to"),
        ({"input": ["a"] * 3000}, "input", "3,000 texts"),
        ({"input": [[99_999]]}, "input", "99999"),
        ({"input": "long " * 200}, "input", "the model can see 256"),
        ({"stream": True}, "stream", "not supported"),
    ],
)
def test_what_can_not_be_embedded_is_refused(
    client: openai.OpenAI, fields: dict[str, Any], field: str, words: str
) -> None:
    body = {"model": "base", "input": "a", **fields}
    with pytest.raises(openai.BadRequestError, match=words) as refused:
        client.post("/embeddings", body=body, cast_to=httpx.Response)
    assert refused.value.param == field


@pytest.mark.parametrize(("encoding", "room"), [("float", 2**20 // 12), ("base64", 15 * 2**20 * 3 // 16)])
def test_numbers_of_json_have_less_room_as_reading_them_holds_up_others(encoding: Any, room: int) -> None:
    size = 4096
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(hidden_size=size))
    large = LoadedEncoder(SimpleNamespace(config=config), None, "mean", 512, ["base"])
    body = {"model": "base", "input": ["a"] * (room // size + 1), "encoding_format": encoding}
    with pytest.raises(RequestError, match="fewer at once"):
        asyncio.run(EncoderAnswerer(large).answer("embedding", body))


def test_the_models_own_dimensions_may_be_named(client: openai.OpenAI) -> None:
    assert of(client.embeddings.create(model="base", input="a", dimensions=32)).shape == (1, 32)


def test_an_encoder_is_no_chat_and_a_writing_model_embeds_nothing(
    client: openai.OpenAI, tmp_path: Path
) -> None:
    with pytest.raises(openai.BadRequestError, match="embedding alone, not chat"):
        client.chat.completions.create(model="base", messages=[{"role": "user", "content": "?"}])
    write_model(tmp_path / "base")
    with (
        encoder(tmp_path, tmp_path / "base") as writer,
        pytest.raises(openai.BadRequestError, match="encoder"),
    ):
        writer.embeddings.create(model="base", input="a")


def sentence_transformer(folder: Path, *more: str, **mode: Any) -> Path:
    kinds = {"Transformer": "", "Pooling": "1_Pooling", **dict.fromkeys(more, "2")}
    write_encoder(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(mode))
    parts = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(parts))
    return folder


def test_the_pooling_that_a_folder_names_is_done(tmp_path: Path) -> None:
    mode = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    folder = sentence_transformer(tmp_path / "m", "Normalize", **mode)
    with encoder(tmp_path, folder) as client:
        vectors = of(client.embeddings.create(model="base", input=TEXTS))
    assert np.allclose(vectors, expected(folder, "first"), atol=1e-5)


@pytest.mark.parametrize(
    ("more", "mode", "words"),
    [
        ((), {"pooling_mode_max_tokens": True}, "max_tokens"),
        (("Dense",), {"pooling_mode_mean_tokens": True}, "Dense"),
    ],
)
def test_another_pooling_is_refused_as_it_is_loaded(
    tmp_path: Path, more: tuple[str, ...], mode: dict[str, bool], words: str
) -> None:
    folder = sentence_transformer(tmp_path / "m", *more, **mode)
    with pytest.raises(ModelError, match=words):
        load_answerer(served.spec_of(tmp_path, model=str(folder), adapters=[]))


def test_a_text_as_long_as_shifted_positions_leave_is_taken(tmp_path: Path) -> None:
    """The first positions of a RoBERTa are below its padding token's: a text of all of them broke off."""
    with encoder(tmp_path, write_encoder(tmp_path / "m", "roberta")) as client:
        tokens = [5] * 255
        assert len(of(client.embeddings.create(model="base", input=tokens))) == 1
        with pytest.raises(openai.BadRequestError, match="can see 255"):
            client.embeddings.create(model="base", input=[*tokens, 5])
