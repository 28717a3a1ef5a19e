"""All endpoints: how each stands, what it serves, its last hour."""

from __future__ import annotations

from engine.diagnostics.phrasing import plural
from pages.endpoints import endpoint_reads
from pages.run_parts.open_alerts import draw_open
from pages.shared.lists import draw_link
from pages.shared.session import guarded, live, plain
from store.documents.tables.endpoint_state import EndpointSeen
from store.words.endpoint_words import stands

LINK = "endpoint"
BADGES = {
    "ready": ":green-badge[:material/check_circle: Ready]",
    "starting": ":blue-badge[:material/hourglass_top: Starting]",
    "stopping": ":orange-badge[:material/hourglass_bottom: Stopping]",
    "stopped": ":gray-badge[:material/stop_circle: Stopped]",
    "does not start": ":red-badge[:material/error: Does not start]",
    "unreachable": ":red-badge[:material/cloud_off: Unreachable]",
    "can't answer": ":red-badge[:material/error: Can't answer]",
}


def badge(seen: EndpointSeen) -> str:
    """How it stands, as inline Markdown."""
    return BADGES[stands(seen)]


@live("3s")
def draw_list() -> None:
    """Every endpoint, as a link."""
    with guarded():
        for seen in endpoint_reads.endpoints():
            link = {LINK: seen["endpoint_id"]}
            draw_link("pages/endpoints/endpoints.py", seen["name"], link, summary(seen), badge(seen))
            draw_open(seen["endpoint_id"])


def summary(seen: EndpointSeen) -> str:
    """What it serves and its last hour, in a line."""
    served = versions_of(seen)
    parts = [plain(", ".join(served[:3]) + (f" and {len(served) - 3} more" if len(served) > 3 else ""))]
    state = seen["state"]
    if seen["alive"] and state:
        hour = state["hour"]
        parts.append(f"{plural(hour['requests'], 'request')} in the last hour")
        if hour["p95_seconds"] is not None:
            parts.append(f"95% within {seconds(hour['p95_seconds'])} (n {hour['n']:,})")
        if hour["errors"]:
            parts.append(f":red[{hour['errors']:,} failed]")
    return " · ".join(part for part in parts if part)


def versions_of(seen: EndpointSeen) -> list[str]:
    """What it serves by now; what was asked for, before its gateway was told."""
    if config := seen["config"]:
        return list(
            dict.fromkeys(route["version"] for model in config["models"] for route in model["routes"])
        )
    return []


def seconds(value: float) -> str:
    """A time of an answer: "0.42 s", "35 ms"."""
    return f"{1000 * value:.0f} ms" if value < 0.1 else f"{value:.2f} s" if value < 10 else f"{value:.0f} s"
