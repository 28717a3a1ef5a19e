"""What the cards of models have in common: a run's (`adapter_card`), a version's (`model_card`), an export's.

Front matter in the hub's form, how a base is called, figures with their intervals, how to load what lies
beside the card.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

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


def is_path(name: str) -> bool:
    """Whether it says where something lies on a machine."""
    return not hub_id(name) and ("/" in name or "\\" in name)


def hub_link(owner: str) -> str:
    """A model of the hub, as a link."""
    return f"[{owner}](https://huggingface.co/{owner})"


def local_base(name: str) -> str:
    """A base that no hub is known to have, without the path of the machine."""
    return f"{plain(last_part(name))}, a folder of the machine that trained it"


def plain(value: str | None) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKS.sub(r"\\\1", " ".join((value or "").split()))


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


def loading(base: str | None, revision: str | None, *, headed: bool) -> str:
    """Code that loads what lies beside the card. base: of an adapter, by its hub id or what stands for it;
    headed: a classifier."""
    kind = "AutoModelForSequenceClassification" if headed else "AutoModelForCausalLM"
    if base is None:
        lines = [
            f"from transformers import AutoTokenizer, {kind}",
            f'model = {kind}.from_pretrained("FOLDER")',
        ]
    else:
        options = f', revision="{revision}"' if revision else ""
        # the base may be a classifier itself, for other labels, whose head gives way to the adapter's
        options += ", config=config, ignore_mismatched_sizes=True" if headed else ""
        config = "AutoConfig, " if headed else ""
        lines = ["from peft import PeftModel", f"from transformers import {config}AutoTokenizer, {kind}"]
        lines += ['config = AutoConfig.from_pretrained("FOLDER")'] if headed else []
        lines += [f'base = {kind}.from_pretrained("{base}"{options})']
        lines += ['model = PeftModel.from_pretrained(base, "FOLDER")']
    lines += ['tokenizer = AutoTokenizer.from_pretrained("FOLDER")']
    return "`FOLDER` is the folder of this file.\n\n```python\n" + "\n".join(lines) + "\n```"
