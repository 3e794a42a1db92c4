"""CUHK Avenue (Lu et al., ICCV 2013), as its two archives unpack.

    Avenue Dataset/training_videos/01.avi ...
    Avenue Dataset/testing_videos/01.avi ...
    ground_truth_demo/testing_label_mask/1_label.mat ...     also inside of Avenue Dataset/

A frame is abnormal if its mask in `volLabel` is not empty.
"""

from pathlib import Path

import numpy as np
import scipy.io

from memae_tf.config import AvenueData
from memae_tf.data.clips import Video
from memae_tf.data.data_folder import published_folder
from memae_tf.data.dataset import Dataset
from memae_tf.data.video import find_videos, video_dataset
from memae_tf.data.video_cache import OnPrepared
from memae_tf.errors import UserError

WHAT = "Avenue (www.cse.cuhk.edu.hk/leojia/projects/detectabnormal/dataset.html)"
MASKS = "testing_label_mask"


def load(config: AvenueData, on_prepared: OnPrepared = lambda *_: None) -> Dataset:
    """Prepares the frames and reads the labels.

    Raises:
        UserError: If the data are not there or damaged.
    """
    names = ("Avenue Dataset", "Avenue_Dataset", "avenue")
    root = published_folder(config.dir, names, "training_videos", WHAT)
    if not (root / "testing_videos").is_dir():
        raise UserError(f"{root}: has no folder testing_videos/")
    masks = _mask_folder(root)
    return video_dataset(
        config.name,
        config,
        find_videos(root / "training_videos"),
        find_videos(root / "testing_videos"),
        lambda video: _labels(video, masks),
        on_prepared,
    )


def _mask_folder(root: Path) -> Path:
    for folder in (root, root.parent):
        for place in (folder / MASKS, folder / "ground_truth_demo" / MASKS):
            if place.is_dir():
                return place
    raise UserError(
        f"{root}: the labels, ground_truth_demo/{MASKS}/, should be in this folder or next to it"
    )


def _labels(video: Video, folder: Path) -> np.ndarray:
    """Whether the mask of each frame of a test video has an abnormal pixel, bool (frames,)."""
    path = folder / f"{int(video.name)}_label.mat" if video.name.isdigit() else None
    if path is None or not path.is_file():
        raise UserError(f"{folder}: has no labels of video {video.name}")
    try:
        cells = scipy.io.loadmat(path)["volLabel"]
    except Exception as error:  # SciPy raises nearly anything for a damaged file.
        raise UserError(f"{path}: cannot be read as labels ({error})") from None
    return np.array([bool(np.any(mask)) for mask in cells.ravel()])
