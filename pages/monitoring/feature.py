"""Registration of the monitor on the screens: a menu page, and open alerts on pages that show endpoints."""

from __future__ import annotations

from pages.shared.features import Deferred, FeatureScreen, PagesFeature, Screen

FEATURE = PagesFeature(
    screens=[
        FeatureScreen(
            "Ship",
            "endpoints",
            Screen(
                "pages/monitoring/monitor.py",
                (("query", "monitoring.monitors.endpoints"),),
                {
                    "title": "Monitor",
                    "icon": ":material/monitoring:",
                    "url_path": "monitor",
                    "help": "Traffic, drift, quality and alerts of served models.",
                },
            ),
        )
    ],
    notices={"overview": Deferred("pages.monitoring.open_alerts", "draw_all_open_alerts")},
    draw_endpoint_notice=Deferred("pages.monitoring.open_alerts", "draw_open_alerts"),
)
