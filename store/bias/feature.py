"""Bias feature: how a model treats groups of people."""

from __future__ import annotations

from store.bias.run_switch import SWITCH
from store.core.features import Action, JobKind, StoreFeature

FEATURE = StoreFeature(
    job_kinds=(JobKind("bias", "Bias check", "engine.bias.job", "device", ":material/balance:"),),
    commands={"work": "check_bias"},
    actions={
        "check_bias": Action("Evaluated", "checked for bias", ":material/balance:"),
    },
    queries={"look": {"bias_checks": "newest listed get unfinished list_classifiers"}},
    tools={"look": "get_bias_check", "work": "check_bias"},
    scheduled_check="store.bias.config:BiasConfig",
    run_switches=(SWITCH,),
)
