"""References to registered models: NAME@ALIAS is resolved to NAME@NUMBER before anything is queued."""

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
    """Return the version that NAME@NUMBER or NAME@ALIAS refers to now.

    Raises: NotFoundError, also if no feature registers models.
    """
    for feature in load_store_features().values():
        if feature.find_version:
            version: ModelVersion = resolve_name(feature.find_version)(db, reference)
            return version
    raise NotFoundError(f"There is no registered model {reference}.", fix="Name a model or a run instead.")


def format_reference(version: ModelVersion) -> str:
    """Return NAME@NUMBER."""
    return f"{version.name}@{version.version}"


def pin_version(db: Queryable, home: Home, model: str, field: str = "model") -> str:
    """Resolve NAME@ALIAS or NAME@NUMBER to NAME@NUMBER, verifying its files; return other names unchanged.

    Raises: ConfigError at `field`.
    """
    if not is_reference(model):
        return model
    try:
        reference = format_reference(find_version(db, model))
        open_sealed_folder(home, reference)
    except TunebenchError as error:
        raise ConfigError(error.message, fix=error.fix, field=field) from error
    return reference


def read_training_config(home: Home, reference: str) -> TrainConfig:
    """Return the training config of a pinned version, which determines the kind of model."""
    spec = read_json(open_sealed_folder(home, reference).config)
    return TrainConfig.parse(spec["config"])


def pin_whole_model(db: Queryable, home: Home, model: str, field: str = "model") -> str:
    """Do the same as `pin_version` for training, which requires full weights of a language model or encoder.

    Raises: ConfigError at `field`.
    """
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
