"""Switches that features add to the config of a run (`store.core.features.RunSwitch`)."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, Field, create_model

from store.core.features import RunSwitch, load_store_features

Config = TypeVar("Config", bound=BaseModel)


def list_run_switches() -> list[RunSwitch]:
    """Return the switches of all features."""
    return [switch for feature in load_store_features().values() for switch in feature.run_switches]


def add_run_switches(config: type[Config]) -> type[Config]:
    """Return the config class with a field for each switch, inserted at its position.

    The position matters because documents list fields in this order.
    """
    switches = list_run_switches()
    if not switches:
        return config
    added = {each.name: (bool, Field(False, description=each.description)) for each in switches}
    whole = create_model(  # type: ignore[call-overload]
        config.__name__, __base__=config, __module__=config.__module__, __doc__=config.__doc__, **added
    )
    names = list(config.model_fields)
    for each in switches:
        names.insert(names.index(each.after) + 1, each.name)
    whole.__pydantic_fields__ = {name: whole.__pydantic_fields__[name] for name in names}
    whole.model_rebuild(force=True)
    return whole  # type: ignore[no-any-return]
