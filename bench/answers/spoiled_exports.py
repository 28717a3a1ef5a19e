"""Deliberately damaged exports of a tiny model: the parity check's result for each, as a table.

    python bench/answers/spoiled_exports.py [--answers]

Each has to fail with its cause. With --answers, exports that can be loaded are also run on some rows.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import pytest

from bench.made.spoiled_exports import SPOILED, SpoiledExport, spoiled_copy
from engine.export import model_export
from engine.export.export_subject import resolve_subject
from engine.export.parity import checking
from engine.export.tensor_manifest import FILE
from store.core.export_schemas import ParityReport
from store.core.home import Home
from store.core.job_folder import read_json
from store.export.config import ModelExport
from tests.engine.exporting import export_job, home_with_model, read_here, trained


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--answers", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        read_here(monkeypatch)
        home = home_with_model(Path(folder))
        with contextlib.redirect_stdout(io.StringIO()):
            trained(home, max_steps=10)
            made = {form: model_export.run(export_job(home, form)) for form in ("merged", "adapter")}
        print("| spoiled | form | parity | cause |\n|---|---|---|---|")
        missed = 0
        for spoiled in SPOILED:
            with contextlib.redirect_stdout(io.StringIO()):
                export = home.path / made[spoiled.form].folder
                report = checked(home, export, spoiled, ask=arguments.answers)
            cause = next((reason for reason in report.reasons if spoiled.cause in reason), None)
            missed += report.status != "failed" or cause is None
            print(
                f"| {spoiled.title} | {spoiled.form} | {report.status} | {cause or 'none named'} |",
                flush=True,
            )
    print(f"\n{len(SPOILED) - missed} of {len(SPOILED)} failed with their cause.")
    return 1 if missed else 0


def checked(home: Home, export: Path, spoiled: SpoiledExport, *, ask: bool) -> ParityReport:
    """Return the parity report of a damaged copy."""
    job = export_job(home, spoiled.form)
    config = ModelExport.parse(job.config)
    with tempfile.TemporaryDirectory() as aside:
        folder = spoiled_copy(export, Path(aside) / "export", spoiled)
        subject, written = resolve_subject(job, config, Path(aside)), read_json(export / FILE)
        return checking.check(job, subject, config, folder, Path(aside), written, ask_differing=ask)[0]


if __name__ == "__main__":
    sys.exit(main())
