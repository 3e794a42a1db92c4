"""A user's own footage, in one folder.

    train/       video files, or folders of frames: normal footage
    test/        the same, normal or not; may be missing
    labels.csv   of the abnormal frames in test/; may be missing

labels.csv has the header `video,first,last` and a line for each abnormal span: the name of a file
or folder in test/, with or without suffix, and the numbers of the first and the last frame of the
span, counted from 0. Videos without a line are normal.
"""

import csv
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memae_tf.config import VideoFolderData
from memae_tf.data.clips import Video
from memae_tf.data.dataset import Dataset
from memae_tf.data.video import find_videos, video_dataset
from memae_tf.data.video_cache import OnPrepared, Source
from memae_tf.errors import UserError
from memae_tf.tables import listed, near

COLUMNS = ("video", "first", "last")


def load(config: VideoFolderData, on_prepared: OnPrepared = lambda *_: None) -> Dataset:
    """Prepares the frames and reads the labels. Without them, nothing is evaluated.

    Raises:
        UserError: If a folder is missing or empty, a video damaged, or a label does not fit.
    """
    root = config.dir
    if not root.is_dir():
        raise UserError(f"data.dir={root}: there is no such folder")
    train = find_videos(root / "train") if (root / "train").is_dir() else []
    if not train:
        raise UserError(
            f"{root}: has no footage in train/, which should hold normal footage to train on: "
            "video files or folders of frames"
        )
    test = find_videos(root / "test") if (root / "test").is_dir() else []
    labels, path = None, root / "labels.csv"
    if path.is_file():
        spans = _spans(path, test)

        def labels(video: Video) -> np.ndarray:
            return _labels(video, spans)

    else:
        _warn_of_others(root)
    return video_dataset(root.resolve().name, config, train, test, labels, on_prepared)


def _warn_of_others(root: Path) -> None:
    """Warns of CSV files that are not read, as they may be labels under another name."""
    others = sorted(map(str, [*root.glob("*.csv"), *root.glob("test/*.csv")]))
    if others:
        warnings.warn(
            f"{listed(others)}: not read; labels of test/ should be in {root / 'labels.csv'}",
            stacklevel=2,
        )


@dataclass(frozen=True)
class _Span:
    """A line of labels.csv: the frames `first` to `last` of a video are abnormal.

    `line` is the file and the number of the line, for messages.
    """

    line: str
    video: str
    first: int
    last: int


def _spans(path: Path, test: list[Source]) -> list[_Span]:
    """The spans in labels.csv, with the names that the videos have in `test`."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            while reader.fieldnames == []:
                # A blank line before the header.
                reader.fieldnames = None
            header = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as CSV ({error})") from None
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise UserError(
            f"{path}: has no column {missing[0]}; its header should be video,first,last"
        )
    twice = [name for name in COLUMNS if header.count(name) > 1]
    if twice:
        raise UserError(
            f"{path}: has two columns {twice[0]}; its header should be video,first,last"
        )
    names = {source.path.name: source.name for source in test}
    names |= {source.name: source.name for source in test}
    spans = []
    for number, row in rows:
        line = f"{path}, line {number}"
        video, first, last = ((row[name] or "").strip() for name in COLUMNS)
        # DictReader has cells beyond the header's under `None`; they may be a note.
        beyond = [cell.strip() for cell in row.get(None, ())]
        if any(map(str.isdecimal, beyond)):
            raise UserError(
                f"{line}: has {', '.join(filter(None, beyond))} after its last frame; each span "
                "should have a line of its own"
            )
        if not (video or first or last):
            continue
        if video not in names:
            if not test:
                raise UserError(f"{line}: there is no video '{video}', as test/ has none")
            there = near(video, [source.path.name for source in test])
            raise UserError(f"{line}: there is no video '{video}' in test/{there}")
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise UserError(
                f"{line}: first and last should be numbers of frames, first not above last, but "
                f"are {first!r} and {last!r}"
            )
        spans.append(_Span(line, names[video], int(first), int(last)))
    return spans


def _labels(video: Video, spans: list[_Span]) -> np.ndarray:
    labels = np.zeros(video.source_frames, bool)
    for span in spans:
        if span.video != video.name:
            continue
        if span.last >= len(labels):
            raise UserError(
                f"{span.line}: {span.first} to {span.last} should be within 0 to "
                f"{len(labels) - 1}, the frames of {video.name}"
            )
        labels[span.first : span.last + 1] = True
    return labels
