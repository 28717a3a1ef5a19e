"""Malicious input: files, SQL, HTTP and kills, generated from a seed. Nothing may give way.

    python bench/hostile.py [--only DOOR …] [--seed 1] [--rounds 1]

Prints the number of attempts on each entry point and those that succeeded, and exits with 1 if there are
any. With more rounds, each is attacked again with the following seeds.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import bench.hostility


def doors() -> list[str]:
    """Return the names of the modules with attempts."""
    return sorted(module.name for module in pkgutil.iter_modules(bench.hostility.__path__))


def main() -> int:
    """Print the counts; return 1 if an attempt succeeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=doors(), default=doors())
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    failures = 0
    for door in options.only:
        module = importlib.import_module(f"bench.hostility.{door}")
        attempts = []
        for seed in range(options.seed, options.seed + options.rounds):
            with tempfile.TemporaryDirectory() as folder:
                attempts += module.attempts(seed, Path(folder))
        failed = [attempt for attempt in attempts if attempt.failure]
        failures += len(failed)
        print(f"{door}: {len(attempts)} attempts, {len(failed)} failures", flush=True)
        for attempt in failed:
            print(f"  {attempt.name}: {attempt.failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
