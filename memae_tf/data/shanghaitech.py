"""ShanghaiTech Campus (Luo et al., ICCV 2017), as its archive unpacks.

shanghaitech/training/videos/01_001.avi ...
shanghaitech/testing/frames/01_0014/000.jpg ...
shanghaitech/testing/test_frame_mask/01_0014.npy ...     1 for an abnormal frame
"""

from pathlib import Path

import numpy as np

from memae_tf.config import ShanghaiTechData
from memae_tf.data.clips import Video
from memae_tf.data.data_folder import published_folder
from memae_tf.data.dataset import Dataset
from memae_tf.data.video import find_videos, video_dataset
from memae_tf.data.video_cache import OnPrepared
from memae_tf.errors import UserError

WHAT = "ShanghaiTech Campus (svip-lab.github.io/dataset/campus_dataset.html)"


def load(config: ShanghaiTechData, on_prepared: OnPrepared = lambda *_: None) -> Dataset:
    """Prepares the frames and reads the labels. Training footage may also be in frames/.

    Raises:
        UserError: If the data are not there or damaged.
    """
    root = published_folder(config.dir, ("shanghaitech", "ShanghaiTech"), "training", WHAT)
    train = next(
        (f for f in (root / "training" / "videos", root / "training" / "frames") if f.is_dir()),
        None,
    )
    if train is None:
        raise UserError(f"{root}: has no folder training/videos/")
    for needed in ("testing/frames", "testing/test_frame_mask"):
        if not (root / needed).is_dir():
            raise UserError(f"{root}: has no folder {needed}/")
    masks = root / "testing" / "test_frame_mask"
    return video_dataset(
        config.name,
        config,
        find_videos(train),
        find_videos(root / "testing" / "frames"),
        lambda video: _labels(video, masks),
        on_prepared,
    )


def _labels(video: Video, folder: Path) -> np.ndarray:
    """The labels of a test video's frames (frames,)."""
    path = folder / f"{video.name}.npy"
    if not path.is_file():
        raise UserError(f"{folder}: has no labels {path.name} of video {video.name}")
    try:
        return np.load(path).ravel()
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read as labels ({error})") from None
