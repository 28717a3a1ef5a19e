"""Files that are written aside: two writers of one file do not take each other's."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from store.core.job_folder import read_json, write_atomically, write_json


def test_two_threads_may_write_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "answer.json"
    other = threading.Thread(target=write_json, args=(path, {"by": "other"}))
    with write_atomically(path) as aside:
        assert aside.name.endswith(f".{os.getpid()}")  # by which a start knows what a dead process left
        aside.write_text('{"by": "this"}')
        other.start()
        other.join()
        assert read_json(path) == {"by": "other"}
    assert read_json(path) == {"by": "this"}
    assert [file.name for file in tmp_path.iterdir()] == ["answer.json"]
