"""`python counting_worker.py JOB_DIR`: the real worker, in which a train job counts."""

from __future__ import annotations

import sys

from engine.worker import process
from tests.engine import counting_job

if __name__ == "__main__":
    process.KINDS["train"] = counting_job.__name__
    sys.exit(process.main(sys.argv[1:]))
