"""What runs in processes of their own beside a hub: who trains on its model and pushes, and who loads that.

`python -m tests.engine.exports.hub_readers train|export|load ...`; HF_ENDPOINT and HF_HOME are the caller's.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

BASE, PUSHED = "ada/tiny", "ada/support"
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.arange(40)[None], use_cache=False).logits.float()


def train(folder: Path) -> None:
    """Train on the hub's model, push the adapter, and leave the model's answers."""
    from engine.evaluation import evaluated_model
    from store.core.home import Home
    from tests.engine import exporting
    from tests.tiny import conversations, write_rows

    home = Home(folder / "home").create()
    write_rows(home, "rows", conversations(60))
    exporting.trained(home, model=BASE, dtype="float32")
    job = export(folder, "adapter", hub=PUSHED)
    torch.save(
        logits(evaluated_model.load_tuned(job, evaluated_model.find_run(job, "run")).model),
        folder / "trained.pt",
    )


def export(folder: Path, form: str, **fields: Any) -> Any:
    """Export the run, read back in this process; the job."""
    from engine.export import model_export
    from store.core.home import Home
    from tests.engine import exporting

    with pytest.MonkeyPatch.context() as patch:
        exporting.read_here(patch)
        job = exporting.export_job(Home(folder / "home"), form, **fields)
        result = model_export.run(job)
        assert fields.get("hub") is None or result.hub, result.notices
    return job


def load(folder: Path) -> None:
    """By the code of the pushed card alone, on a machine that has nothing of it."""
    from huggingface_hub import hf_hub_download

    text = Path(hf_hub_download(PUSHED, "README.md")).read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    (code,) = CODE.findall(text)
    exec(code, names)  # as a reader of the card would
    torch.save(logits(names["model"]), folder / "loaded.pt")
    (folder / "tools.txt").write_text(names["tokenizer"].get_chat_template("tool_use"))


if __name__ == "__main__":
    what, where, *more = sys.argv[1:]
    {"train": train, "export": export, "load": load}[what](Path(where), *more)
