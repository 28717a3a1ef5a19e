"""What the command and the screens import decides how long everybody waits for them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from pages.shared.features import Screen
from pages.shared.menu import list_screens

ROOT = Path(__file__).parents[3]
# torch: seconds, and the screens must work without it; scipy.stats: half a second that only tests of
# hypotheses need, most of which run in a job
DEAR = ("torch", "transformers", "duckdb", "sklearn", "scipy.stats")


def name_module(screen: Screen) -> str:
    return screen.path.removesuffix(".py").replace("/", ".")


SCREENS = ["pages.people.access_middleware", *map(name_module, list_screens())]
IMPORT = """
import importlib, json, logging, sys
logging.disable()
found = {}
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
    except Exception as error:  # a screen without a browser: what it imports is imported by then
        if not type(error).__module__.startswith(("streamlit", "store")):
            raise
    found[name] = [dear for dear in json.loads(sys.argv[1]) if dear in sys.modules]
print(json.dumps(found))
"""


def test_the_command_and_the_screens_import_nothing_dear() -> None:
    names = ["tunebench.cli", *SCREENS]
    order = [sys.executable, "-c", IMPORT, json.dumps(DEAR), *names]
    done = subprocess.run(order, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    imported = json.loads(done.stdout.strip().splitlines()[-1])
    assert len(SCREENS) >= 7
    assert imported == {name: [] for name in names}
