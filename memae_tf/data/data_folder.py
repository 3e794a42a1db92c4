"""Folders of published data sets on this machine."""

import os
from collections.abc import Sequence
from pathlib import Path

from memae_tf.errors import UserError


def data_folder(directory: Path | None, loader: str, holds: str = "") -> str | None:
    """The folder of a library's data loader, in `data.dir` or else in $MEMAE_DATA_DIR.

    Args:
        directory: `data.dir`.
        loader: The name of the loader's folder.
        holds: A folder that must be in it.

    Returns:
        `None` if there is none, which is the default folder to the loaders.

    Raises:
        UserError: If `data.dir` was given and is no folder.
    """
    for root in _roots(directory):
        if (root / loader / holds).is_dir():
            return str(root / loader)
    return None


def published_folder(directory: Path | None, names: Sequence[str], holds: str, what: str) -> Path:
    """The folder of an archive that people download and unpack themselves.

    Args:
        directory: `data.dir`; it may be that folder.
        names: Its possible names in `directory` or in $MEMAE_DATA_DIR.
        holds: A folder that must be in it.
        what: The data set and where it is published, for the error.

    Raises:
        UserError: If it is in neither of the two.
    """
    for root in _roots(directory):
        for folder in (root, *(root / name for name in names)):
            if (folder / holds).is_dir():
                return folder
    raise UserError(
        f"{what} is not on this machine; put it into data.dir or $MEMAE_DATA_DIR as {names[0]}/, "
        f"with its folder {holds}/"
    )


def _roots(directory: Path | None) -> list[Path]:
    if directory is not None and not directory.is_dir():
        raise UserError(f"data.dir={directory}: there is no such folder")
    environment = os.environ.get("MEMAE_DATA_DIR")
    return [root for root in (directory, Path(environment) if environment else None) if root]
