"""Configs of playground requests: models, sampling and messages.

A conversation stores its models and settings (`ChatSettings`), so that a request for an answer contains
only the text. A request without a conversation contains both (`ChatRequest`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from store.core.config import Config, Line, ModelSource
from store.core.errors import TunebenchError
from store.core.metric_options import Endpoint
from store.core.model_fields import FieldDisplay
from store.core.model_schemas import GenerationNamed
from store.core.row_schemas import Message
from store.core.schemas import ConfigDocument
from store.evaluation.config import CHECKPOINTS, Checkpoint

MAX_MODELS = 4
LONGEST_STOP = 20  # maximum characters of a stop string in a label
TOP_K = 50  # default of transformers for models that sample
MEMORY_SHORT = "memory"  # `field` of the error if memory is too small for a model
LONGEST_TEXT = 400_000  # maximum characters of a message; the context length is checked in tokens


class ChatSampling(Config):
    """Sampling settings. With temperature 0, decoding is greedy and seed, top_p and top_k are ignored."""

    model_config = ConfigDict(str_strip_whitespace=False)  # a line break may be a stop string

    temperature: Annotated[float, FieldDisplay(high=2, step=0.05, slider=True)] = Field(
        0.0, ge=0, le=5, title="temperature", description="0: greedy decoding"
    )
    top_p: Annotated[float, FieldDisplay(low=0.01, step=0.05)] = Field(
        1.0,
        gt=0,
        le=1,
        title="top p",
        description="Sample from the most likely tokens with this total probability",
    )
    top_k: int = Field(
        0, ge=0, le=1_000, title="top k", description="Sample only from the k most likely tokens; 0: from all"
    )
    max_new_tokens: int = Field(256, ge=1, le=4_096, title="longest answer", description="Maximum new tokens")
    repetition_penalty: Annotated[float, FieldDisplay(step=0.05)] = Field(
        1.0,
        ge=0.1,
        le=10,
        title="repetition penalty",
        description="Values above 1 make repeated tokens less likely",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, title="seed", description="The same seed gives the same answer")
    stop: list[str] = Field(
        default_factory=list, max_length=8, title="stop", description="Texts that end a response"
    )

    @field_validator("stop")
    @classmethod
    def _short(cls, value: list[str]) -> list[str]:
        for text in value:
            if not 1 <= len(text) <= 100:
                raise ValueError("each stop string has from 1 to 100 characters")
        return value

    @classmethod
    def from_generation(cls, generation: GenerationNamed) -> ConfigDocument:
        """Return the sampling settings in a model's generation config, interpreted as transformers does.

        It samples only if do_sample is set, then with TOP_K by default. Values out of bounds are omitted.
        """
        settings: ConfigDocument = {
            name: generation[name] for name in ("repetition_penalty", "max_new_tokens") if name in generation
        }
        if generation.get("do_sample"):
            settings |= {
                "temperature": generation.get("temperature", 1.0),
                "top_k": generation.get("top_k", TOP_K),
            }
            settings |= {"top_p": generation["top_p"]} if "top_p" in generation else {}
        elif "do_sample" in generation:
            settings["temperature"] = 0.0
        return {name: value for name, value in settings.items() if _is_valid(cls, {name: value})}

    def list_differences(self, common: ChatSampling) -> list[str]:
        """Return the settings that differ, each as a field and its value: "temperature 0.8"."""
        names = [name for name in type(self).model_fields if getattr(self, name) != getattr(common, name)]
        return [f"{type(self).model_fields[name].title} {self._format_value(name)}" for name in names]

    def _format_value(self, name: str) -> str:
        value = getattr(self, name)
        if name == "stop":
            text = value[0].replace("\n", "↵") if len(value) == 1 else ""
            short = text.isprintable() and 1 <= len(text) <= LONGEST_STOP
            return f"“{text}”" if short else f"at {len(value)} text{'s' * (len(value) != 1)}"
        return f"{value:,}" if isinstance(value, int) and name != "seed" else f"{value:g}"


def _is_valid(model: type[Config], document: ConfigDocument) -> bool:
    try:
        model.parse(document)
    except TunebenchError:
        return False
    return True


class ChatModel(Config):
    """A model to chat with.

    It is given by name, folder or hub id; by a run, as its final model, a checkpoint, its base model or an
    interpolation; or by an endpoint with an OpenAI-compatible API.
    """

    model: ModelSource = Field("", max_length=500, description="Name, folder or hub id")
    run: Line = Field("", max_length=120, description="Id or name of a run")
    checkpoint: Checkpoint = "tuned"
    alpha: float | None = Field(
        None, ge=0, le=1, description="Interpolation between the run's base model (0) and its tuned model (1)"
    )
    endpoint: Endpoint | None = None
    sampling: ChatSampling = Field(default_factory=ChatSampling)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(map(bool, (self.model, self.run, self.endpoint))) != 1:
            raise ValueError("give one of model, run and endpoint")
        if self.checkpoint != "tuned" and not self.run:
            raise ValueError("only a run has checkpoints; leave checkpoint out")
        if self.alpha is not None and (not self.run or self.checkpoint != "tuned"):
            raise ValueError("alpha is a share of the way to the tuned model of a run")
        return self

    def get_label(self, run_name: str = "") -> str:
        """Return the label of the model's answers."""
        if self.endpoint:
            return self.endpoint.model
        if not self.run:
            return self.model
        name = run_name or self.run
        if self.alpha is not None:
            return f"{name} at α {self.alpha:g}"
        return name if self.checkpoint == "tuned" else f"{name}, {CHECKPOINTS[self.checkpoint]}"


class ChatSettings(Config):
    """Models of a chat, and their system prompt."""

    model_config = ConfigDict(str_strip_whitespace=False)

    system: str = Field("", max_length=LONGEST_TEXT, description="System prompt of every model")
    models: list[ChatModel] = Field(min_length=1, max_length=MAX_MODELS)
    sampling: ChatSampling | None = Field(
        None,
        description="Common settings; models are named by their differences. Default: the first model's",
    )

    @property
    def common(self) -> ChatSampling:
        """Default sampling, shared by models without differing settings."""
        return self.sampling or self.models[0].sampling

    def list_labels(self, run_names: Mapping[str, str]) -> list[str]:
        """Return unique labels for the models' answers.

        They consist of the model name, differing sampling settings, and a number for duplicates.
        run_names: value of `run` -> name.
        """
        return number_duplicates(
            [
                " · ".join(
                    [
                        model.get_label(run_names.get(model.run, "")),
                        *model.sampling.list_differences(self.common),
                    ]
                )
                for model in self.models
            ]
        )


class ChatMessage(Config):
    model_config = ConfigDict(str_strip_whitespace=False)

    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=LONGEST_TEXT)


class ChatRequest(ChatSettings):
    """Messages to answer without a stored conversation."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=1_000)

    @field_validator("messages")
    @classmethod
    def _ending_with_prompt(cls, value: list[ChatMessage]) -> list[ChatMessage]:
        if value[-1].role != "user" or not value[-1].content.strip():
            raise ValueError("the last message must be from the user and not empty")
        if any(message.role == "system" for message in value):
            raise ValueError("instructions for the models belong into the field system")
        return value

    def to_messages(self) -> list[Message]:
        """Return the messages in the form of rows."""
        return [{"role": message.role, "content": message.content} for message in self.messages]


class NextTurn(Config):
    """The next prompt in a conversation. parent: the previous turn, empty at the beginning."""

    model_config = ConfigDict(str_strip_whitespace=False)

    conversation: Line = Field(min_length=1, max_length=120)
    parent: Line = Field("", max_length=120)
    prompt: str = Field(max_length=LONGEST_TEXT)

    @field_validator("prompt")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("it is empty; write something first")
        return value


class FollowTurn(Config):
    """Stream a turn from its beginning."""

    follow: Line = Field(min_length=1, max_length=120)


class TurnReference(Config):
    turn: Line = Field(min_length=1, max_length=120)


class NewConversation(ChatSettings):
    """Settings of a new conversation."""

    title: Line = Field("", max_length=200, description="Default: from the first message")


class ConversationEdit(Config):
    """Change a conversation; omitted fields stay unchanged."""

    model_config = ConfigDict(str_strip_whitespace=False)

    conversation: Line
    title: Line | None = Field(None, min_length=1, max_length=200)
    settings: ChatSettings | None = None


class ConversationReference(Config):
    conversation: Line


class KeptAnswer(Config):
    """Save a prompt with its correct answer, either a model's answer or a person's correction."""

    model_config = ConfigDict(str_strip_whitespace=False)

    turn: Line = Field(min_length=1, max_length=120)
    place: int = Field(ge=0, lt=MAX_MODELS, description="Model of the answer")
    kind: Literal["test", "training"]
    answer: str = Field(max_length=LONGEST_TEXT, description="Corrected answer")

    @field_validator("answer")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("it is empty; write the correct answer")
        return value


class KeptRowsTarget(Config):
    """Move saved rows that are in no data set yet to a new data set of that name, or append them to `dataset`
    as a new version.
    """

    kind: Literal["test", "training"]
    name: Line = Field("", max_length=80)
    dataset: Line = Field(
        "", max_length=120, description="Id or name of a data set to extend; default: a new data set"
    )

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not self.dataset and not self.name:
            raise ValueError("give a name for the data set, or the one to extend")
        return self


class KeptRowReference(Config):
    kept: Line


def number_duplicates(labels: Sequence[str]) -> list[str]:
    """Append numbers to duplicate labels."""
    counts: Counter[str] = Counter()
    numbered = []
    for label in labels:
        counts[label] += 1
        numbered.append(label if labels.count(label) == 1 else f"{label} ({counts[label]})")
    return numbered


def drop_defaults(model: ChatModel) -> ConfigDocument:
    """Return the model as it is stored and compared: its identifying fields without sampling."""
    return model.model_dump(exclude={"sampling"}, exclude_defaults=True)
