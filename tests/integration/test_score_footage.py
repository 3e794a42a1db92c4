"""`python -m memae_tf.score` of footage: files, folders of frames, streams, what is wrong."""

import csv
import http.server
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import av
import footage
import numpy as np
import pytest
from commands import largest_file, run_here
from PIL import Image

from memae_tf.config import FrameScoring, parse_config
from memae_tf.data import decoding, load
from memae_tf.data.decoding import frame_rate
from memae_tf.evaluation.frames import score_videos
from memae_tf.models import load_detector
from memae_tf.scoring.streams import Footage
from memae_tf.training.experiment import train
from memae_tf.training.run_directory import RunDirectory

COMMAND = [sys.executable, "-m", "memae_tf.score"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return footage.write_camera_folder(tmp_path_factory.mktemp("camera"))


@pytest.fixture(scope="module")
def config(folder):
    return parse_config(footage.camera_config(folder))


@pytest.fixture(scope="module")
def run(config, tmp_path_factory) -> RunDirectory:
    run = RunDirectory(tmp_path_factory.mktemp("runs") / "camera")
    train(config, run)
    return run


@pytest.fixture(scope="module")
def expected(run, config):
    """The frames' scores by name of the test video, as the evaluation has them."""
    videos = load(config.data, 0).test.videos
    scores = score_videos(load_detector(run.detector), videos, FrameScoring())
    return {video.name: own for video, own in zip(videos, scores, strict=True)}


def rows(text: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text)))


def scores_of(table: list[dict]) -> np.ndarray:
    return np.array([row["score"] or "nan" for row in table], "float32")


def test_video_file_is_scored_as_in_the_evaluation(run, folder, tmp_path, expected):
    out = tmp_path / "a.csv"
    done = run_here("score", run.path, folder / "test" / "a.mkv", "-o", out)
    assert done.returncode == 0, done.stderr
    table = rows(out.read_text())
    assert list(table[0]) == ["frame", "time", "score", "is_anomaly"]
    assert [int(row["frame"]) for row in table] == list(range(40))
    np.testing.assert_allclose([float(row["time"]) for row in table], np.arange(40) / 10)
    np.testing.assert_array_equal(scores_of(table), expected["a"])
    threshold = float(load_detector(run.detector).threshold.numpy())
    decided = np.array([int(row["is_anomaly"]) for row in table])
    np.testing.assert_array_equal(decided, expected["a"] > threshold)
    # A clip that shows what runs has 8 frames.
    assert decided[12:30].mean() > 0.9
    assert decided[38:].sum() == 0
    assert done.stdout == f"Wrote {out}: 40 frames, {decided.sum()} abnormal\n"


def test_folder_of_frames_and_json_lines(run, tmp_path, expected):
    odd = footage.ODD["c"]
    frames = footage.write_frames(tmp_path / "frames", footage.scene(40, 12, odd))
    run_here("score", run.detector, frames, "-o", tmp_path / "c.jsonl")
    table = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    assert {row["time"] for row in table} == {None}
    np.testing.assert_array_equal(scores_of(table), expected["c"])


def test_stride_and_threshold(run, folder, config):
    words = [run.path, folder / "test" / "a.mkv", "--stride", 5, "--threshold", 0]
    table = rows(run_here("score", *words).stdout)
    videos = load(config.data, 0).test.videos[:1]
    (own,) = score_videos(load_detector(run.detector), videos, FrameScoring(clip_stride=5))
    np.testing.assert_array_equal(scores_of(table), own)
    assert {row["is_anomaly"] for row in table} == {"1"}


def test_overlay_and_plot_show_what_runs(run, tmp_path):
    large = np.kron(footage.scene(40, 10, footage.ODD["a"]), np.ones((1, 10, 10), "uint8"))
    video = footage.write_video(tmp_path / "large.mkv", large)
    overlay, plot = tmp_path / "over.mp4", tmp_path / "scores.png"
    done = run_here(
        "score", run.path, video, "-o", tmp_path / "a.csv", "--overlay", overlay, "--plot", plot
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    with av.open(str(overlay)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 10
        shown = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(stream)]
    table = rows((tmp_path / "a.csv").read_text())
    assert len(shown) == len(table) == 40
    # Twice as large, as 320 pixels are narrow, and the curve below.
    assert shown[0].shape == (480 + 64, 640, 3)
    for picture, row in zip(shown, table, strict=True):
        # The border, but not where the curve is.
        red = picture[:2, :, 0].mean() - picture[:2, :, 2].mean() > 80
        assert red == (row["is_anomaly"] == "1")
    # What runs is at rows 60 to 160; heat is colour, and the footage has none.
    colour = np.abs(shown[20][..., 0] - shown[20][..., 2])
    inside = colour[140:300, 20:-20].mean()
    outside = colour[360:450, 20:-20].mean()
    assert inside > 2 * outside
    with Image.open(plot) as picture:
        assert picture.format == "PNG"
        assert picture.width > 800


def test_overlay_is_as_fast_as_the_footage_at_any_time(run, tmp_path):
    # A camera that slows down in the dark, and whose clock is set forward by an hour.
    times = [*np.arange(12) / 10, *(1.2 + np.arange(12) / 4), *(3604 + np.arange(16) / 8)]
    video = footage.write_video(tmp_path / "uneven.mkv", footage.scene(40, 10), times=times)
    overlay = tmp_path / "over.mp4"
    done = run_here("score", run.path, video, "-o", tmp_path / "a.csv", "--overlay", overlay)
    assert done.returncode == 0, done.stderr
    with av.open(str(overlay)) as container:
        assert container.start_time == 0
        shown = [frame.time for frame in container.decode(video=0)]
    assert shown[0] == 0
    steps = np.diff(times)
    with av.open(str(video)) as container:
        steps[23] = 1 / float(container.streams.video[0].average_rate)
    np.testing.assert_allclose(np.diff(shown), steps, atol=2e-3)


@pytest.mark.parametrize(
    ("height", "width", "shown"),
    [
        # High and narrow: no higher than large footage is, and beside paper.
        (1920, 240, (960, 120)),
        (600, 120, (600, 120)),
        (48, 64, (288, 384)),
        (120, 1920, (60, 960)),
    ],
)
def test_overlay_of_odd_shapes(run, tmp_path, height, width, shown):
    dark = np.full((9, height, width), 40, "uint8")
    video = footage.write_video(tmp_path / "odd.mp4", dark, "libx264")
    overlay = tmp_path / "over.mp4"
    done = run_here("score", run.path, video, "-o", tmp_path / "a.csv", "--overlay", overlay)
    assert done.returncode == 0, done.stderr
    with av.open(str(overlay)) as container:
        picture = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][5]
    assert picture.shape == (shown[0] + 64, max(360, shown[1]), 3)
    columns = np.flatnonzero((picture[: shown[0]] < 230).any(axis=(0, 2)))
    beside = (picture.shape[1] - shown[1]) // 2
    assert columns[0] == pytest.approx(beside, abs=4)
    assert columns[-1] == pytest.approx(picture.shape[1] - 1 - beside, abs=4)


def test_plot_alone_needs_no_colours(run, folder, tmp_path):
    done = run_here("score", run.path, folder / "test" / "b.mkv", "--plot", tmp_path / "b.svg")
    assert len(rows(done.stdout.rpartition("Wrote")[0])) == 40
    assert (tmp_path / "b.svg").read_text().count("<svg") == 1


def test_shorter_than_a_clip(run, tmp_path):
    video = footage.write_video(tmp_path / "short.mkv", footage.scene(7, 0))
    done = run_here("score", run.path, video, "-o", tmp_path / "short.csv")
    assert done.returncode == 2
    assert f"{video}: has 7 frames, but a clip of the detector needs" in done.stderr
    assert "7 frames, 0 abnormal, 7 without a score" in done.stdout
    table = rows((tmp_path / "short.csv").read_text())
    assert [(row["score"], row["is_anomaly"]) for row in table] == [("", "")] * 7


@pytest.fixture
def web(tmp_path):
    """The address of a web server of a folder."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_on_a_web_server_is_one_that_may_be_cut_off(run, tmp_path, web):
    whole = footage.write_video(tmp_path / "whole.avi", footage.scene(60, 0), rate=5)
    (tmp_path / "cut.avi").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    here, there = tmp_path / "here.csv", tmp_path / "there.csv"
    assert run_here("score", run.path, whole, "-o", here).returncode == 0
    words = ["-o", there, "--overlay", tmp_path / "there.mp4"]
    address = f"{web}/whole.avi".replace("http", "HTTP")
    assert run_here("score", run.path, address, *words).returncode == 0
    assert there.read_text() == here.read_text()
    assert frame_rate(tmp_path / "there.mp4") == 5
    done = run_here("score", run.path, f"{web}/cut.avi")
    assert done.returncode == 2
    assert "cut.avi: is cut off: has" in done.stderr


def test_frame_rate_is_the_detector_s(run, tmp_path):
    detector = load_detector(run.detector)
    detector.featurizer.frame_rate = 5.0
    detector.save(tmp_path / "detector.keras")
    video = footage.write_video(tmp_path / "fast.mkv", footage.scene(41, 0), rate=10)
    table = rows(run_here("score", tmp_path / "detector.keras", video).stdout)
    assert [int(row["frame"]) for row in table] == list(range(0, 41, 2))


# behind a server


@pytest.fixture(scope="module")
def served(run, tmp_path_factory):
    """A server of the detector, and the words that name it."""
    pytest.importorskip("tensorflow_serving.apis")
    from memae_tf.serving.export.publication import Source, publish
    from memae_tf.serving.server.config import ModelConfig
    from memae_tf.serving.server.model_server import ModelServer, ServerOptions

    base = tmp_path_factory.mktemp("models") / "camera"
    publish(Source(load_detector(run.detector)), base)
    options = ServerOptions(grpc_port=0, rest_port=0)
    with ModelServer([ModelConfig("camera", str(base))], options) as server:
        yield {
            "grpc": [server.grpc_address, "--model", "camera"],
            "rest": [server.rest_address, "--model", "camera"],
        }


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_server_s_scores_are_those_of_the_run(run, folder, tmp_path, expected, served, transport):
    words = [folder / "test" / "a.mkv", "-o"]
    here, there = tmp_path / "here.csv", tmp_path / "there.csv"
    assert run_here("score", run.path, *words, here).returncode == 0
    address, *model = served[transport]
    done = run_here("score", address, *words, there, *model)
    assert done.returncode == 0, done.stderr
    assert there.read_text() == here.read_text()
    np.testing.assert_array_equal(scores_of(rows(there.read_text())), expected["a"])


def test_overlay_with_a_server_s_heat(run, folder, tmp_path, served):
    here, there = tmp_path / "here.mp4", tmp_path / "there.mp4"
    words = [folder / "test" / "a.mkv", "--stride", 4, "--overlay"]
    run_here("score", run.path, *words, here)
    address, *model = served["grpc"]
    done = run_here("score", address, *words, there, *model)
    assert done.returncode == 0, done.stderr
    assert there.read_bytes() == here.read_bytes()


# streams


def transport_stream(path: Path, frames: np.ndarray) -> bytes:
    return footage.write_video(path, frames, "mpeg2video", rate=25).read_bytes()


def test_standard_input(run, tmp_path, monkeypatch):
    stream = transport_stream(tmp_path / "a.ts", footage.scene(40, 10, footage.ODD["a"]))
    monkeypatch.setattr(
        sys, "stdin", SimpleNamespace(buffer=SimpleNamespace(raw=io.BytesIO(stream)))
    )
    table = rows(run_here("score", run.path, "-").stdout)
    assert list(table[0]) == ["frame", "time", "score", "is_anomaly", "gap"]
    assert len(table) == 40
    assert table[0]["time"].endswith("+00:00")
    scores = scores_of(table)
    assert scores[16:28].min() > 1.2 * scores[38:].max()


# Over HTTP the first connection is to see whether it has an end.
@pytest.mark.parametrize(("scheme", "connections"), [("tcp", 2), ("http", 3)])
def test_stream_that_drops_is_connected_again_and_ctrl_c_keeps_all(
    run, tmp_path, scheme, connections
):
    """A real stream over a socket: 24 frames, a drop, 24 frames, and then nobody answers."""
    stream = transport_stream(tmp_path / "a.ts", footage.scene(24, 0))
    overlay = tmp_path / "live.mp4"
    server = socket.create_server(("127.0.0.1", 0))
    address = f"{scheme}://127.0.0.1:{server.getsockname()[1]}"

    def serve():
        for _ in range(connections):
            connection, _ = server.accept()
            with connection:
                if scheme == "http":
                    connection.recv(2**16)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(stream), stream))
                else:
                    connection.sendall(stream)
        server.close()

    threading.Thread(target=serve, daemon=True).start()
    words = [*COMMAND, str(run.path), address, "--overlay", str(overlay)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as command:
        try:
            lines = [command.stdout.readline()]
            while lines[-1] and not lines[-1].startswith("24,"):
                lines.append(command.stdout.readline())
            command.send_signal(signal.SIGINT)
            lines += command.stdout.readlines()
            assert command.wait(60) == 130, command.stderr.read()
            said = command.stderr.read()
        finally:
            command.kill()
    # All of them, those that the decoder still had included. The end of chunks is an error to the
    # FFmpeg of PyAV 19.
    why = r"(it has ended|Input/output error)"
    assert re.search(rf"{address}: dropped after 24 frames \({why}\); connecting again", said)
    assert f"{address}: is back after " in said
    assert said.splitlines()[-1] == "interrupted"
    table = rows("".join(lines))
    assert len(table) > 24
    assert [int(row["frame"]) for row in table] == list(range(len(table)))
    gaps = {int(row["frame"]): float(row["gap"]) for row in table if row["gap"]}
    assert list(gaps) == [24]
    assert gaps[24] >= 0.4
    # No clip spans the gap: what comes behind it is scored as what came before it.
    scores = scores_of(table)
    np.testing.assert_allclose(scores[24:], scores[: len(table) - 24], rtol=1e-5)
    with av.open(str(overlay)) as container:
        shown = [frame.time for frame in container.decode(video=0)]
    assert len(shown) >= 24
    # As fast as the stream.
    np.testing.assert_allclose(np.diff(shown[:24]), 1 / 25, atol=1e-3)


def test_what_a_web_server_sends_without_a_length_is_live(run, tmp_path, web):
    """Files and recordings have a duration or a size, a camera's MJPEG and live HLS neither."""
    frames = footage.scene(20, 0)
    transport_stream(tmp_path / "a.ts", frames)
    footage.write_video(tmp_path / "a.m3u8", frames, codec="mpeg2video", rate=25)
    playlist = (tmp_path / "a.m3u8").read_text()
    (tmp_path / "live.m3u8").write_text(playlist.replace("#EXT-X-ENDLIST", ""))
    featurizer = load_detector(run.detector).featurizer
    live = {
        name: Footage(f"{web}/{name}", featurizer, shown=False).is_live
        for name in ("a.ts", "a.m3u8", "live.m3u8")
    }
    assert live == {"a.ts": False, "a.m3u8": False, "live.m3u8": True}


@pytest.mark.parametrize("scheme", ["tcp", "http"])
def test_server_that_is_silent(run, tmp_path, monkeypatch, scheme):
    monkeypatch.setattr(decoding, "TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{scheme}://127.0.0.1:{server.getsockname()[1]}"
        done = run_here("score", run.path, address, "-o", tmp_path / "a.csv")
    assert done.returncode == 2
    assert done.stderr.startswith(f"{address}: cannot be read (")
    assert done.stderr.endswith("nothing received for 0.5 s)\n")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_end_while_standard_input_gives_nothing(run, tmp_path, sent):
    """A pipe whose other end has stalled."""
    stream = transport_stream(tmp_path / "a.ts", footage.scene(40, 0))
    words = [*COMMAND, str(run.path), "-"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(words, **pipes) as command:
        try:
            command.stdin.write(stream)
            command.stdin.flush()
            while not command.stdout.readline().startswith(b"8,"):
                assert command.poll() is None
            command.send_signal(sent)
            assert command.wait(60) == 128 + sent
            assert b"Fatal" not in command.stderr.read()
        finally:
            command.kill()


def test_standard_input_that_is_closed(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    done = run_here("score", run.path, "-")
    assert (done.returncode, done.stderr) == (2, "standard input: is closed\n")


def test_standard_input_that_is_no_video_says_what_it_may_be(run, monkeypatch):
    stream = io.BytesIO(b"no video" * 100)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=SimpleNamespace(raw=stream)))
    done = run_here("score", run.path, "-")
    assert done.returncode == 2
    assert done.stderr.startswith("standard input: cannot be read (")
    assert "pipe MPEG-TS or Matroska, and give an MP4 by its file name" in done.stderr


def test_stream_overwrites_nothing(run, tmp_path):
    (tmp_path / "yesterday.csv").write_text("frame,score\n")
    done = run_here("score", run.path, "-", "-o", tmp_path / "yesterday.csv")
    assert done.returncode == 2
    assert done.stderr.endswith("already exists; the scores of a stream need a new file\n")
    assert (tmp_path / "yesterday.csv").read_text() == "frame,score\n"


# what is wrong


@pytest.fixture(scope="module")
def wrong(tmp_path_factory, run):
    root = tmp_path_factory.mktemp("wrong")
    whole = footage.write_video(root / "whole.mkv", footage.scene(40, 0), "mpeg4").read_bytes()
    (root / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    (root / "text.mp4").write_text("no video")
    (root / "empty.mp4").touch()
    (root / "empty").mkdir()
    frames = footage.write_frames(root / "frames", footage.scene(20, 0))
    (frames / "013.png").write_bytes((frames / "013.png").read_bytes()[:200])
    return root


def test_damage_before_a_clip_is_whole(run, wrong, tmp_path):
    frames = footage.write_frames(tmp_path / "few", footage.scene(8, 0))
    (frames / "006.png").write_bytes(b"")
    done = run_here("score", run.path, frames, "-o", tmp_path / "few.csv")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"{frames}: 006.png: cannot identify image file; 5 frames were read, but" in done.stderr
    assert done.stderr.endswith("a clip of the detector needs 8, so none has a score\n")
    assert len(rows((tmp_path / "few.csv").read_text())) == 5


def test_damage_ends_with_what_came_before_it(run, wrong, tmp_path):
    out = tmp_path / "out.csv"
    done = run_here("score", run.path, wrong / "frames", "-o", out)
    assert done.returncode == 2
    assert "frames: 013.png: " in done.stderr.splitlines()[-1]
    assert done.stderr.endswith("the frames before are scored\n")
    assert len(rows(out.read_text())) == 12


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no", "no: there is no such file or folder; footage may be a video file, a folder of fr"),
        ("text.mp4", "text.mp4: cannot be read (Invalid data"),
        ("empty.mp4", "empty.mp4: cannot be read (the file is empty)"),
        ("empty", "empty: has no frames (images); for a video, give the name of its file"),
        ("tcp://me:secret@127.0.0.1:9", "tcp://127.0.0.1:9: cannot be read (Connection refused)"),
        (
            "http://me:no@127.0.0.1:9/a.mp4",
            "http://127.0.0.1:9/a.mp4: cannot be read (Connection refused)",
        ),
        ("/dev/video99", "/dev/video99: there is no such camera; there are "),
        (
            "rtps://me:secret@cam/1",
            "rtps://cam/1: rtps:// is unknown; addresses may begin with rtsp://, rtsps://, rtmp://",
        ),
        ("RTPS://cam/1", "rtps://cam/1: rtps:// is unknown; addresses may begin with rtsp://"),
        ("TCP://me:secret@127.0.0.1:9", "tcp://127.0.0.1:9: cannot be read (Connection refused)"),
    ],
)
def test_input_that_is_wrong(run, wrong, tmp_path, source, message):
    path = source if ":" in source else wrong / source
    done = run_here(
        "score", run.path, path, "-o", tmp_path / "out.csv", "--overlay", tmp_path / "o.mp4"
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--overlay", "out.avi"], "out.avi: should end in .mp4"),
        (["--overlay", "/no/out.mp4"], "/no/out.mp4: cannot be written (there is no folder /no)"),
        (["--plot", "out.txt"], "out.txt: should end in .png, .svg or .pdf"),
        (["--plot", "out.pgf"], "out.pgf: should end in .png, .svg or .pdf"),
        (["-o", "out.txt"], "out.txt: should end in .csv or .jsonl"),
        (["--explain"], "--explain is for records; --overlay shows where errors are in footage"),
        (["--stride", "0"], "0 should be 1 or more"),
        (["--overlay", "{input}"], "a.mkv: is the input itself; give another name"),
    ],
)
def test_arguments_that_are_wrong(run, folder, words, message):
    video = folder / "test" / "a.mkv"
    words = [word.format(input=video) for word in words]
    done = run_here("score", run.path, video, *words)
    assert done.returncode == 2
    assert message in done.stderr


def test_overlay_for_which_there_is_no_room_is_the_one_that_is_named(run, folder, tmp_path):
    """Though only its last frames are too many; and it takes no scores with it."""
    video = folder / "test" / "a.mkv"
    scores, plot, overlay = (tmp_path / name for name in ("a.csv", "a.png", "a.mp4"))
    words = ["score", run.path, video, "-o", scores, "--plot", plot, "--overlay", overlay]
    assert run_here(*words).returncode == 0
    size = (plot.stat().st_size + overlay.stat().st_size) // 2
    for path in (scores, plot, overlay):
        path.unlink()
    with largest_file(size):
        done = run_here(*words)
    assert done.returncode == 2
    assert done.stderr == f"{overlay}: cannot be written (File too large)\n"
    assert len(rows(scores.read_text())) == 40
    assert not overlay.exists()


@pytest.mark.parametrize("option", ["-o", "--overlay", "--plot"])
def test_files_that_cannot_be_written_are_refused_before_footage_is_opened(tmp_path, option):
    """And before the detector is loaded: there is neither."""
    suffix = {"-o": ".csv", "--overlay": ".mp4", "--plot": ".png"}[option]
    (tmp_path / f"folder{suffix}").mkdir()
    for name, message in {
        tmp_path / f"folder{suffix}": "is a folder; it should be a file",
        tmp_path / f"no/out{suffix}": f"cannot be written (there is no folder {tmp_path}/no)",
        # Where not even root may make files.
        f"/proc/out{suffix}": "cannot be written (No such file or directory)",
    }.items():
        done = run_here("score", "no_detector", "no.mp4", option, name)
        assert done.returncode == 2
        assert done.stderr == f"{name}: {message}\n"
    assert [p.name for p in tmp_path.iterdir()] == [f"folder{suffix}"]
