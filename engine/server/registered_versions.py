"""Registered models as commands name them: NAME@ALIAS is fixed to NAME@NUMBER before anything is queued."""

from __future__ import annotations

from store.core.errors import ConfigError, NotFoundError, TunebenchError
from store.core.features import load_store_features, resolve_name
from store.core.home import Home
from store.core.job_folder import read_json
from store.core.model_schemas import ModelVersion
from store.core.version_folders import is_reference, open_sealed_folder
from store.db.database import Queryable
from store.training.train_config import TrainConfig


def find_version(db: Queryable, reference: str) -> ModelVersion:
    """The version that NAME@NUMBER or NAME@ALIAS means now. Raises NotFoundError, also where no feature
    registers models."""
    for feature in load_store_features().values():
        if feature.find_version:
            version: ModelVersion = resolve_name(feature.find_version)(db, reference)
            return version
    raise NotFoundError(f"There is no registered model {reference}.", fix="Name a model or a run instead.")


def format_reference(version: ModelVersion) -> str:
    """NAME@NUMBER."""
    return f"{version.name}@{version.version}"


def pin_version(db: Queryable, home: Home, model: str, field: str = "model") -> str:
    """The model's name, where it is NAME@ALIAS or NAME@NUMBER the fixed NAME@NUMBER, whose files are as they
    were registered. Raises ConfigError at `field`."""
    if not is_reference(model):
        return model
    try:
        reference = format_reference(find_version(db, model))
        open_sealed_folder(home, reference)
    except TunebenchError as error:
        raise ConfigError(error.message, fix=error.fix, field=field) from error
    return reference


def read_training_config(home: Home, reference: str) -> TrainConfig:
    """How a fixed version was trained, which says what kind of model it is."""
    spec = read_json(open_sealed_folder(home, reference).config)
    return TrainConfig.parse(spec["config"])


def pin_whole_model(db: Queryable, home: Home, model: str, field: str = "model") -> str:
    """As `fixed`, for what needs a whole model that writes: to train on it. Raises ConfigError at `field`."""
    reference = pin_version(db, home, model, field)
    if reference == model and not is_reference(model):
        return model
    version = find_version(db, reference)
    if version.adapter:
        raise ConfigError(
            f"{reference} is an adapter, and a run begins with a whole model.",
            fix=f"Take its base {version.base_model}, or continue from the run that it came from.",
            field=field,
        )
    if read_training_config(home, reference).task == "classification":
        raise ConfigError(
            f"{reference} is a classifier, and a run begins with a model that writes or an encoder.",
            fix="Take the model that it was trained from.",
            field=field,
        )
    return reference
