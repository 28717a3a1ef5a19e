"""Documents as YAML that reads back as what it was, white space and line ends of any script included."""

from __future__ import annotations

from typing import Any

import yaml

BREAKS = ("\x85", "\u2028", "\u2029")  # YAML 1.1 folds them like line ends unless they are escaped


class _Dumper(yaml.SafeDumper):
    pass


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = '"' if any(sign in text for sign in BREAKS) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def to_yaml(document: Any) -> str:
    """The document as YAML, its fields in their order."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
