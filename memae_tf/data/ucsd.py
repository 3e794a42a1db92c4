"""UCSD Ped1 and Ped2 (Mahadevan et al., CVPR 2010), as their archive unpacks.

    UCSD_Anomaly_Dataset.v1p2/UCSDped2/Train/Train001/001.tif ...
    UCSD_Anomaly_Dataset.v1p2/UCSDped2/Test/Test001/001.tif ...
    UCSD_Anomaly_Dataset.v1p2/UCSDped2/Test/Test001_gt/001.bmp ...
    UCSD_Anomaly_Dataset.v1p2/UCSDped2/Test/UCSDped2.m

Frames may also be JPEG or PNG files. A frame is abnormal if its mask is not empty or, where not
every test clip has masks (Ped1: 10 of 36), if the list `UCSDped1.m` has it.
"""

import re
from pathlib import Path

import numpy as np

from memae_tf.config import UCSDData
from memae_tf.data.clips import Video
from memae_tf.data.data_folder import published_folder
from memae_tf.data.dataset import Dataset
from memae_tf.data.decoding import frame_files
from memae_tf.data.images import UNREADABLE, read_image
from memae_tf.data.video import find_videos, video_dataset
from memae_tf.data.video_cache import OnPrepared
from memae_tf.errors import UserError

ARCHIVE = "UCSD_Anomaly_Dataset.v1p2"
MASKS = "_gt"


def load(config: UCSDData, on_prepared: OnPrepared = lambda *_: None) -> Dataset:
    """Prepares the frames and reads the labels.

    Raises:
        UserError: If the data are not there or damaged.
    """
    part = config.name.replace("ucsd_ped", "UCSDped")
    what = f"{part} (svcl.ucsd.edu/projects/anomaly/dataset.htm)"
    root = published_folder(config.dir, (f"{ARCHIVE}/{part}", part), "Train", what)
    train = find_videos(root / "Train")
    if not (root / "Test").is_dir():
        raise UserError(f"{root}: has no folder Test/")
    test = [s for s in find_videos(root / "Test") if not s.name.endswith(MASKS)]
    masks = {source.name: root / "Test" / f"{source.name}{MASKS}" for source in test}
    if all(folder.is_dir() for folder in masks.values()):

        def labels(video: Video) -> np.ndarray:
            return _mask_labels(masks[video.name])

    else:
        spans = _listed_spans(root / "Test" / f"{part}.m", len(test))
        listed = {source.name: own for source, own in zip(test, spans, strict=True)}

        def labels(video: Video) -> np.ndarray:
            return _span_labels(video, listed[video.name], root / "Test" / f"{part}.m")

    return video_dataset(config.name, config, train, test, labels, on_prepared)


def _mask_labels(folder: Path) -> np.ndarray:
    """Whether each mask in a folder has an abnormal pixel, bool (masks,)."""
    labels = []
    for path in frame_files(folder):
        try:
            labels.append(bool(read_image(path).any()))
        except UNREADABLE as error:
            raise UserError(f"{path}: cannot be read ({error})") from None
    return np.array(labels, bool)


def _listed_spans(path: Path, num_clips: int) -> list[list[tuple[int, int]]]:
    """The abnormal spans (first, last), counted from 1, of each test clip, from a MATLAB list."""
    if not path.is_file():
        raise UserError(
            f"{path.parent}: not every test clip has masks (TestNNN{MASKS}/), and there is no list "
            f"{path.name}"
        )
    lists = re.findall(r"gt_frame\s*=\s*\[(.*?)\]", path.read_text(errors="replace"))
    if len(lists) != num_clips:
        raise UserError(f"{path}: lists {len(lists)} clips, but there are {num_clips}")
    spans = []
    for text in lists:
        found = re.findall(r"(\d+)\s*(?::\s*(\d+))?", text)
        spans.append([(int(first), int(last or first)) for first, last in found])
    return spans


def _span_labels(video: Video, spans: list[tuple[int, int]], path: Path) -> np.ndarray:
    labels = np.zeros(video.source_frames, bool)
    for first, last in spans:
        if not 1 <= first <= last <= len(labels):
            raise UserError(
                f"{path}: {first}:{last} should be within 1:{len(labels)}, the frames of "
                f"{video.name}"
            )
        labels[first - 1 : last] = True
    return labels
