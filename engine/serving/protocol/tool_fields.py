"""Functions in a request, for whoever checks none of them: the fields, and how a model is shown them."""

from __future__ import annotations

from collections.abc import Sequence

from engine.serving.protocol.json_object import JsonObject

TOOL_FIELDS = ("tools", "tool_choice", "parallel_tool_calls")
NO_TOOLS = (
    "its chat template has no functions, writes calls in an unknown form, or llama.cpp serves it."
    " Describe the functions in the system message and ask for JSON by response_format, or serve a"
    " model by our own worker whose template has tools"
)


def as_shown(tools: Sequence[JsonObject]) -> list[JsonObject]:
    """Tools as the model is shown them: as they came, without nulls, and without `strict`, which is for
    whoever reads the answer."""
    return [
        tool
        | {"function": {name: value for name, value in tool["function"].items()
                        if name != "strict" and value is not None}}
        for tool in tools
    ]  # fmt: skip
