"""Videos as prepared frames, and clips as windows over them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Video:
    """Prepared footage.

    Attributes:
        name: The name of the file or folder.
        frames: uint8 (frames, height, width, channels), memory-mapped.
        numbers: int64 (frames,), the number of each frame in its source, from 0.
        source_frames: How many frames the source has.
        rate: Frames a second; `None` if unknown.
    """

    name: str
    frames: np.ndarray
    numbers: np.ndarray
    source_frames: int
    rate: float | None


class Clips:
    """Clips as windows over videos, each within one video. Frames are read when clips are indexed.

    An integer as index gives a clip, uint8 (length, height, width, channels); a slice, an array of
    integers or a mask gives the clips at these places.

    Attributes:
        videos: The videos.
        length: Frames of a clip.
        frame_stride: Distance from one frame of a clip to the next.
        places: int64 (clips, 2), the video of each clip and the number of its first frame.
    """

    def __init__(self, videos: Sequence[Video], length: int, frame_stride: int, places: np.ndarray):
        self.videos = tuple(videos)
        self.length = length
        self.frame_stride = frame_stride
        self.places = np.asarray(places, "int64").reshape(-1, 2)

    @classmethod
    def windows(
        cls,
        videos: Sequence[Video],
        length: int,
        frame_stride: int,
        stride: int,
        to_the_end: bool = False,
    ) -> "Clips":
        """The clips that start at every `stride`-th frame of each video.

        Args:
            videos: The videos; one with fewer frames than a clip has none.
            length: Frames of a clip.
            frame_stride: Distance from one frame of a clip to the next.
            stride: Distance from the start of one clip to the next.
            to_the_end: Whether to add a clip that ends at the last frame, if no other does.
        """
        places = []
        for number, video in enumerate(videos):
            last = len(video.frames) - span(length, frame_stride)
            starts = list(range(0, last + 1, stride))
            if to_the_end and starts and starts[-1] != last:
                starts.append(last)
            places += [(number, start) for start in starts]
        return cls(videos, length, frame_stride, np.array(places))

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index):
        if isinstance(index, (int, np.integer)):
            video, start = self.places[index]
            stop = start + span(self.length, self.frame_stride)
            return np.asarray(self.videos[video].frames[start : stop : self.frame_stride])
        return Clips(self.videos, self.length, self.frame_stride, self.places[index])

    def hold_out(self, share: float, seed: int) -> tuple["Clips", "Clips"]:
        """Splits the clips into kept and held-out ones, about a share, with no frame in common.

        Random whole videos are held out; of a single video, its end. The videos of the kept clips
        have no frames of the held-out ones.
        """
        video, start = self.places.T
        numbers = np.unique(video)
        if len(numbers) > 1:
            order = np.random.default_rng(seed).permutation(numbers)
            sizes = np.cumsum([(video == number).sum() for number in order[:-1]])
            count = 1 + int(np.argmin(np.abs(sizes - share * len(self))))
            apart = np.isin(video, order[:count])
            kept = np.setdiff1d(numbers, order[:count])
            videos = [self.videos[number] for number in kept]
            places = np.stack([np.searchsorted(kept, video), start], axis=1)[~apart]
            return Clips(videos, self.length, self.frame_stride, places), self[apart]
        cut = start[min(max(1, round(len(self) * (1 - share))), len(self) - 1)]
        kept = self[start + span(self.length, self.frame_stride) <= cut]
        kept.videos = tuple(
            replace(v, frames=v.frames[:cut], numbers=v.numbers[:cut]) if number in video else v
            for number, v in enumerate(self.videos)
        )
        return kept, self[start >= cut]


def span(length: int, frame_stride: int) -> int:
    """The number of frames from the first to the last one of a clip, both included."""
    return (length - 1) * frame_stride + 1
