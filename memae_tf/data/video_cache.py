"""A cache of prepared footage: decoded frames in the model's size, in memory-mapped files."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np

from memae_tf.config import VideoData
from memae_tf.data import decoding
from memae_tf.data.clips import Video
from memae_tf.data.decoding import DamagedVideoError
from memae_tf.data.images import complaint
from memae_tf.errors import UserError
from memae_tf.files import PARTIAL, sync

try:
    import resource
except ImportError:
    # Windows has no limits of resources.
    resource = None

# The version of the format; videos of another version are prepared again.
VERSION = 1
# After this time without a change, a partial folder is one of a process that was killed.
SECONDS_TO_KEEP_PARTIAL = 24 * 3600.0
# What reading raises for an entry that was cut short, for example by a power cut.
DAMAGED = (ValueError, EOFError, KeyError, FileNotFoundError, NotADirectoryError)

# NumPy reads headers by Python's parser. If a garbage collection within it switches to a thread
# that does the same, Python 3.11 raises a SystemError.
PARSING = threading.Lock()

# Is told how many videos are ready, of how many.
OnPrepared = Callable[[int, int], None]


@dataclass(frozen=True)
class Source:
    """A video file or a folder of frames, and its name in labels."""

    name: str
    path: Path


def prepare(
    sources: Sequence[Source], config: VideoData, on_prepared: OnPrepared = lambda *_: None
) -> dict[Source, Video]:
    """The prepared footage, by source; it is decoded if it is not in the cache yet.

    Each prepared video is a folder, with its frames as `frames.npy`. Its key is made of path, size
    and time of its file or files, and of the frames' size, channels and rate. It appears whole or
    not at all, even if two processes prepare it at the same time.

    Raises:
        UserError: Naming the videos that cannot be read, unless `config.damaged` is "skip", which
            leaves them out and warns; or if the cache cannot be written or read.
    """
    folder = config.cache or _default_folder()
    _remove_partial_folders(folder)
    _allow_open_files(len(sources))
    videos: dict[Source, Video] = {}
    damaged: list[tuple[Path, str]] = []
    stop = threading.Event()
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:
        futures = {pool.submit(_video, source, config, folder, stop): source for source in sources}
        try:
            for future in as_completed(futures):
                source = futures[future]
                try:
                    videos[source] = future.result()
                except DamagedVideoError as error:
                    damaged.append((source.path, str(error)))
                on_prepared(len(videos) + len(damaged), len(sources))
        except BaseException:
            # Ctrl-C, a full disk, ...: do not wait for videos that take minutes.
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    if damaged:
        _complain(damaged, len(sources), config)
    _warn_of_rates(list(videos.values()))
    return videos


def frame_size(config: VideoData) -> tuple[int, int]:
    """(height, width) of the prepared frames."""
    size = config.size
    return (size, size) if isinstance(size, int) else tuple(size)


def _default_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "memae_tf" / "video"


def _remove_partial_folders(folder: Path) -> None:
    """Removes the partial folders of killed processes, which have not changed for long."""
    for aside in folder.glob(f"{PARTIAL}*"):
        # Another process may be removing it as well.
        with contextlib.suppress(OSError):
            written = max(path.stat().st_mtime for path in [aside, *aside.iterdir()])
            if time.time() - written > SECONDS_TO_KEEP_PARTIAL:
                shutil.rmtree(aside, ignore_errors=True)


def _allow_open_files(count: int) -> None:
    """Raises the limit of open files by `count` if possible, as every mapped file counts."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    wanted = soft + count if hard == resource.RLIM_INFINITY else min(soft + count, hard)
    # A system may refuse this even below the hard limit. If the limit is too low, opening fails.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _video(source: Source, config: VideoData, folder: Path, stop: threading.Event) -> Video:
    # The key alone makes it unique, and file systems take 255 bytes.
    place = folder / f"{source.path.stem[:40]}-{_key(source.path, config)}"
    video = _open(source.name, place)
    if video is None:
        try:
            _write(source.path, config, place, stop)
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be written ({error.strerror}); set data.cache to another folder"
            ) from None
        video = _open(source.name, place)
    if video is None:
        raise UserError(f"{place}: is damaged; delete it, and it is made again")
    return video


def _key(path: Path, config: VideoData) -> str:
    """The key of a prepared video, see `prepare`."""
    try:
        files = decoding.frame_files(path) if path.is_dir() else [path]
        states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except OSError as error:
        raise DamagedVideoError(f"cannot be read ({error.strerror})") from None
    made_of = [VERSION, str(path.resolve()), states, frame_size(config)]
    made_of += [config.channels, config.frame_rate]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]


def _open(name: str, place: Path) -> Video | None:
    """A video from the cache; `None` if it is missing or damaged, in which case it is removed.

    Raises:
        UserError: If it cannot be read for another reason.
    """
    # Not removed if it is missing, as another process may be adding it at this moment.
    if not place.exists():
        return None
    try:
        about = json.loads((place / "about.json").read_text())
        with PARSING:
            frames = np.load(place / "frames.npy", mmap_mode="r")
            numbers = np.load(place / "numbers.npy")
        return Video(name, frames, numbers, about["source_frames"], about["rate"])
    except DAMAGED:
        shutil.rmtree(place, ignore_errors=True)
        return None
    except OSError as error:
        # The entry is not damaged: too many open files, no permission, ...
        advice = "; ulimit -n sets a higher limit" if error.errno == errno.EMFILE else ""
        raise UserError(f"{place}: cannot be read ({error.strerror}){advice}") from None


def _write(path: Path, config: VideoData, place: Path, stop: threading.Event) -> None:
    aside = place.with_name(f"{PARTIAL}{uuid.uuid4().hex}")
    aside.mkdir(parents=True)
    try:
        numbers, source_frames = _write_frames(aside / "frames.npy", path, config, stop)
        np.save(aside / "numbers.npy", numbers)
        rate = config.frame_rate or decoding.frame_rate(path)
        about = {"source": str(path), "source_frames": source_frames, "rate": rate}
        (aside / "about.json").write_text(json.dumps(about))
        sync(aside)
        try:
            aside.rename(place)
        except OSError:
            # Another process was faster.
            if not place.exists():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_frames(
    file: Path, path: Path, config: VideoData, stop: threading.Event
) -> tuple[np.ndarray, int]:
    """Writes the frames of a video to a .npy file.

    Returns:
        The numbers of the frames in the source, and how many frames the source has.
    """
    size = frame_size(config)
    numbered = enumerate(decoding.read_frames(path, config.channels))
    chosen = decoding.at_rate(numbered, config.frame_rate) if config.frame_rate else numbered
    numbers = []
    with open(file, "wb") as out:
        _write_header(out, 0, (*size, config.channels))
        for number, frame in chosen:
            if stop.is_set():
                raise CancelledError
            out.write(np.ascontiguousarray(decoding.resized(frame.pixels, size)))
            numbers.append(number)
        # The count is known only now; NumPy's header has room for it.
        out.seek(0)
        _write_header(out, len(numbers), (*size, config.channels))
    if not numbers:
        advice = " (images); video files should be next to such a folder, not in it"
        raise DamagedVideoError(f"has no frames{advice if path.is_dir() else ''}")
    # The last number is that of the last frame, which is kept at any rate.
    return np.array(numbers, "int64"), numbers[-1] + 1


def _write_header(out, count: int, shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(out, header)


def _complain(damaged: list[tuple[Path, str]], total: int, config: VideoData) -> None:
    """Warns of the videos that cannot be read.

    Raises:
        UserError: If `config.damaged` is "error".
    """
    message = complaint(sorted(damaged), total, "videos")
    if config.damaged == "error":
        raise UserError(f"{message}; repair or delete them, or set data.damaged=skip")
    warnings.warn(f"{message}; they are left out", stacklevel=3)


def _warn_of_rates(videos: list[Video]) -> None:
    rates = sorted((video.rate, video.name) for video in videos if video.rate)
    if rates and rates[-1][0] > 1.1 * rates[0][0]:
        (low, slow), (high, fast) = rates[0], rates[-1]
        warnings.warn(
            f"the videos have {low:.4g} ({slow}) to {high:.4g} ({fast}) frames per second, so "
            "motion looks faster in some; data.frame_rate gives all the same rate",
            stacklevel=3,
        )
