"""Streams over real sockets."""

import socket
import threading
from datetime import datetime

import av
import footage
import pytest

from memae_tf.data import decoding
from memae_tf.errors import UserError
from memae_tf.layers import ClipFeaturizer
from memae_tf.scoring import streams
from memae_tf.scoring.streams import Footage


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
    with pytest.warns(UserWarning, match=r"nothing came for 1 s\); connecting again"):
        frames = up_to_a_gap(live)
    for connection in [server, *connections]:
        connection.close()
    live.close()
    *before, back = [datetime.fromisoformat(frame.time).timestamp() for frame in frames]
    assert len(before) >= 22
    assert before[-1] - before[0] < 0.5
    # The silence, and the wait before another attempt.
    assert frames[-1].gap >= 1 + 0.5 - 0.1
    assert back - before[-1] == pytest.approx(frames[-1].gap, abs=0.1)


def up_to_a_gap(live):
    frames = []
    for frame in live:
        frames.append(frame)
        if frame.gap is not None:
            break
    return frames


@pytest.mark.skipif("v4l2" in av.formats_available, reason="this PyAV reads cameras")
def test_cameras(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "CAMERAS", str(tmp_path / "video"))
    (tmp_path / "video10").touch()
    (tmp_path / "video9").touch()
    featurizer = ClipFeaturizer((24, 32), 8)
    with pytest.raises(UserError, match=r"no cameras; pipe it: ffmpeg -f v4l2 -i \S+9 "):
        next(iter(Footage(f"{tmp_path}/video9", featurizer, False)))
    with pytest.raises(UserError, match=r"video7: .* camera; there are \S+/video9, \S+/video10$"):
        Footage(f"{tmp_path}/video7", featurizer, False)
