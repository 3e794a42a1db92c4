import errno
import gc
import os
import resource
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import footage
import numpy as np
import pytest

from memae_tf.config import VideoData
from memae_tf.data import video_cache
from memae_tf.data.decoding import Frame, resized
from memae_tf.data.video_cache import Source, prepare
from memae_tf.errors import UserError

FRAMES = footage.scene(20, seed=0)


@pytest.fixture
def config(tmp_path):
    return VideoData(size=[12, 16], cache=tmp_path / "cache")


def source(path) -> Source:
    return Source(path.stem, path)


def test_frames_are_grey_small_and_mapped(tmp_path, config):
    sources = [
        source(footage.write_video(tmp_path / "file.mkv", FRAMES)),
        source(footage.write_frames(tmp_path / "folder", FRAMES, "tif")),
    ]
    videos = prepare(sources, config)
    expected = np.stack([resized(frame[..., None], (12, 16)) for frame in FRAMES])
    for video in videos.values():
        assert isinstance(video.frames, np.memmap)
        np.testing.assert_array_equal(video.frames, expected)
        assert (video.source_frames, len(video.numbers)) == (20, 20)
    assert [videos[s].rate for s in sources] == [10, None]


def test_prepared_once_until_the_file_or_the_settings_change(tmp_path, config, monkeypatch):
    written = []
    write = video_cache._write
    monkeypatch.setattr(video_cache, "_write", lambda *a: written.append(a[0].name) or write(*a))
    path = footage.write_video(tmp_path / "a.mkv", FRAMES)
    for _ in range(2):
        prepare([source(path)], config)
    assert written == ["a.mkv"]
    prepare([source(path)], config.model_copy(update={"channels": 3}))
    prepare([source(path)], config.model_copy(update={"size": 8}))
    assert len(written) == 3
    footage.write_video(path, FRAMES[:15])
    os.utime(path, (1, 1))
    (video,) = prepare([source(path)], config).values()
    assert len(video.frames) == 15
    assert not list(config.cache.glob(".partial*"))


def test_frames_that_were_replaced_by_others_of_the_same_size_are_prepared_again(tmp_path, config):
    for number, frames in enumerate((FRAMES, FRAMES[::-1])):
        folder = source(footage.write_frames(tmp_path / "frames", frames, "tif"))
        for file in folder.path.iterdir():
            os.utime(file, (number, number))
        (video,) = prepare([folder], config).values()
        expected = resized(frames[0, ..., None], (12, 16))
        np.testing.assert_array_equal(video.frames[0], expected)


def test_damaged_cache_is_made_again(tmp_path, config):
    path = footage.write_video(tmp_path / "a.mkv", FRAMES)
    prepare([source(path)], config)
    (file,) = config.cache.glob("*/frames.npy")
    file.write_bytes(file.read_bytes()[:500])
    (video,) = prepare([source(path)], config).values()
    assert len(video.frames) == 20


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("frames.npy", ""),
        ("numbers.npy", ""),
        ("numbers.npy", None),
        ("about.json", ""),
        ("about.json", "{}"),
    ],
)
def test_an_entry_that_a_power_cut_left_is_made_again(tmp_path, config, name, content):
    path = footage.write_video(tmp_path / "a.mkv", FRAMES)
    prepare([source(path)], config)
    (file,) = config.cache.glob(f"*/{name}")
    file.unlink() if content is None else file.write_text(content)
    (video,) = prepare([source(path)], config).values()
    assert (len(video.frames), len(video.numbers), video.rate) == (20, 20, 10)


def test_all_files_are_on_disk_before_the_entry_has_its_name(tmp_path, config, monkeypatch):
    synced, fsync = set(), os.fsync

    def noted(descriptor):
        file = os.readlink(f"/proc/self/fd/{descriptor}")
        # Not a moment too early.
        assert os.path.getsize(file) > 0
        synced.add(os.path.basename(file))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    prepare([source(footage.write_video(tmp_path / "a.mkv", FRAMES))], config)
    assert synced == {"frames.npy", "numbers.npy", "about.json"}


def test_an_entry_that_cannot_be_read_now_stays(tmp_path, config, monkeypatch):
    path = footage.write_video(tmp_path / "a.mkv", FRAMES)
    prepare([source(path)], config)

    def load(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(np, "load", load)
        with pytest.raises(
            UserError, match=r"a-.*: cannot be read \(Too many open files\); ulimit"
        ):
            prepare([source(path)], config)
    monkeypatch.setattr(video_cache, "_write", None)
    (video,) = prepare([source(path)], config).values()
    assert len(video.frames) == 20


def test_more_videos_than_files_may_be_open(tmp_path, config):
    sources = [
        source(footage.write_frames(tmp_path / str(number), FRAMES[:2])) for number in range(60)
    ]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    there = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (there + 30, hard))
    try:
        assert len(prepare(sources, config)) == 60
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_prepared_ones_are_opened_beside_each_other(tmp_path, config):
    """Also where a garbage collection lets another thread in at any point."""
    sources = []
    for number in range(30):
        video = tmp_path / f"{number}.avi"
        sources.append(source(footage.write_video(video, footage.scene(2, number))))
    prepare(sources, config)
    threshold = gc.get_threshold()
    gc.callbacks.append(let_others_in)
    gc.set_threshold(5)
    try:
        for _ in range(10):
            assert len(prepare(sources, config)) == 30
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(let_others_in)


def let_others_in(phase, info):
    """The way libraries' own do it."""
    time.sleep(0)


def test_what_killed_processes_left_is_removed_when_it_is_old(tmp_path, config):
    old, recent = (config.cache / f".partial-{name}" for name in ("old", "recent"))
    for folder in (old, recent):
        folder.mkdir(parents=True)
        (folder / "frames.npy").write_text("")
    ago = time.time() - 2 * 24 * 3600
    os.utime(old / "frames.npy", (ago, ago))
    # A folder is as old as its last file was new: a long video is still being written to one.
    for folder in (old, recent):
        os.utime(folder, (ago, ago))
    prepare([source(footage.write_video(tmp_path / "a.mkv", FRAMES))], config)
    assert not old.exists()
    assert recent.exists()


def test_frames_of_changing_size_all_become_one(tmp_path, config):
    mixed = [FRAMES[0], np.kron(FRAMES[1], np.ones((2, 2), "uint8")), FRAMES[2]]
    folder = footage.write_frames(tmp_path / "mixed", mixed)
    (video,) = prepare([source(folder)], config).values()
    assert video.frames.shape == (3, 12, 16, 1)
    np.testing.assert_allclose(
        video.frames[1].astype(int), resized(FRAMES[1][..., None], (12, 16)), atol=12
    )


def test_rates(tmp_path, config):
    slow = source(footage.write_video(tmp_path / "slow.mkv", FRAMES, rate=5))
    fast = source(footage.write_video(tmp_path / "fast.mkv", FRAMES, rate=20))
    with pytest.warns(UserWarning, match=r"5 \(slow\) to 20 \(fast\) frames per second"):
        prepare([slow, fast], config)
    hardly_faster = source(footage.write_video(tmp_path / "hardly_faster.mkv", FRAMES, rate=5.4))
    one_rate = config.model_copy(update={"frame_rate": 10.0})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare([slow, hardly_faster], config)
        videos = prepare([slow, fast], one_rate)
    assert [video.rate for video in videos.values()] == [10.0, 10.0]
    assert videos[slow].numbers.tolist() == [n // 2 for n in range(39)]
    assert videos[fast].numbers.tolist() == [*range(0, 19, 2), 19]
    assert videos[fast].source_frames == 20


def test_damaged_video_is_named_or_left_out(tmp_path, config):
    good = source(footage.write_video(tmp_path / "good.mkv", FRAMES))
    bad = tmp_path / "bad.mkv"
    bad.write_bytes(good.path.read_bytes()[:200])
    by_day = footage.write_video(tmp_path / "monday" / "a.mkv", FRAMES).parent
    sources = [good, source(bad), source(by_day)]
    message = r"2 of 3 videos cannot be read: .*bad\.mkv .*monday \(has no frames \(images\); video"
    with pytest.raises(UserError, match=message):
        prepare(sources, config)
    with pytest.warns(UserWarning, match=r"bad\.mkv .* left out"):
        videos = prepare(sources, config.model_copy(update={"damaged": "skip"}))
    assert list(videos) == [good]


def test_interruption_ends_what_is_being_decoded(tmp_path, config, monkeypatch):
    def read(path, channels):
        yield Frame(FRAMES[0][..., None], None)
        while path.stem == "endless":
            yield Frame(FRAMES[0][..., None], None)

    def interrupt(done, total):
        raise KeyboardInterrupt

    monkeypatch.setattr(video_cache.decoding, "read_frames", read)
    paths = [footage.write_video(tmp_path / f"{name}.mkv", FRAMES) for name in ("one", "endless")]
    with pytest.raises(KeyboardInterrupt):
        prepare([source(path) for path in paths], config, interrupt)
    assert [path.name[:4] for path in config.cache.iterdir()] == ["one-"]


def test_cache_that_cannot_be_written(tmp_path, config):
    path = footage.write_video(tmp_path / "a.mkv", FRAMES)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written .*data\.cache"):
        prepare([source(path)], config.model_copy(update={"cache": tmp_path / "file" / "x"}))


def test_two_at_once_write_one(tmp_path, config):
    path = footage.write_video(tmp_path / "a.mkv", footage.scene(100, 0))
    together = threading.Barrier(2)

    def run(_) -> int:
        together.wait()
        (video,) = prepare([source(path)], config).values()
        return int(video.frames.sum(dtype="int64"))

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(run, range(2))
    assert first == second
    assert len(list(config.cache.iterdir())) == 1
