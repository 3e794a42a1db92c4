"""Detectors that come with the package.

Each is the directory of a finished run without its checkpoints, with a README.md, its model card:
what it is for, how it was made and how good it is.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from memae_tf.errors import UserError

if TYPE_CHECKING:
    from memae_tf.models import Detector

ROOT = Path(__file__).parent


def names() -> list[str]:
    """The names of all pretrained detectors."""
    return sorted(path.parent.name for path in ROOT.glob("*/detector.keras"))


def directory(name: str) -> Path:
    """The run directory of a pretrained detector: detector.keras, config.yaml, metrics.json.

    Raises:
        UserError: If there is none of this name.
    """
    if name not in names():
        raise UserError(
            f"{name}: there is no such pretrained detector; there are {', '.join(names())}"
        )
    return ROOT / name


def load_pretrained(name: str) -> "Detector":
    """Loads a detector that comes with the package.

    Examples:
        >>> detector = load_pretrained("kddcup99")
        >>> detector.detect(records)["is_anomaly"]

    Args:
        name: `"kddcup99"`, which takes the 41 fields of KDDCUP99's connection records; `"mnist"`,
            images of handwritten eights; or `"ped2"`, clips of pedestrians.

    Raises:
        UserError: If there is none of this name; the message names all that there are.
    """
    folder = directory(name)
    from memae_tf.models import load_detector

    return load_detector(folder / "detector.keras")
