"""Tests that train in this process do it as a worker would: its threads spin briefly while they wait."""

import os

# Set before torch is loaded: with the long spin, other work on the machine costs a test ten times its time.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
