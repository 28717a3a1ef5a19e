"""Names of a watched category as people read them: languages by name, topics by what they are about."""

from __future__ import annotations

from store.catalog.languages import language_name
from store.documents.serving.drift import OTHER, WatchedName

_OTHERS = {
    "input_language": "any other language",
    "input_topic": "any other topic",
    "output_label": "any other label",
}


def readable_name(watched: WatchedName, name: str) -> str:
    """ "German" of "de"; a topic or a label in quotes; what stands for all the others in words."""
    if name == OTHER:
        return _OTHERS[watched]
    if watched == "input_language":
        return language_name(name)
    return f"the topic “{name}”" if watched == "input_topic" else f"“{name}”"
