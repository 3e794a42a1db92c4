"""Checkpoints to resume a run from, in files that are whole or not there at all."""

import io
import json
import re
import warnings
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from memae_tf.errors import UserError
from memae_tf.files import whole_file
from memae_tf.training.loop import Position

NAME = re.compile(r"epoch-(\d+)-step-(\d+)\.npz")
# TypeError: a checkpoint of another version, in which `Position` had other fields.
DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Checkpoint:
    """A moment of a run.

    Attributes:
        position: Where the run stands.
        history: An entry for every complete epoch.
        state: From `TrainingLoop.state`.
    """

    position: Position
    history: list[dict]
    state: dict[str, np.ndarray]


class Checkpoints:
    """The checkpoints of a run: `epoch-<complete>-step-<steps of the next>.npz`.

    Each is a NumPy archive of the state, with position and history as JSON text. The archive's
    checksums are checked when it is read.

    Args:
        directory: Their folder; it is made when the first one is saved.
        keep: How many of the latest to keep. The one of the best epoch is kept as well.
    """

    def __init__(self, directory: Path, keep: int):
        self.directory = directory
        self.keep = keep

    def save(self, checkpoint: Checkpoint, best_epoch: int) -> None:
        """Saves a checkpoint and removes those that are no longer wanted.

        Args:
            checkpoint: It must be later than all that were saved.
            best_epoch: The number of the best epoch, from 1; 0 if there is none.

        Raises:
            UserError: If it cannot be written, as on a full disk. Earlier ones stay.
        """
        path = self._path(checkpoint.position.epoch, checkpoint.position.step)
        about = {"position": asdict(checkpoint.position), "history": checkpoint.history}
        # In memory first: on a full disk, NumPy's archive would raise a second time when it closes.
        archive = io.BytesIO()
        np.savez(archive, about=json.dumps(about), **checkpoint.state)
        try:
            self.directory.mkdir(exist_ok=True)
            with whole_file(path) as aside:
                aside.write_bytes(archive.getbuffer())
        except OSError as error:
            raise UserError(
                f"{path}: cannot be written ({error.strerror}); the same command resumes from the "
                "checkpoint before it"
            ) from None
        paths = self._paths()
        for damaged in paths[paths.index(path) + 1 :]:
            # The run was not resumed from these later ones, so they cannot be read.
            damaged.unlink(missing_ok=True)
        for old in self._paths()[: -self.keep]:
            if old != self._path(best_epoch, 0):
                old.unlink(missing_ok=True)

    def latest(self) -> Checkpoint | None:
        """The latest checkpoint that is whole; `None` if there is none."""
        for path in reversed(self._paths()):
            try:
                return _read(path)
            except DAMAGED:
                warnings.warn(f"{path} is damaged; resuming from the one before it", stacklevel=2)
        return None

    def after_epoch(self, epoch: int) -> Checkpoint:
        """The checkpoint saved when `epoch` epochs were complete.

        Raises:
            UserError: If it is not there or damaged.
        """
        path = self._path(epoch, 0)
        try:
            return _read(path)
        except DAMAGED:
            raise UserError(
                f"{path}: the checkpoint of the best epoch is missing or damaged; train again in "
                "another --workdir"
            ) from None

    def _path(self, epoch: int, step: int) -> Path:
        return self.directory / f"epoch-{epoch:05}-step-{step:07}.npz"

    def _paths(self) -> list[Path]:
        """From the earliest to the latest."""
        names = [NAME.fullmatch(path.name) for path in self.directory.glob("*.npz")]
        moments = sorted((int(name[1]), int(name[2])) for name in names if name)
        return [self._path(*moment) for moment in moments]


def _read(path: Path) -> Checkpoint:
    with np.load(path, allow_pickle=False) as file:
        state = {name: file[name] for name in file.files}
    about = json.loads(str(state.pop("about")))
    return Checkpoint(Position(**about["position"]), about["history"], state)
