"""What the sources of video share: building a data set of clips from footage and labels."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from memae_tf.config import VideoData
from memae_tf.data.clips import Clips, Video, span
from memae_tf.data.dataset import Dataset
from memae_tf.data.decoding import VIDEO_SUFFIXES, natural_order
from memae_tf.data.video_cache import OnPrepared, Source, frame_size, prepare
from memae_tf.errors import UserError
from memae_tf.layers import ClipFeaturizer

# Gives the labels of a test video, for all frames of its source: (source frames,), 1 = abnormal.
Labels = Callable[[Video], np.ndarray]


def video_dataset(
    name: str,
    config: VideoData,
    train: Sequence[Source],
    test: Sequence[Source],
    labels: Labels | None,
    on_prepared: OnPrepared = lambda *_: None,
) -> Dataset:
    """Prepares footage, cuts it into clips, and adapts a featurizer.

    Args:
        name: The name of the data set.
        config: The `data` section.
        train: Normal footage.
        test: Normal and abnormal footage; may be empty.
        labels: Gives the labels of a test video; `None` if there are none.
        on_prepared: Is told how many videos are ready, of how many.

    Raises:
        UserError: If a video cannot be read, no training video is long enough for a clip, there
            are not as many labels as frames, or all test frames have the same label.
    """
    prepared = prepare([*train, *test], config, on_prepared)
    train_videos, test_videos = (
        [prepared[source] for source in sources if source in prepared] for sources in (train, test)
    )
    clips = Clips.windows(train_videos, config.clip_length, config.frame_stride, config.clip_stride)
    needed = span(config.clip_length, config.frame_stride)
    if len(clips) == 0:
        longest = max((len(video.frames) for video in train_videos), default=0)
        raise UserError(
            f"{name}: no training video is long enough: a clip spans {needed} frames "
            f"(data.clip_length, data.frame_stride), but the longest video has {longest}"
        )
    _warn_of_short([*train_videos, *test_videos], needed)
    frame_labels = None
    if labels is not None and test_videos:
        frame_labels = _frame_labels(name, test_videos, labels)
    featurizer = ClipFeaturizer(
        frame_size(config),
        config.clip_length,
        config.frame_stride,
        config.channels,
        config.scaling,
        frame_rate=config.frame_rate,
    )
    # By clips that do not overlap, so that every frame counts once.
    featurizer.adapt(Clips.windows(train_videos, config.clip_length, 1, config.clip_length))
    test_clips = None
    if test_videos:
        test_clips = Clips.windows(test_videos, config.clip_length, config.frame_stride, 1)
    return Dataset(
        name=name,
        protocol="unlabelled" if frame_labels is None else "given",
        simulated=False,
        featurizer=featurizer,
        train=clips,
        test=test_clips,
        labels=frame_labels,
        threshold="train_quantile",
    )


def find_videos(folder: Path) -> list[Source]:
    """The video files and folders of frames in a folder, ordered by the numbers in their names.

    A file's name is without its suffix, unless another one would have the same name.
    """
    paths = [
        path
        for path in sorted(folder.iterdir(), key=natural_order)
        if not path.name.startswith(".")
        and (path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES)
    ]
    names = [path.name if path.is_dir() else path.stem for path in paths]
    return [
        Source(name if names.count(name) == 1 else path.name, path)
        for name, path in zip(names, paths, strict=True)
    ]


def _warn_of_short(videos: Sequence[Video], needed: int) -> None:
    short = [video for video in videos if len(video.frames) < needed]
    if short:
        warnings.warn(
            f"{len(short)} of {len(videos)} videos have fewer frames than the {needed} that a clip "
            f"spans (data.clip_length, data.frame_stride) and are left out; the first is "
            f"{short[0].name}, with {len(short[0].frames)}",
            stacklevel=2,
        )


def _frame_labels(name: str, videos: Sequence[Video], labels: Labels) -> np.ndarray:
    """The labels of the prepared frames of all videos, int64 (frames,).

    Raises:
        UserError: If a video has not as many labels as its source has frames, or all are the same.
    """
    joined = np.concatenate([_labels_of(video, labels(video)) for video in videos])
    if joined.min() == joined.max():
        kind = "abnormal" if joined[0] else "normal"
        raise UserError(
            f"{name}: all test frames are labelled {kind}; an evaluation needs both kinds"
        )
    return joined


def _labels_of(video: Video, labels: np.ndarray) -> np.ndarray:
    """The labels of a video's prepared frames, int64 (frames,).

    Raises:
        UserError: If there are not as many as the source has frames.
    """
    if len(labels) != video.source_frames:
        raise UserError(
            f"video {video.name}: has {video.source_frames} frames, but labels for {len(labels)}"
        )
    return np.asarray(labels).astype(bool).astype("int64")[video.numbers]
