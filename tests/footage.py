"""Small footage to test with: squares that walk slowly, and at times a large one that runs."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

HEIGHT, WIDTH = 24, 32
MILLISECOND = Fraction(1, 1000)


def scene(num_frames: int, seed: int, odd: range = range(0)) -> np.ndarray:
    """uint8 (frames, height, width); in the frames of `odd` something runs through."""
    rng = np.random.default_rng(seed)
    frames = np.tile(np.linspace(60, 120, WIDTH), (num_frames, HEIGHT, 1))
    walkers = [(rng.integers(2, HEIGHT - 6), rng.uniform(0, WIDTH)) for _ in range(3)]
    for number in range(num_frames):
        for top, left in walkers:
            column = int(left + 0.5 * number) % (WIDTH - 4)
            frames[number, top : top + 4, column : column + 3] = 200
        if number in odd:
            column = 3 * (number - odd.start) % (WIDTH - 10)
            frames[number, 6:16, column : column + 10] = 10
    return (frames + rng.normal(0, 2, frames.shape)).clip(0, 255).astype("uint8")


def write_video(
    path: Path, frames: np.ndarray, codec: str = "ffv1", rate=10, times: Sequence[float] = ()
) -> Path:
    """A video file of grey frames (frames, height, width) or colour ones (..., 3).

    `times` are seconds at which frames are shown; without, they are as far apart as `rate` says.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1000))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "gray" if codec == "ffv1" and frames.ndim == 3 else "yuv420p"
        if times:
            stream.codec_context.time_base = MILLISECOND
        for number, pixels in enumerate(frames):
            kind = "gray" if pixels.ndim == 2 else "rgb24"
            frame = av.VideoFrame.from_ndarray(pixels, format=kind)
            if times:
                frame.pts, frame.time_base = round(times[number] / MILLISECOND), MILLISECOND
            container.mux(stream.encode(frame))
        for packet in stream.encode():
            container.mux(packet)
    return path


def write_frames(folder: Path, frames, suffix: str = "png", first: int = 1) -> Path:
    """A folder of images, counted from `first`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(frames, start=first):
        Image.fromarray(pixels).save(folder / f"{number:03}.{suffix}")
    return folder


# Of the test videos of a camera folder.
ODD = {"a": range(12, 30), "b": range(0), "c": range(20, 40)}


def write_camera_folder(root: Path) -> Path:
    """Footage to train on and to test on, as `video_folder` takes it."""
    for seed in range(3):
        write_video(root / "train" / f"{seed}.mkv", scene(40, seed))
    write_frames(root / "train" / "frames", scene(40, 3))
    lines = ["video,first,last"]
    for seed, (name, odd) in enumerate(ODD.items()):
        write_video(root / "test" / f"{name}.mkv", scene(40, 10 + seed, odd))
        lines += [f"{name}.mkv,{odd.start},{odd.stop - 1}"] if odd else []
    (root / "labels.csv").write_text("\n".join(lines))
    return root


def camera_config(root: Path) -> dict:
    """A configuration that learns a camera folder in seconds."""
    return {
        "data": {
            "name": "video_folder",
            "dir": str(root),
            "size": [HEIGHT, WIDTH],
            "clip_length": 8,
            "cache": str(root / "cache"),
        },
        "model": {
            "name": "conv3d",
            "filters": [8, 16],
            "reduction": "mean",
            "memory": {"num_slots": 20},
        },
        "training": {"epochs": 4, "batch_size": 8, "learning_rate": 0.003},
    }
