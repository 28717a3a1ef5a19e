"""`python -m tests.unit.serving.stubbed_gateway ENDPOINT_DIR`: a gateway whose backends are played."""

from __future__ import annotations

import sys

from engine.serving.gateway.__main__ import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], (sys.executable, "-m", "tests.unit.serving.stub_backend")))
