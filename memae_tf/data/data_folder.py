"""Where the data that others publish lie on this machine."""

import os
from pathlib import Path

from memae_tf.errors import UserError


def data_folder(directory: Path | None, loader: str, holds: str = "") -> str | None:
    """The folder of a loader that the configuration or, next, $MEMAE_DATA_DIR has.

    Args:
        directory: `data.dir`.
        loader: The name of the loader's folder in it.
        holds: A folder in that one, without which it does not count.

    Returns:
        `None` where there is none: the loader's own default.

    Raises:
        UserError: If `data.dir` was given and is no folder.
    """
    if directory is not None and not directory.is_dir():
        raise UserError(f"data.dir={directory}: there is no such folder")
    environment = os.environ.get("MEMAE_DATA_DIR")
    for root in (directory, Path(environment) if environment else None):
        if root is not None and (root / loader / holds).is_dir():
            return str(root / loader)
    return None
