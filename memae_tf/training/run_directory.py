"""The files of a run, and checks before they are used again."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from memae_tf.config import Config, differing_keys, load_config
from memae_tf.errors import UserError
from memae_tf.files import PARTIAL, whole_file, written

try:
    import fcntl
except ImportError:
    # Windows has no locks on folders.
    fcntl = None


class RunDirectory:
    """The files of one run. Each appears whole or not at all.

    Attributes:
        config: `config.yaml`, the resolved configuration.
        data: `data.json`, a fingerprint of the training data.
        checkpoints: `checkpoints/`, those of the last epochs and of the best.
        tensorboard: `tensorboard/`, event files.
        history: `history.json`, losses and seconds of every epoch.
        detector: `detector.keras`.
        metrics: `metrics.json`, written last: a run that has it is finished.
        report: `report.html`.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.data = self.path / "data.json"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.history = self.path / "history.json"
        self.detector = self.path / "detector.keras"
        self.metrics = self.path / "metrics.json"
        self.report = self.path / "report.html"

    def check(self, config: Config) -> None:
        """Checks that a run of this configuration may start or go on here. Writes nothing.

        Raises:
            UserError: If the path is a file, a folder with something else in it, or a run with
                another configuration.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path}: is a file; --workdir should be a folder")
        if self.config.exists():
            if not self._is_untrained():
                self._require_same(config)
        elif self.path.exists() and _whole_files(self.path):
            raise UserError(f"{self.path}: is neither empty nor a run; choose another --workdir")

    @contextlib.contextmanager
    def begun(self, config: Config) -> Iterator[None]:
        """Makes the directory and `config.yaml`, or reuses those of the same configuration.

        A run that ended before its first checkpoint is replaced, whatever its configuration. Until
        the context ends, the directory is locked for other processes.

        Raises:
            UserError: As in `check`; if it cannot be written; if another process has locked it.
        """
        self.check(config)
        with written(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with self._locked() as alone:
            self._remove_partial_files()
            # Without a lock, another process may be in the first epoch of what seems untrained.
            if alone and self._is_untrained():
                self._write_config(config)
                self.data.unlink()
            elif self.config.exists():
                self._require_same(config)
            else:
                self._write_config(config)
            yield

    def _write_config(self, config: Config) -> None:
        with written(self.path), whole_file(self.config) as aside:
            aside.write_text(config.to_yaml())

    def _is_untrained(self) -> bool:
        """Whether the files are exactly those of a run that ended before its first checkpoint.

        A `config.yaml` without `data.json` may be one that a user wrote.
        """
        if not (self.config.exists() and self.data.exists()):
            return False
        begun = {self.config, self.data, self.checkpoints, self.tensorboard}
        if not begun.issuperset(_whole_files(self.path)):
            return False
        return not self.checkpoints.exists() or not _whole_files(self.checkpoints)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """Locks the directory; yields `False` where that is not supported.

        The operating system removes the lock of a process that is killed.
        """
        if fcntl is None:
            yield False
            return
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except BlockingIOError:
            os.close(descriptor)
            raise UserError(
                f"{self.path}: another process is training here; wait for it, or choose another "
                "--workdir"
            ) from None
        except OSError:
            # Some network file systems have no locks.
            alone = False
        try:
            yield alone
        finally:
            os.close(descriptor)

    def require_same_data(self, fingerprint: dict[str, object]) -> None:
        """Checks that the training data are those that the run was begun with; keeps them if new.

        Args:
            fingerprint: From `memae_tf.data.dataset.fingerprint`.

        Raises:
            UserError: If they differ, naming in what, or if `data.json` cannot be written.
        """
        if not self.data.exists():
            with written(self.data):
                self.write_json(self.data, fingerprint)
            return
        begun = self.read_json(self.data)
        different = [
            f"{name} {begun.get(name)}, now {value}"
            for name, value in fingerprint.items()
            if begun.get(name) != value
        ]
        if different:
            raise UserError(
                f"{self.path}: was started with other training data ({'; '.join(different)}); "
                "restore those, or train on these with another --workdir"
            )

    def _remove_partial_files(self) -> None:
        """Removes what a killed process left half-written."""
        for partial in self.path.rglob(f"{PARTIAL}*"):
            partial.unlink(missing_ok=True)

    def _require_same(self, config: Config) -> None:
        existing = load_config(self.config)
        keys = differing_keys(existing, config)
        if keys:
            raise UserError(
                f"{self.path}: holds a run with another configuration, which differs in "
                f"{', '.join(keys)}; choose another --workdir"
            )

    @classmethod
    def existing(cls, path: str | Path) -> "RunDirectory":
        """A run directory that is there already.

        Raises:
            UserError: If it is no run, or not a finished one.
        """
        run = cls(path)
        if not run.config.is_file():
            raise UserError(f"{path}: is not a run directory (it has no config.yaml)")
        if not run.detector.is_file():
            raise UserError(f"{path}: has no detector yet; finish it with memae_tf.train first")
        return run

    def read_json(self, path: Path) -> object:
        """What a JSON file of this run holds.

        Raises:
            UserError: If it is not there or damaged.
        """
        try:
            return json.loads(path.read_text())
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        except ValueError:
            files = "it" if path == self.metrics else f"it and {self.metrics.name}"
            raise UserError(
                f"{path}: is damaged; delete {files}, and memae_tf.train makes it again"
            ) from None

    def write_json(self, path: Path, value: object) -> None:
        with whole_file(path) as aside:
            aside.write_text(json.dumps(value, indent=2) + "\n")


def _whole_files(folder: Path) -> list[Path]:
    """The files and folders in a folder, without half-written ones of killed processes."""
    return [file for file in folder.iterdir() if not file.name.startswith(PARTIAL)]
