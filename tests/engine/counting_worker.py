"""`python counting_worker.py JOB_DIR`: the real worker, in which a train job counts."""

from __future__ import annotations

import sys
from dataclasses import replace

from engine.worker import process
from store.core.job_kinds import JOB_KINDS
from tests.engine import counting_job

if __name__ == "__main__":
    JOB_KINDS["train"] = replace(JOB_KINDS["train"], module=counting_job.__name__)
    sys.exit(process.main(sys.argv[1:]))
