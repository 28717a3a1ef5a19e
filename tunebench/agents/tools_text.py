"""Table of the tools in docs/agents.md; `python -m tunebench.agents.tools_text` updates it."""

from __future__ import annotations

from pathlib import Path

from store.core.rights import RIGHTS, TOOLS
from store.documentation.reference_tables import replace_table
from store.http.client import Client
from tunebench.agents.server import AgentServer
from tunebench.agents.tool import AgentTool

PAGE = Path(__file__).parents[2] / "docs" / "agents.md"
HEAD = "| tool | for | does | what |\n|---|---|---|---|\n"


def render_tools_table() -> str:
    """Return the table, in the order in which a client lists the tools."""
    return HEAD + "".join(_render_row(tool) for tool in AgentServer(Client).tools.values())


def _render_row(tool: AgentTool) -> str:
    roles = ", ".join(role for role, rights in RIGHTS.items() if TOOLS[tool.name] in rights)
    first = (tool.described.description or "").partition(". ")[0].rstrip(".")
    effect = "reads" if tool.effect.reads else "ends or replaces" if tool.effect.destroys else "adds"
    return f"| `{tool.name}` | {roles} | {effect} | {first.replace('|', '/')} |\n"


if __name__ == "__main__":
    PAGE.write_text(replace_table(PAGE.read_text("utf-8"), render_tools_table()), "utf-8")
