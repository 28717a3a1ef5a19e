"""Tools of monitors: whether what is served is still good, what is watched, and alerts that were seen."""

from __future__ import annotations

from typing import Annotated, TypedDict

from pydantic import Field

from store.monitoring import monitors
from store.monitoring.config import AlertAcknowledgement, MonitorConfig
from tunebench.agents.tool import READS, REPLACES, AgentTool, Connect
from tunebench.commands.monitoring import MonitorReport, build_report, change_settings


class WatchedSettings(TypedDict):
    """What a monitor watches and when it warns, as it is now."""

    endpoint: str
    settings: dict[str, object]


class AlertAcknowledged(TypedDict):
    """An alert that somebody has seen."""

    alert: str
    outcome: str


class MonitorTools:
    """The tools over one engine."""

    def __init__(self, connect: Connect) -> None:
        self.connect = connect

    def tools(self) -> list[AgentTool]:
        """All of them."""
        changes = (self.set_monitor, self.acknowledge_alert)
        return [AgentTool.of(self.get_monitor, READS), *(AgentTool.of(each, REPLACES) for each in changes)]

    def get_monitor(
        self,
        endpoint: Annotated[
            str, Field(min_length=1, max_length=120, description="Name or id of an endpoint")
        ],
        hours: Annotated[float, Field(ge=0.1, le=24 * 366, description="How far back is looked")] = 24.0,
    ) -> MonitorReport:
        """Whether an endpoint is still good: open alerts, traffic and times by version, drift of each watched
        value, what people say of answers, candidates beside the live version."""
        client = self.connect()
        return build_report(client, monitors.endpoint(client, endpoint), hours)

    def set_monitor(self, config: MonitorConfig) -> WatchedSettings:
        """Change what a monitor watches and when it warns. Fields that are given get their new value, all
        others stay as they are."""
        client = self.connect()
        which = monitors.endpoint(client, config.endpoint)
        given = config.model_dump(mode="json", include=config.model_fields_set - {"endpoint"})
        change_settings(client, which.endpoint_id, given)
        present = monitors.get_settings(monitors.find(client, which.endpoint_id))
        return {"endpoint": which.name, "settings": present.model_dump(mode="json")}

    def acknowledge_alert(self, config: AlertAcknowledgement) -> AlertAcknowledged:
        """Say that an alert was seen, and what was found. outcome new_normal of drift: what comes from now on
        is the reference."""
        self.connect().command("acknowledge_alert", config.model_dump())
        return {"alert": config.alert, "outcome": config.outcome}
