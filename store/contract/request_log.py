"""Where the log of an endpoint lies, and what stands beside it.

endpoints/ID/log/requests-NNNNNN.jsonl    a line for each request (`store.documents.serving.request_line`)
endpoints/ID/log/feedback-NNNNNN.jsonl    a line for each answer to an answer (`…serving.feedback_line`)
endpoints/ID/monitor/                     what new requests are measured from

Files are appended to alone, and a new one begins with the next number; whoever reads them goes on from a byte
offset and takes whole lines (`store.contract.events.read_events`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from store.contract.home import Home

Series = Literal["requests", "feedback"]
_NAME = re.compile(r"(requests|feedback)-(\d+)\.jsonl")


def log_folder(home: Home, endpoint_id: str) -> Path:
    """Where the gateway writes."""
    return home.path / "endpoints" / endpoint_id / "log"


def monitor_folder(home: Home, endpoint_id: str) -> Path:
    """Where the monitor keeps files of its own."""
    return home.path / "endpoints" / endpoint_id / "monitor"


def next_file(path: Path) -> Path:
    """That which comes after a file in its series."""
    series, _, number = path.stem.rpartition("-")
    return path.with_name(f"{series}-{int(number) + 1:06}{path.suffix}")


def log_files(home: Home, endpoint_id: str, series: Series) -> list[Path]:
    """The files of one series, in the order of their numbers."""
    numbered = []
    try:
        for path in log_folder(home, endpoint_id).iterdir():
            name = _NAME.fullmatch(path.name)
            if name and name[1] == series:
                numbered.append((int(name[2]), path))
    except FileNotFoundError:
        return []
    return [path for _, path in sorted(numbered)]
