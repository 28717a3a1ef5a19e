"""Monitoring: traffic, drift, quality and alerts of endpoints."""

from __future__ import annotations

from store.core.features import Action, FileKind, JobKind, StoreFeature

FEATURE = StoreFeature(
    job_kinds=(
        JobKind(
            "judge_requests",
            "Request judging",
            "engine.monitoring.judging_job",
            icon=":material/gavel:",
            logged_texts="requests.parquet",
        ),
        JobKind(
            "watch",
            "Drift check",
            "engine.monitoring.watch_job",
            icon=":material/monitoring:",
            in_background=True,
        ),
    ),
    commands={"work": "set_monitor acknowledge_alert judge_requests", "govern": "set_webhook try_webhook"},
    actions={
        "judge_requests": Action("Evaluated", "ran a judge on requests of", ":material/gavel:"),
        "set_monitor": Action("Watched", "changed", ":material/monitoring:"),
        "acknowledge_alert": Action("Watched", "acknowledged an alert of", ":material/notifications:"),
        "set_webhook": Action("Governed", "changed", ":material/webhook:"),
        "try_webhook": Action("Governed", "tested", ":material/webhook:"),
    },
    queries={
        "look": {
            "feedback": "by_version by_group callers_by_group unmatched returned",
            "logged_requests": "judgings answers correcting",
            "monitor_alerts": "open_alerts past_alerts open_by_endpoint of_endpoint",
            "monitors": """
                golden_runs endpoints endpoint find reference_count torn scheduled_checks
            """,
            "side_by_side": "listed count_labelled",
            "traffic": "signal_counts by_version points span",
        },
        "work": {
            "logged_requests": "meant_by count newest",
            "traffic": "most_unlike with_names troubled bad_of_candidate thumbs_down",
        },
        "govern": {"monitor_alerts": "webhook deliveries"},
    },
    tools={"look": "get_monitor", "work": "set_monitor acknowledge_alert"},
    files=(
        FileKind(
            "monitor",
            "Monitor of an endpoint",
            "store.monitoring.config:MonitorSettings",
            "tunebench monitor ENDPOINT --settings FILE",
        ),
    ),
)
