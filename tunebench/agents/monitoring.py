"""Agent tools of monitors: state of an endpoint, settings, and acknowledging alerts."""

from __future__ import annotations

from typing import Annotated, TypedDict

from pydantic import Field

from store.monitoring import monitors
from store.monitoring.config import AlertAcknowledgement, MonitorConfig
from tunebench.agents.tool import READS, REPLACES, AgentTool, Connect
from tunebench.commands.monitoring import MonitorReport, build_report, change_settings


class WatchedSettings(TypedDict):
    """Settings of a monitor."""

    endpoint: str
    settings: dict[str, object]


class AlertAcknowledged(TypedDict):
    """An acknowledged alert."""

    alert: str
    outcome: str


class MonitorTools:
    """Monitoring tools of one engine."""

    def __init__(self, connect: Connect) -> None:
        self.connect = connect

    def tools(self) -> list[AgentTool]:
        """Return the tools."""
        changes = (self.set_monitor, self.acknowledge_alert)
        return [AgentTool.of(self.get_monitor, READS), *(AgentTool.of(each, REPLACES) for each in changes)]

    def get_monitor(
        self,
        endpoint: Annotated[
            str, Field(min_length=1, max_length=120, description="Name or id of an endpoint")
        ],
        hours: Annotated[
            float, Field(ge=0.1, le=24 * 366, description="Length of the window, in hours up to now")
        ] = 24.0,
    ) -> MonitorReport:
        """Get the state of an endpoint: open alerts, traffic and latency by version, drift of each monitored
        value, user feedback, and candidates compared with the live version."""
        client = self.connect()
        return build_report(client, monitors.endpoint(client, endpoint), hours)

    def set_monitor(self, config: MonitorConfig) -> WatchedSettings:
        """Change the settings of a monitor. Given fields are changed, all others stay the same."""
        client = self.connect()
        which = monitors.endpoint(client, config.endpoint)
        given = config.model_dump(mode="json", include=config.model_fields_set - {"endpoint"})
        change_settings(client, which.endpoint_id, given)
        present = monitors.get_settings(monitors.find(client, which.endpoint_id))
        return {"endpoint": which.name, "settings": present.model_dump(mode="json")}

    def acknowledge_alert(self, config: AlertAcknowledgement) -> AlertAcknowledged:
        """Acknowledge an alert, with a note. outcome new_normal: new requests become the reference, for
        alerts that have one."""
        self.connect().command("acknowledge_alert", config.model_dump())
        return {"alert": config.alert, "outcome": config.outcome}
