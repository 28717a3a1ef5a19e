"""What raters see is theirs alone: beside the contract on imports, nothing of it is kept for others."""

from __future__ import annotations

import ast
from pathlib import Path

RATER = Path(__file__).resolve().parents[3] / "pages" / "rating" / "rater"
KEEPERS = {"cache_data", "cache_resource", "remembered", "kept_for"}  # one answer for all who ask


def test_nothing_that_a_rater_sees_is_kept_for_all() -> None:
    modules = sorted(RATER.rglob("*.py"))
    assert len(modules) > 2
    for module in modules:
        nodes = list(ast.walk(ast.parse(module.read_text(encoding="utf-8"))))
        names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        names |= {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert not names & KEEPERS, module.name
