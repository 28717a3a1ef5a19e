"""The home folder: every path that outlives a process.

tunebench.duckdb     the experiment store, opened by the engine only
tunebench.commits    numbers of the store's last commits, to detect a store that lacks some
token                the shared secret of engine and clients, mode 0600
screens.token        sent by the screens to the engine in addition to a person's session, mode 0600
screens.secret       the secret in the address of the screens, mode 0600
screens.json         {"address": "http://127.0.0.1:PORT", "pid"} of the screens started last
screens.lock         held by the running screens
oidc.toml            the organization's sign-in, mode 0600 (docs/team.md); most have none
engine.json          {"address": "http://127.0.0.1:PORT", "pid", "version"} of the running engine
engine.lock          held by the running engine
models/NAME/         converted models (safetensors)
registry/MODEL_ID/3/ the files of a registered version, next to 3.json (store.core.version_folders)
datasets/FINGERPRINT/rows.parquet, skipped.parquet, fates.parquet, signals/GROUP.parquet
uploads/             files uploaded by the browser
exports/             exported data sets, with their data cards
jobs/JOB_ID/         one folder per job (store.core.job_folder)
asks/                short-lived folders of previews
endpoints/ID/        one folder per endpoint: input and output of its gateway, and its log
                     (docs/serving.md)
metrics/NAME.py      the user's own metrics, run by workers only
tasks/NAME.yaml      the user's own tasks of lm-evaluation-harness
cache/               what can be recreated
logs/                engine.log, screens.log
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
from pathlib import Path

import psutil

from store.core.errors import ConfigError, StateError

log = logging.getLogger("home")

SPARE_BYTES = 100 * 2**20  # with less free space, no job is accepted
FOLDERS = (
    *("models", "registry", "datasets", "uploads", "exports", "jobs", "asks", "endpoints"),
    *("metrics", "tasks", "cache", "logs"),
)


def is_full(error: Exception) -> bool:
    """Return whether a system error, or DuckDB's error for it, says that a disk is full."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or os.strerror(errno.ENOSPC) in str(error)


class Home:
    """Paths below the home folder, by default `TUNEBENCH_HOME` or `~/.tunebench`."""

    def __init__(self, path: str | Path | None = None) -> None:
        chosen = path or os.environ.get("TUNEBENCH_HOME") or Path.home() / ".tunebench"
        self.path = Path(chosen).expanduser().resolve()

    def create(self) -> Home:
        """Create the folder and its subfolders, accessible to this user only. Permissions that were wider are
        narrowed.

        Raises ConfigError (field `TUNEBENCH_HOME`) if the folder can't be created or written to, or if it or
        a secret in it belongs to another user.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._close_to_others()
            for folder in FOLDERS:
                (self.path / folder).mkdir(mode=0o700, exist_ok=True)
            probe = self.path / f".write-test.{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise ConfigError(
                f"The home folder {self.path} can't be written to ({error.strerror}).",
                fix="Set TUNEBENCH_HOME to a folder that you own, or free some space.",
                field="TUNEBENCH_HOME",
            ) from error
        return self

    def _close_to_others(self) -> None:
        """Restrict the folder, and the files in it that hold secrets, to this user. The owner is checked
        first: another user who owns a file can read and change it whatever its mode, and may have planted
        it.
        """
        secrets = (self.token, self.screens_token, self.screens_secret, self.provider, self.database)
        for path, mode in ((self.path, 0o700), *((secret, 0o600) for secret in secrets)):
            if not os.path.lexists(path):
                continue
            if {path.lstat().st_uid, path.stat().st_uid} != {os.geteuid()}:
                raise ConfigError(
                    f"{path} belongs to another user, who could read and change what is in it.",
                    fix="Set TUNEBENCH_HOME to a folder of your own, or have it given to you (chown).",
                    field="TUNEBENCH_HOME",
                )
            before = stat.S_IMODE(path.stat().st_mode)
            if before & 0o077:
                path.chmod(mode)
                log.warning(
                    "%s was open to other users (mode %04o) and is closed to them now (%04o).",
                    *(path, before, stat.S_IMODE(path.stat().st_mode)),
                )

    def remove_stale(self) -> None:
        """Remove partially written files that killed processes left in this folder; called at start."""
        for left in self.path.glob(".*.*"):
            pid = left.name.rpartition(".")[2]
            if pid.isdigit() and not psutil.pid_exists(int(pid)):
                left.unlink(missing_ok=True)

    def holds(self, path: Path) -> bool:
        """Return whether the file is internal to this folder (a secret, the store, a log, a job's file), that
        is, anything but uploads, exports and the rows of data sets. Symbolic and hard links to it count as
        the file.
        """
        real = Path(os.path.realpath(path))
        above = [folder for folder in (real, *real.parents) if _is_same_file(folder, self.path)]
        if not above:  # a hard link to a file is that file
            return any(_is_same_file(real, own) for own in self.path.iterdir() if own.is_file())
        inside = real.relative_to(above[0])
        if not inside.parts:
            return True
        if inside.parts[0] == self.datasets.name:
            return inside.suffix != ".parquet"
        return inside.parts[0] not in (self.uploads.name, self.exports.name) or inside.name.startswith(".")

    def check_space(self) -> None:
        """Raise StateError if the disk is nearly full, before starting a job that would fail."""
        if shutil.disk_usage(self.path).free < SPARE_BYTES:
            raise self.no_room()

    def no_room(self) -> StateError:
        """Return the error for a full disk, with the free space."""
        free = shutil.disk_usage(self.path).free
        return StateError(
            f"The disk of {self.path} is full: {free / 2**20:,.0f} MiB are free.",
            fix="Free some space, or delete runs that are not needed.",
        )

    @property
    def database(self) -> Path:
        return self.path / "tunebench.duckdb"

    @property
    def token(self) -> Path:
        return self.path / "token"

    @property
    def screens_token(self) -> Path:
        return self.path / "screens.token"

    @property
    def provider(self) -> Path:
        return self.path / "oidc.toml"

    @property
    def screens_secret(self) -> Path:
        return self.path / "screens.secret"

    @property
    def screens_file(self) -> Path:
        return self.path / "screens.json"

    @property
    def screens_lock(self) -> Path:
        return self.path / "screens.lock"

    @property
    def engine_file(self) -> Path:
        return self.path / "engine.json"

    @property
    def engine_lock(self) -> Path:
        return self.path / "engine.lock"

    @property
    def models(self) -> Path:
        return self.path / "models"

    @property
    def registry(self) -> Path:
        return self.path / "registry"

    @property
    def datasets(self) -> Path:
        return self.path / "datasets"

    @property
    def uploads(self) -> Path:
        return self.path / "uploads"

    @property
    def exports(self) -> Path:
        return self.path / "exports"

    @property
    def jobs(self) -> Path:
        return self.path / "jobs"

    @property
    def asks(self) -> Path:
        return self.path / "asks"

    @property
    def endpoints(self) -> Path:
        return self.path / "endpoints"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics"

    @property
    def tasks(self) -> Path:
        return self.path / "tasks"

    @property
    def judgements(self) -> Path:
        """Cache of judge responses, by request."""
        return self.cache / "judgements"

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def rows(self, fingerprint: str) -> Path:
        """Return the Parquet file with the rows of the data set with that fingerprint."""
        return self.datasets / fingerprint / "rows.parquet"

    def skipped(self, fingerprint: str) -> Path:
        """Return the Parquet file with the rows of the source file that were skipped, and why."""
        return self.datasets / fingerprint / "skipped.parquet"

    def fates(self, fingerprint: str) -> Path:
        """Return the Parquet file with the fate of each row of the previous version; an import has none."""
        return self.datasets / fingerprint / "fates.parquet"

    def signals(self, fingerprint: str, group: str) -> Path:
        """Return the sidecar file of a group of signals (`store.data.signals`) for the rows with that
        fingerprint.
        """
        return self.datasets / fingerprint / "signals" / f"{group}.parquet"


def _is_same_file(path: Path, other: Path) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
