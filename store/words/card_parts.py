"""What the cards of models have in common: a run's (`adapter_card`), a version's (`model_card`), an export's.

Front matter in the hub's form, how a base is called, figures with their intervals, how to load what lies
beside the card.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from store.contract.yaml_text import to_yaml
from store.documents.figures.estimate import Estimate
from store.documents.figures.figure import Difference, ListedFigure

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
TASKS = {  # of a run -> its name, and the hub's
    "sft": ("instruction tuning (SFT)", "text-generation"),
    "dpo": ("preference tuning (DPO)", "text-generation"),
    "classification": ("text classification", "text-classification"),
}
FORMER_PLACES, MOST_PLACES = 3, 6  # of numbers without an interval, and with the narrowest one
BASE_FOLDER = "FOLDER OF THE BASE MODEL"
OF_FOLDER = "`FOLDER` is the folder of this file."
UNREGISTERED = "peft doesn't know this method; call `engine.models.bottleneck.register()` of Tunebench first."
_MARKS = re.compile(r"([\\`*_\[\]<>|#])")


# -- front matter -----------------------------------------------------------------------------------


def front_matter(head: Mapping[str, object]) -> str:
    """The head as hubs read it."""
    return f"---\n{to_yaml(dict(head)).strip()}\n---"


def head(
    base: str | None, relation: str, library: str, pipeline: str, tags: Sequence[str]
) -> dict[str, object]:
    """What every card says in its front matter. base: as a hub knows it; None where none does."""
    own: dict[str, object] = {}
    if base:
        own |= {"base_model": base, "base_model_relation": relation}
    own["library_name"] = library
    if pipeline:
        own["pipeline_tag"] = pipeline
    return own | {"tags": ["tunebench", *tags]}


def relation(adapter: bool) -> str:
    """What a tuned model is to its base, in the hub's words."""
    return "adapter" if adapter else "finetune"


def library(adapter: bool) -> str:
    """By which a tuned model is loaded."""
    return "peft" if adapter else "transformers"


# -- names ------------------------------------------------------------------------------------------


def hub_id(name: str | None) -> str | None:
    """The name, where it is OWNER/NAME as on the hub; a path never is."""
    return name if name and HUB_ID.fullmatch(name) else None


def last_part(path: str) -> str:
    """The last part of a path; a plain name as it is."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def hub_link(owner: str) -> str:
    """A model of the hub, as a link."""
    return f"[{owner}](https://huggingface.co/{owner})"


def local_base(name: str) -> str:
    """A base that no hub is known to have, without the path of the machine."""
    return f"{plain(last_part(name))}, a folder of the machine that trained it"


def on_one_line(value: str | None) -> str:
    """Text without line breaks, for a field of the front matter."""
    return " ".join((value or "").split())


def plain(value: str | None) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKS.sub(r"\\\1", on_one_line(value))


# -- figures ----------------------------------------------------------------------------------------


def with_interval(figure: Estimate | ListedFigure | Difference, *, signed: bool = False) -> str:
    """ "0.84 (0.81 to 0.87)", or that there is no interval. signed: a change, which says + too."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    assert value is not None
    if low is None or high is None or not high > low:
        return f"{number(value, FORMER_PLACES, signed=signed)} (no interval)"
    needed = max(0, -math.floor(math.log10((high - low) / 6 * (1 + 1e-9))))
    if needed > MOST_PLACES:  # as of an export that is all but the same
        sign = "+" if signed else ""
        return f"{value:{sign}.2g} ({low:{sign}.2g} to {high:{sign}.2g})".replace("-", "−")
    middle, *ends = (number(each, needed, signed=signed) for each in (value, low, high))
    return f"{middle} ({ends[0]} to {ends[1]})"


def number(value: float, places: int, *, signed: bool = False) -> str:
    """With a real minus, and none before a zero."""
    text = f"{abs(value):,.{places}f}"
    if not text.strip("0.,"):
        return text
    return f"−{text}" if value < 0 else f"+{text}" if signed else text


# -- loading ----------------------------------------------------------------------------------------


class BaseOfAdapter(NamedTuple):
    """hub_id: None where no hub is known to have it."""

    hub_id: str | None


def loading(place: str, base: BaseOfAdapter | None, *, headed: bool) -> str:
    """Code that loads a model. place: its folder or repository; base: of an adapter; headed: a classifier."""
    kind = "ForSequenceClassification" if headed else "ForCausalLM"
    if base is None:
        lines = [f"from transformers import AutoModel{kind}, AutoTokenizer", ""]
        lines += [f'model = AutoModel{kind}.from_pretrained("{place}")']
    elif headed:
        lines = _headed(place, base)
    elif base.hub_id:
        lines = [f"from peft import AutoPeftModel{kind}", "from transformers import AutoTokenizer", ""]
        lines += [f'model = AutoPeftModel{kind}.from_pretrained("{place}")']
    else:
        lines = ["from peft import PeftModel", f"from transformers import AutoModel{kind}, AutoTokenizer", ""]
        lines += [f'base = AutoModel{kind}.from_pretrained("{BASE_FOLDER}")']
        lines += [f'model = PeftModel.from_pretrained(base, "{place}")']
    lines += [f'tokenizer = AutoTokenizer.from_pretrained("{place}")']
    return "```python\n" + "\n".join(lines) + "\n```"


def _headed(place: str, base: BaseOfAdapter) -> list[str]:
    """The base's config doesn't name the labels; it may be a classifier itself, for others, whose head gives
    way to the adapter's."""
    kind = "ForSequenceClassification"
    read = [f'config = AutoConfig.from_pretrained("{place}")  # with the labels']
    if base.hub_id:
        return [
            *(
                f"from peft import AutoPeftModel{kind}",
                "from transformers import AutoConfig, AutoTokenizer",
                "",
            ),
            *read,
            f"model = AutoPeftModel{kind}.from_pretrained(",
            f'    "{place}", id2label=config.id2label, label2id=config.label2id,',
            "    pad_token_id=config.pad_token_id, ignore_mismatched_sizes=True,",
            ")",
        ]
    return [
        *(
            "from peft import PeftModel",
            f"from transformers import AutoConfig, AutoModel{kind}, AutoTokenizer",
        ),
        *("", *read),
        f"base = AutoModel{kind}.from_pretrained(",
        f'    "{BASE_FOLDER}", config=config, ignore_mismatched_sizes=True',
        ")",
        f'model = PeftModel.from_pretrained(base, "{place}")',
    ]
