from pathlib import Path

import av
import footage
import numpy as np
import pytest
from PIL import Image

from memae_tf.data import decoding
from memae_tf.data.decoding import (
    DamagedVideoError,
    Frame,
    at_rate,
    decode,
    frame_files,
    frame_rate,
    open_container,
    read_frames,
    resized,
)
from memae_tf.layers import ImageFeaturizer

FRAMES = footage.scene(12, seed=0)


def pixels_of(path, channels: int = 1) -> np.ndarray:
    return np.stack([frame.pixels for frame in read_frames(path, channels)])


def test_digits_that_are_no_numbers_are_letters_of_a_name(tmp_path):
    for name in ("1", "²10", "²9"):
        (tmp_path / f"{name}.png").touch()
    assert [path.stem for path in frame_files(tmp_path)] == ["²9", "²10", "1"]


def test_lossless_file_gives_its_frames_back(tmp_path):
    path = footage.write_video(tmp_path / "a.mkv", FRAMES)
    np.testing.assert_array_equal(pixels_of(path)[..., 0], FRAMES)
    assert frame_rate(path) == 10
    times = [frame.time for frame in read_frames(path, 1)]
    np.testing.assert_allclose(times, np.arange(12) / 10, atol=1e-3)


# Some of them show frames in another order than they are decoded in.
@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("mp4", "libx264"), ("avi", "mpeg4"), ("avi", "libx264"), ("mkv", "libx264")],
)
def test_usual_files(tmp_path, suffix, codec):
    path = footage.write_video(tmp_path / f"a.{suffix}", FRAMES, codec)
    found = pixels_of(path)[..., 0].astype(float)
    assert found.shape == FRAMES.shape
    assert np.abs(found - FRAMES).mean() < 8
    times = [frame.time for frame in read_frames(path, 1)]
    np.testing.assert_allclose(times, np.arange(12) / 10, atol=1e-3)
    assert len(list(at_rate(enumerate(read_frames(path, 1)), 5))) == 7


def test_time_goes_on_where_files_were_joined(tmp_path):
    parts = [
        footage.write_video(tmp_path / f"{name}.ts", footage.scene(30, seed=0), "libx264")
        for name in "ab"
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    times = [frame.time for frame in read_frames(path, 1)]
    np.testing.assert_allclose(times, np.arange(60) / 10, atol=1e-3)


def test_time_goes_on_where_that_of_mpeg_has_no_more_bits(tmp_path):
    path, ticks = tmp_path / "a.ts", 2**33
    with av.open(str(path), "w", options={"output_ts_offset": str(ticks / 90_000 - 2)}) as file:
        stream = file.add_stream("mpeg2video", rate=10)
        stream.height, stream.width = FRAMES.shape[1:]
        stream.pix_fmt = "yuv420p"
        for pixels in footage.scene(30, seed=0):
            frame = av.VideoFrame.from_ndarray(pixels, format="gray")
            file.mux(stream.encode(frame.reformat(format="yuv420p")))
        file.mux(stream.encode())
    times = [frame.time for frame in read_frames(path, 1)]
    np.testing.assert_allclose(times, np.arange(30) / 10, atol=1e-3)


def test_times_in_disorder_are_no_clock_that_was_set():
    given = [0.0, 0.1, 0.3, 0.2, 0.4, 0.5]
    clock = decoding._Clock(10)
    assert [clock.since_start(time) for time in given] == [0.0, 0.1, 0.3, 0.3, 0.4, 0.5]


def test_title_in_another_encoding(tmp_path):
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Einfahrt Sxd"
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for packet in stream.encode(av.VideoFrame.from_ndarray(FRAMES[0], format="gray")):
            container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    content = path.read_bytes()
    assert b"Einfahrt Sxd" in content
    path.write_bytes(content.replace(b"Einfahrt Sxd", "Einfahrt Süd".encode("latin-1")))
    assert len(pixels_of(path)) == 1
    assert frame_rate(path) == 10


def test_file_that_was_cut_without_encoding_it_anew(tmp_path):
    """Frames before the cut are in the file, for the decoder, and its edit list hides them."""
    whole = footage.write_video(tmp_path / "a.mp4", footage.scene(100, seed=0), "libx264")
    cut = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        stream = source.streams.video[0]
        template = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.pts -= int(4 / stream.time_base)
                packet.dts -= int(4 / stream.time_base)
                packet.stream = template
                target.mux(packet)
    with av.open(str(cut)) as container:
        assert container.streams.video[0].frames == 100
    np.testing.assert_array_equal(pixels_of(cut), pixels_of(whole)[40:])
    cut.write_bytes(whole.read_bytes()[:-2000])
    with pytest.raises(DamagedVideoError):
        pixels_of(cut)


def test_colours_and_grey(tmp_path):
    red = np.zeros((4, 16, 16, 3), "uint8")
    red[..., 0] = 200
    path = footage.write_video(tmp_path / "a.mp4", red, "libx264")
    np.testing.assert_allclose(pixels_of(path, 3)[..., 0], 200, atol=8)
    np.testing.assert_allclose(pixels_of(path, 3)[..., 1:], 0, atol=8)
    np.testing.assert_allclose(pixels_of(path, 1), 0.299 * 200, atol=5)
    folder = footage.write_frames(tmp_path / "frames", red)
    np.testing.assert_allclose(pixels_of(folder, 1), 60)


def test_turned_camera(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV cannot write it")
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        stream.set_display_rotation(90)
        for pixels in FRAMES:
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    # 90 degrees counterclockwise, which a player does as well.
    upright = np.rot90(FRAMES, axes=(1, 2)).astype(float)
    assert np.abs(pixels_of(path)[..., 0] - upright).mean() < 8


def test_of_two_video_streams_the_one_that_players_take(tmp_path):
    path = tmp_path / "a.mp4"
    grey = (50, 150)
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=10) for _ in grey]
        for number, stream in enumerate(streams):
            stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
            try:
                stream.disposition = av.stream.Disposition(number)  # 1 is the default stream.
            except AttributeError:
                pytest.skip("this PyAV cannot write it")
        for _ in range(5):
            for stream, value in zip(streams, grey, strict=True):
                pixels = np.full((24, 32), value, "uint8")
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray")))
        for stream in streams:
            container.mux(stream.encode())
    found = pixels_of(path)
    assert len(found) == 5
    np.testing.assert_allclose(found, 150, atol=3)


def test_frames_of_a_folder_come_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9, 100, 1):
        Image.fromarray(np.full((2, 2), number, "uint8")).save(tmp_path / f"frame{number}.png")
    (tmp_path / "._frame3.png").write_bytes(b"what a Mac leaves behind")
    (tmp_path / "notes.txt").write_text("no image")
    assert [frame.pixels[0, 0, 0] for frame in read_frames(tmp_path, 1)] == [1, 9, 10, 100]
    assert len(frame_files(tmp_path)) == 4


def test_cut_off_file_says_so(tmp_path):
    whole = footage.write_video(tmp_path / "whole.avi", footage.scene(60, 1), "mpeg4")
    data = whole.read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(data[: len(data) * 4 // 5])
    with pytest.raises(DamagedVideoError, match=r"cut off: has \d+ of 60 frames"):
        pixels_of(cut)


def test_avi_that_repeats_frames_is_whole(tmp_path):
    """It counts frames that are empty, and stand for the one before."""
    times = [number / 10 + (2.0 if number >= 20 else 0.0) for number in range(40)]
    whole = footage.write_video(tmp_path / "a.avi", footage.scene(40, 1), "mpeg4", times=times)
    with av.open(str(whole)) as container:
        assert container.streams.video[0].frames > 45
    read = [frame.time for frame in read_frames(whole, 1)]
    np.testing.assert_allclose(read, times, atol=0.011)
    data = whole.read_bytes()
    whole.write_bytes(data[: data.index(b"idx1") * 3 // 5])
    with pytest.raises(DamagedVideoError, match="cut off"):
        pixels_of(whole)


def test_name_with_a_colon_is_no_protocol(tmp_path, monkeypatch):
    footage.write_video(tmp_path / "a.mkv", footage.scene(5, 1)).rename(tmp_path / "10:30:00.mkv")
    monkeypatch.chdir(tmp_path)
    assert len(pixels_of(Path("10:30:00.mkv"))) == 5
    assert frame_rate(Path("10:30:00.mkv")) == 10


def test_damaged_pictures_of_a_stream_are_left_out(tmp_path):
    """A file, on the other hand, is read up to the damage."""
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.height, stream.width, stream.pix_fmt = footage.HEIGHT, footage.WIDTH, "yuvj420p"
        for pixels in footage.scene(60, 1):
            frame = av.VideoFrame.from_ndarray(pixels, format="gray")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    starts = [at for at in range(len(data)) if data[at : at + 3] == b"\xff\xd8\xff"]
    # All of a picture, but not the header of the next one's chunk.
    data[starts[25] : starts[26] - 8] = bytes(starts[26] - 8 - starts[25])
    path.write_bytes(data)
    with open_container(str(path)) as container, pytest.warns(UserWarning, match="are left out"):
        assert len(list(decode(container, 1))) == 59
    with pytest.raises(DamagedVideoError, match=r"^after 25 frames"):
        pixels_of(path)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mkv", "mpeg4"), ("mkv", "libx264"), ("webm", "libvpx"), ("flv", "flv")]
)
def test_cut_off_file_that_counts_no_frames(tmp_path, suffix, codec):
    whole = footage.write_video(tmp_path / f"a.{suffix}", footage.scene(60, seed=0), codec)
    assert len(pixels_of(whole)) == 60
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) * 4 // 5])
    with pytest.raises(DamagedVideoError, match=r"cut off: has \d\.\d of [56]\.\d seconds"):
        pixels_of(whole)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "^the file is empty$"), (b"no video at all" * 100, "^Invalid data found when")],
)
def test_what_is_no_video_says_so(tmp_path, content, message):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(DamagedVideoError, match=message):
        pixels_of(tmp_path / "a.mp4")


def test_damaged_frame_is_named(tmp_path):
    footage.write_frames(tmp_path, FRAMES[:3])
    (tmp_path / "002.png").write_bytes((tmp_path / "002.png").read_bytes()[:60])
    with pytest.raises(DamagedVideoError, match=r"002\.png"):
        pixels_of(tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
def test_resized_as_the_featurizer_does(channels):
    large = np.random.default_rng(0).integers(0, 256, (60, 90, channels), "uint8")
    expected = np.asarray(ImageFeaturizer((16, 20), channels).resized(large[None]))[0]
    np.testing.assert_allclose(resized(large, (16, 20)), expected, atol=1.1)
    assert resized(large, (60, 90)) is large


def numbers(times, rate) -> list[int]:
    frames = ((i, Frame(np.zeros((1, 1, 1), "uint8"), time)) for i, time in enumerate(times))
    return [number for number, _ in at_rate(frames, rate)]


def test_rates_by_hand():
    assert numbers(np.arange(6) / 10, 10) == [0, 1, 2, 3, 4, 5]
    assert numbers(np.arange(9) / 20, 10) == [0, 2, 4, 6, 8]
    assert numbers(np.arange(3) / 5, 10) == [0, 0, 1, 1, 2]
    # A gap, as where a camera was away.
    assert numbers([0, 0.1, 0.5], 10) == [0, 1, 1, 1, 1, 2]
    assert numbers([None] * 3, 10) == [0, 1, 2]
    # The clock is set back, and then an hour forward.
    assert numbers([0, 0.1, 0.2, 0, 0.1, 3600, 3600.1], 10) == [0, 1, 2, 3, 4, 5, 6]
    assert numbers([5, 5.1, 0, 0.2], 10)[-3:] == [2, 2, 3]
