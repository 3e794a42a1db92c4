"""`python -m memae_tf.score` of images in files, by a detector that is here or behind a server."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from commands import run_here
from PIL import Image

pytest.importorskip("tensorflow_serving.apis")

from small_detectors import digits, digits_detector

from memae_tf.data.images import read_image
from memae_tf.errors import UserError
from memae_tf.serving import Client
from memae_tf.serving.export.publication import Source, publish
from memae_tf.serving.server.config import ModelConfig
from memae_tf.serving.server.model_server import ModelServer, ServerOptions

NUM_DIGITS = 30


@pytest.fixture(scope="module")
def detector():
    return digits_detector()


@pytest.fixture(scope="module")
def places(detector, tmp_path_factory):
    """The words that name the detector, by where it is."""
    root = tmp_path_factory.mktemp("digits")
    detector.save(root / "detector.keras")
    publish(Source(detector), root / "digits")
    options = ServerOptions(grpc_port=0, rest_port=0)
    with ModelServer([ModelConfig("digits", str(root / "digits"))], options) as server:
        yield {
            "file": [root / "detector.keras"],
            "grpc": [server.grpc_address, "--model", "digits"],
            "rest": [server.rest_address, "--model", "digits"],
        }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Digits in two folders, some of other sizes, colours and formats, and what is no image."""
    root = tmp_path_factory.mktemp("pictures")
    for number, pixels in enumerate(digits()[:NUM_DIGITS]):
        image = Image.fromarray(pixels[..., 0])
        if number % 3 == 1:
            image = image.resize((20, 30)).convert("RGB")
        suffix = "jpg" if number % 5 == 4 else "png"
        path = root / ("odd" if number % 2 else "even") / f"{number:02}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        image.save(path)
    (root / "notes.txt").write_text("no image")
    return root


def score(place: list, source: Path, *words):
    detector, *model = place
    return run_here("score", detector, source, *model, *words)


def rows(text: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("place", ["file", "grpc", "rest"])
def test_scores_are_the_detector_s_wherever_it_is(places, folder, detector, tmp_path, place):
    out = tmp_path / "out.csv"
    done = score(places[place], folder, "-o", out, "--batch-size", 7)
    assert done.returncode == 0, done.stderr
    table = rows(out.read_text())
    paths = sorted([*folder.glob("even/*"), *folder.glob("odd/*")])
    assert list(table[0]) == ["image", "score", "is_anomaly"]
    assert [row["image"] for row in table] == list(map(str, paths))
    expected = detector.detect([read_image(path) for path in paths])
    scores = np.array([row["score"] for row in table], "float32")
    # Batches differ from those of the detector.
    np.testing.assert_allclose(scores, expected["score"], rtol=1e-5)
    decided = [int(row["is_anomaly"]) for row in table]
    np.testing.assert_array_equal(decided, expected["is_anomaly"])
    assert 0 < sum(decided) < NUM_DIGITS
    assert done.stdout == f"Wrote {out}: {NUM_DIGITS} images, {sum(decided)} anomalies\n"


@pytest.mark.parametrize("place", ["file", "rest"])
def test_one_image_as_json_and_threshold_of_one_s_own(places, folder, detector, tmp_path, place):
    path = folder / "even" / "00.png"
    own = detector.score([read_image(path)])[0]
    for threshold, decision in ((float(own) * 0.99, 1), (float(own) * 1.01, 0)):
        out = tmp_path / "out.jsonl"
        score(places[place], path, "-o", out, "--threshold", threshold)
        row = json.loads(out.read_text())
        assert row == {
            "image": str(path),
            "score": pytest.approx(float(own), rel=1e-5),
            "is_anomaly": decision,
        }


def test_another_precision(places, folder, detector, tmp_path):
    paths = sorted(folder.glob("even/*"))
    out = tmp_path / "out.csv"
    done = score(places["file"], folder / "even", "-o", out, "--precision", "mixed_bfloat16")
    assert done.returncode == 0, done.stderr
    scores = np.array([row["score"] for row in rows(out.read_text())], "float32")
    images = [read_image(path) for path in paths]
    expected = detector.in_precision("mixed_bfloat16").score(images)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    assert np.abs(scores / detector.score(images) - 1).max() > 1e-4
    done = score(places["grpc"], folder / "even", "--precision", "float32")
    assert done.returncode == 2
    assert "--precision: a server computes as its model was exported" in done.stderr


@pytest.mark.parametrize("place", ["file", "grpc"])
def test_damaged_image_is_named_and_the_others_are_scored(places, tmp_path, place):
    for number, pixels in enumerate(digits()[:6]):
        Image.fromarray(pixels[..., 0]).save(tmp_path / f"{number}.png")
    for name in ("0.png", "3.png", "5.png"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:60])
    done = score(places[place], tmp_path, "--batch-size", 2)
    assert done.returncode == 2
    table = rows(done.stdout)
    assert [Path(row["image"]).name for row in table] == [f"{n}.png" for n in range(6)]
    assert [row["score"] == "" for row in table] == [True, False, False, True, False, True]
    assert done.stderr.startswith(f"{tmp_path}: 3 of 6 images cannot be read: {tmp_path}/0.png (")
    assert done.stderr.endswith("; the others have been scored\n")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("place", ["grpc", "rest"])
def test_client_takes_arrays_and_files(places, folder, detector, place):
    address, _, model = places[place]
    paths = [folder / "even" / "00.png", folder / "odd" / "01.png"]
    with Client(address, model) as client:
        grey = digits()[:3, ..., 0]
        np.testing.assert_array_equal(client.score(grey)["score"], detector.score(grey))
        answer = client.score([path.read_bytes() for path in paths])
        expected = detector.detect([read_image(path) for path in paths])
        np.testing.assert_allclose(answer["score"], expected["score"], rtol=1e-6)
        assert client.describe()["input"]["size"] == [8, 8]
        with pytest.raises(UserError, match=r"images takes one array, .* have several sizes"):
            client.score([read_image(path) for path in paths])
        with pytest.raises(UserError, match=r"looks like one image in colour: send image\[None\]"):
            client.score(np.zeros((8, 8, 3), "uint8"))
        with pytest.raises(
            UserError, match=r"takes uint8, not .S.*; this signature takes no files"
        ):
            client.explain([path.read_bytes() for path in paths])


def test_name_that_is_no_text(places, tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.png"))
    Image.fromarray(digits()[0][..., 0]).save(path)
    out = tmp_path / "out.csv"
    assert score(places["file"], tmp_path, "-o", out).returncode == 0
    assert rows(out.read_text())[0]["image"] == f"{tmp_path}/M\\xfcller.png"


@pytest.mark.parametrize(
    ("source", "words", "message"),
    [
        ("no", [], "no: there is no such image or folder of images"),
        ("empty", [], "empty: has no images"),
        ("notes.txt", [], "notes.txt: 1 of 1 images cannot be read: "),
        ("", ["--overlay", "out.mp4"], "--overlay is for footage, and the detector takes images"),
        ("", ["--explain"], "--explain is for records"),
    ],
)
@pytest.mark.parametrize("place", ["file", "grpc"])
def test_what_is_wrong(places, folder, place, source, words, message):
    (folder / "empty").mkdir(exist_ok=True)
    done = score(places[place], folder / source, *words)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert "the others" not in done.stderr
