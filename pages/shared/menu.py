"""The menu: pages of the core, and those added by features at their positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pages.shared.features import MenuSection, Screen, load_page_features, place_behind

MENU: Mapping[MenuSection, Sequence[Screen]] = {
    "Look": [
        Screen(
            "pages/overview/overview.py",
            (("query", "runs.runs.list_runs"),),
            {
                "title": "Overview",
                "icon": ":material/space_dashboard:",
                "default": True,
                "help": "All runs, the queue and the state of this machine.",
            },
        ),
        Screen(
            "pages/data/data.py",
            (("query", "data.datasets.list_datasets"),),
            {
                "title": "Data sets",
                "icon": ":material/dataset:",
                "url_path": "data",
                "help": "Import rows from a file or the Hub, explore and clean them, and split them.",
            },
        ),
    ],
    "Train": [
        Screen(
            "pages/training/launch.py",
            (("command", "launch"),),
            {
                "title": "Launch",
                "icon": ":material/rocket_launch:",
                "url_path": "launch",
                "help": "Choose a model, a data set and a method, see the cost, and start a run.",
            },
        ),
        Screen(
            "pages/runs/run.py",
            (("query", "runs.runs.get_run"),),
            {
                "title": "Runs",
                "icon": ":material/show_chart:",
                "url_path": "run",
                "help": "One run: live curves, verdict, and how much of the fine-tuning to keep.",
            },
        ),
    ],
    "Judge": [
        Screen(
            "pages/comparison/compare.py",
            (("query", "runs.runs.get_runs"),),
            {
                "title": "Compare",
                "icon": ":material/stacked_line_chart:",
                "url_path": "compare",
                "help": "Runs side by side: gain, forgetting, and transfer to other data sets.",
            },
        ),
        Screen(
            "pages/evaluation/evaluations.py",
            (("query", "evaluation.evaluations.listed"),),
            {
                "title": "Evaluations",
                "icon": ":material/fact_check:",
                "url_path": "evaluations",
                "help": "Any model or run on any rows: metrics with intervals, compared row by row.",
            },
        ),
    ],
    "Ship": [],  # filled by features only
}

# Pages about people, and about how far all figures can be trusted: below the navigation, because they are not
# steps of the workflow.
ASIDE: Sequence[Screen] = [
    Screen(
        "pages/evaluation/truth.py",
        (("query", "runs.runs.list_runs"),),  # the page is about the figures of runs
        {
            "title": "Simulated truth",
            "icon": ":material/verified:",
            "url_path": "truth",
            "visibility": "hidden",
            "help": "How often intervals contain the true value and tests err, on simulated data.",
        },
    ),
    Screen(
        "pages/people/activity.py",
        (("query", "people.activity.listed"),),
        {
            "title": "Activity",
            "icon": ":material/history:",
            "url_path": "activity",
            "visibility": "hidden",
            "help": "Who imported, launched, changed, deleted or commented, and when.",
        },
    ),
    Screen(
        "pages/people/team.py",
        (("route", "GET /team"),),
        {
            "title": "Team",
            "icon": ":material/group:",
            "url_path": "team",
            "visibility": "hidden",
            "help": "Who may do what: accounts, roles and invitations.",
        },
    ),
    Screen(
        "pages/people/you.py",
        (("route", "GET /account"),),
        {
            "title": "You",
            "icon": ":material/account_circle:",
            "url_path": "you",
            "visibility": "hidden",
            "help": "Your name, password, sessions and API tokens.",
        },
    ),
]


def build_menu() -> dict[str, list[Screen]]:
    """Menu sections that have pages, including those of features."""
    added = [each for feature in load_page_features().values() for each in feature.screens]
    menu: dict[str, list[Screen]] = {}
    for section, screens in MENU.items():
        own = [(each.screen.address, each.after, each.screen) for each in added if each.section == section]
        placed = place_behind({screen.address: screen for screen in screens}, own)
        if placed:
            menu[section] = list(placed.values())
    return menu


def list_screens() -> list[Screen]:
    """All pages of the app, including those linked below the menu."""
    return [screen for screens in (*build_menu().values(), ASIDE) for screen in screens]
