"""Streams over real sockets."""

import io
import socket
import struct
import threading
import time
from datetime import datetime
from fractions import Fraction

import av
import footage
import numpy as np
import pytest
from PIL import Image

from memae_tf.data import decoding
from memae_tf.errors import UserError
from memae_tf.layers import ClipFeaturizer
from memae_tf.scoring import streams
from memae_tf.scoring.streams import Drop, Footage


def test_frames_that_came_before_a_silence_have_their_time(tmp_path, monkeypatch):
    """The last ones lie in the decoder until the silent connection is given up."""
    monkeypatch.setattr(decoding, "TIMEOUT", 1.0)
    sent = footage.write_video(tmp_path / "a.ts", footage.scene(24, 0), "mpeg2video", rate=25)
    server = socket.create_server(("127.0.0.1", 0))
    connections = []

    def serve():
        for _ in range(2):
            connections.append(server.accept()[0])
            connections[-1].sendall(sent.read_bytes())

    threading.Thread(target=serve, daemon=True).start()
    live = Footage(f"tcp://127.0.0.1:{server.getsockname()[1]}", ClipFeaturizer((24, 32), 8), False)
    with pytest.warns(UserWarning, match=r"nothing received for 1 s\); connecting again"):
        frames = up_to_a_gap(live)
    for connection in [server, *connections]:
        connection.close()
    live.close()
    *_, dropped, _ = frames
    assert isinstance(dropped, Drop)
    frames.remove(dropped)
    *before, back = [datetime.fromisoformat(frame.time).timestamp() for frame in frames]
    assert len(before) == 24
    assert before[-1] - before[0] < 0.5
    # The silence, and the wait before another attempt. The decoder had held two frames back, whose
    # time is that of the one before them and what the stream's clock says.
    assert back - before[-3] >= 1 + 0.5 - 0.1
    assert back - before[-1] == pytest.approx(frames[-1].gap, abs=0.1)


def test_frames_before_a_connection_is_reset_are_all_there(tmp_path):
    sent = footage.write_video(tmp_path / "a.ts", footage.scene(24, 0), "mpeg2video", rate=25)
    server = socket.create_server(("127.0.0.1", 0))
    has_read = threading.Event()

    def serve():
        connection, _ = server.accept()
        connection.sendall(sent.read_bytes())
        has_read.wait()
        # A reset instead of an end.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        server.close()

    threading.Thread(target=serve, daemon=True).start()
    times = []

    def read(live):
        for frame in decoding.decode(live, 1):
            times.append(frame.time)
            if len(times) == 20:
                has_read.set()

    address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    with decoding.open_container(address, timeout=10) as live, pytest.raises(av.FFmpegError):
        read(live)
    np.testing.assert_allclose(times, np.arange(24) / 25, atol=1e-3)


@pytest.mark.parametrize(
    ("waited", "before", "clock", "late"),
    [
        # By the stream's clock it came 0.04 s behind the one before it.
        (12.0, 5.0, 5.04, 11.96),
        (12.0, 5.0, 16.9, 0.1),
        (12.0, 5.0, 30.0, 0.0),
        # That is no silence, but a slow network.
        (3.0, 5.0, 5.04, 0.0),
        (12.0, None, 5.04, 0.0),
        (12.0, 5.0, None, 0.0),
    ],
)
def test_how_long_a_frame_lay_in_the_decoder(waited, before, clock, late):
    assert streams._late(waited, before, clock) == pytest.approx(late)


def test_pictures_without_times_have_those_at_which_they_came():
    """FFmpeg would give them 25 a second."""
    file = io.BytesIO()
    Image.fromarray(footage.scene(1, 0)[0]).save(file, "jpeg")
    part = b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(
        file.getvalue()
    )
    server = socket.create_server(("127.0.0.1", 0))
    taken = threading.Event()

    def serve():
        # The first connection is to see whether it has an end.
        for _ in range(2):
            connection, _ = server.accept()
            connection.recv(2**16)
            kind = b"multipart/x-mixed-replace; boundary=next"
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n\r\n" % kind)
            connection.sendall((part + file.getvalue() + b"\r\n") * 60)
        taken.wait(60)
        connection.sendall((part + file.getvalue() + b"\r\n") * 3)
        connection.close()
        server.close()

    threading.Thread(target=serve, daemon=True).start()
    address = f"http://127.0.0.1:{server.getsockname()[1]}/video.mjpg"
    live = Footage(address, ClipFeaturizer((24, 32), 8), False)
    assert live.is_live
    clocks = []

    def read():
        for frame in live:
            if isinstance(frame, Drop):
                break
            clocks.append(frame.clock)
            if len(clocks) == 50:
                time.sleep(0.7)  # What is measured.
                taken.set()

    with pytest.warns(UserWarning, match="connecting again"):
        read()
    live.close()
    assert len(clocks) > 55
    # At 25 a second, the last one would be at 2.4 s.
    assert 0.7 <= clocks[-1] < 2.2
    assert max(np.diff(clocks)) >= 0.7


def test_user_and_password_are_not_shown():
    live = Footage("rtsp://user:p@ss@camera:554/a", ClipFeaturizer((24, 32), 8), False)
    assert (live.shown_source, live.name) == ("rtsp://camera:554/a",) * 2
    assert live.source == "rtsp://user:p@ss@camera:554/a"


def up_to_a_gap(live):
    frames = []
    for frame in live:
        frames.append(frame)
        if not isinstance(frame, Drop) and frame.gap is not None:
            break
    return frames


@pytest.mark.parametrize(
    ("aspect", "turn", "size"),
    [
        (Fraction(16, 11), 0, (48, 94)),
        (Fraction(1, 2), 0, (48, 32)),
        (Fraction(1, 2), 90, (64, 96)),
        (Fraction(40), 0, (18, 960)),
        (Fraction(0), 0, (48, 64)),
    ],
)
def test_footage_is_shown_as_players_show_it(tmp_path, aspect, turn, size):
    """Old recorders and DVDs have pixels that are not square."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        if turn:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this PyAV cannot write it")
            stream.set_display_rotation(turn)
        for pixels in np.zeros((3, 48, 64), "uint8"):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray")))
        container.mux(stream.encode())
    frame = next(iter(Footage(str(path), ClipFeaturizer((24, 32), 8), True)))
    assert frame.shown.shape == (*size, 3)
    assert frame.pixels.shape == (24, 32, 1)


@pytest.mark.skipif("v4l2" in av.formats_available, reason="this PyAV reads cameras")
def test_cameras(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "CAMERAS", str(tmp_path / "video"))
    (tmp_path / "video10").touch()
    (tmp_path / "video9").touch()
    featurizer = ClipFeaturizer((24, 32), 8)
    with pytest.raises(UserError, match=r"cannot read cameras; pipe it: ffmpeg -f v4l2 -i \S+9 "):
        next(iter(Footage(f"{tmp_path}/video9", featurizer, False)))
    with pytest.raises(UserError, match=r"video7: .* camera; there are \S+/video9, \S+/video10$"):
        Footage(f"{tmp_path}/video7", featurizer, False)
