"""Names of a watched category as people read them: languages by name, topics by what they are about."""

from __future__ import annotations

from store.catalog.languages import language_name
from store.documents.serving.drift import PaceName, WatchedName

OTHER = "other"  # all names that have no test of their own
OTHERS: dict[WatchedName, str] = {
    "input_language": "any other language",
    "input_topic": "any other topic",
    "output_label": "any other label",
}


def readable_name(watched: WatchedName | PaceName, name: str) -> str:
    """ "German" of "de"; a topic or a label in quotes; what stands for all the others in words."""
    if name == OTHER:
        return next((words for key, words in OTHERS.items() if key == watched), OTHER)
    if watched == "input_language":
        return language_name(name)
    return f"the topic “{name}”" if watched == "input_topic" else f"“{name}”"
