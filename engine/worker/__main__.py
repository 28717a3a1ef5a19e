"""Entry point of `python -m engine.worker JOB_DIR`: see `process`."""

from __future__ import annotations

import sys

from engine.worker.process import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
