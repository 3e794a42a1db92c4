"""The manifest of an exported version: its origin, and the checksums of its files."""

import hashlib
import json
from pathlib import Path

from memae_tf.errors import UserError

MANIFEST = Path("assets.extra") / "manifest.json"
FORMAT_VERSION = 1


def write(directory: Path, content: dict) -> None:
    """Writes the manifest of an export, after all other files.

    Args:
        directory: The directory of the export.
        content: The content of the manifest, without its format and the checksums.
    """
    manifest = {"format_version": FORMAT_VERSION, **content, "files": _checksums(directory)}
    path = directory / MANIFEST
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(manifest, indent=2, allow_nan=False) + "\n")


def read(directory: Path) -> dict:
    """The manifest of an export.

    Raises:
        UserError: If it is missing or cannot be read.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        version, _ = manifest["format_version"], manifest["files"].items()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: is damaged; export the detector again") from None
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path}: has format_version {version}, but this package reads {FORMAT_VERSION}"
        )
    return manifest


def verify(directory: str | Path) -> dict:
    """Checks an export against its checksums, and returns its manifest.

    Raises:
        UserError: If the manifest or a file is missing or differs, naming it. Files that are not in
            the manifest are ignored.
    """
    directory = Path(directory)
    manifest = read(directory)
    for name, checksum in manifest["files"].items():
        path = directory / name
        try:
            same = _checksum(path) == checksum
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        if not same:
            raise UserError(f"{path}: is not the file that was exported; export the detector again")
    return manifest


def _checksums(directory: Path) -> dict[str, str]:
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): _checksum(path) for path in paths}


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
