"""Exported detectors of clips: pixels and files of frames, in a session and over the wire."""

import base64
import io
import json
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_detectors import clips_detector

pytest.importorskip("tensorflow_serving.apis")

from exports import assert_batch_major_and_rest_safe, assert_same, export, load
from multi_inference import assert_classify_and_regress_share_a_run

from memae_tf import load_pretrained
from memae_tf.config import FrameScoring
from memae_tf.errors import UserError
from memae_tf.serving import Client
from memae_tf.serving.export import onnx, saved_model
from memae_tf.serving.export.publication import EXAMPLE, Source, publish
from memae_tf.serving.server.config import ModelConfig
from memae_tf.serving.server.model_server import ModelServer, ServerOptions

ANSWER = {"score", "is_anomaly", "threshold", "frame_score"}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return publish(Source(clips_detector()), tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def grey(published):
    return load(clips_detector(), published)


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    return export(clips_detector(channels=3), tmp_path_factory.mktemp("colour"))


def clips(count=3, size=(8, 10), channels=1) -> np.ndarray:
    shape = (count, 4, *size, channels)
    return np.random.default_rng(0).integers(0, 256, shape, "uint8")


def files(batch: np.ndarray, suffix="png") -> np.ndarray:
    """The frames of clips as files, (batch, length)."""

    def encoded(frame):
        buffer = io.BytesIO()
        Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame).save(buffer, suffix)
        return buffer.getvalue()

    return np.array([[encoded(frame) for frame in clip] for clip in batch], object)


def examples(content: np.ndarray) -> np.ndarray:
    serialized = []
    for frames in content:
        example = tf.train.Example()
        example.features.feature["frames_bytes"].bytes_list.value.extend(frames)
        serialized.append(example.SerializeToString())
    return np.array(serialized, object)


@pytest.mark.parametrize("size", [(8, 10), (17, 5), (40, 30)], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", ["grey", "colour"])
def test_answers_are_bitwise_those_of_the_detector(request, name, size, channels):
    exported = request.getfixturevalue(name)
    batch = clips(size=size, channels=channels)
    expected = exported.detector.detect(batch, explain=True)
    explanation = exported.run("explain", {"clips": batch})
    assert_same({key: explanation[key] for key in expected}, expected)
    assert explanation["heat_map"].shape == (3, 4, 8, 10)
    # A query is a position of the code, in time too.
    assert explanation["top_slots"].shape == explanation["top_weights"].shape == (3, 2, 2, 3, 5)
    answer = {key: expected[key] for key in ANSWER}
    content = files(batch)
    assert_same(exported.run("serving_default", {"clips": batch}), answer)
    assert_same(exported.run("score_bytes", {"frames_bytes": content}), answer)
    assert_same(exported.run("examples", {"inputs": examples(content)}), answer)
    regression = exported.run("regress", {"inputs": examples(content)})
    assert_same(regression, {"outputs": answer["score"]})
    features = exported.run("reconstruct", {"clips": batch})["features"]
    assert_same(exported.run("score_encoded", {"features": features}), answer)
    own = exported.run("score_with_threshold", {"clips": batch, "threshold": [0.0, 9.0, 0.0]})
    np.testing.assert_array_equal(own["is_anomaly"], [1, 0, 1])


def test_jpeg_frames(grey):
    content = files(clips(channels=3), "jpeg")
    decoded = [np.stack([np.asarray(Image.open(io.BytesIO(f))) for f in clip]) for clip in content]
    expected = grey.detector.detect(np.stack(decoded))
    assert_same(grey.run("score_bytes", {"frames_bytes": content}), expected)


def test_outputs_are_batch_major_and_the_manifest_says_what_clips_are(published, grey):
    assert_batch_major_and_rest_safe(saved_model.signature_definitions(published))
    manifest = json.loads((published / "assets.extra" / "manifest.json").read_text())
    about = manifest["input"]
    assert (about["kind"], about["length"], about["size"]) == ("clips", 4, [8, 10])
    assert about["frame_scoring"]["credit"] == "clip"


def test_multi_inference_gives_class_and_score_at_once(grey, tmp_path):
    content = examples(files(clips()))
    assert_classify_and_regress_share_a_run(grey.directory, tmp_path, content)


def test_served(published, grey):
    batch = clips(5, size=(20, 30))
    expected = grey.detector.detect(batch)
    served = [ModelConfig("camera", str(published.parent))]
    with ModelServer(served, ServerOptions(grpc_port=0, rest_port=0)) as server:
        for address in (server.grpc_address, server.rest_address):
            with Client(address, "camera", batch_size=2) as client:
                assert_same(client.score(batch), expected)
                with pytest.raises(
                    UserError, match=r"clips takes samples of shape \(4, any, any, "
                ):
                    client.score(batch[:, :3])
                assert client.score([])["frame_score"].shape == (0, 4)
                with pytest.raises(UserError, match=r"clips takes uint8, .* not bool"):
                    client.score(batch > 100)
                content = files(batch)
                answer = client.predict({"frames_bytes": content}, "score_bytes")
                assert_same(answer, expected)
        request = (published / EXAMPLE).read_bytes()
        url = f"{server.rest_address}/v1/models/camera:predict"
        # Whatever proxies this machine or another test has.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, request) as response:
            (prediction,) = json.loads(response.read())["predictions"]
    sample = json.loads(request)["instances"][0]
    frames = [Image.open(io.BytesIO(base64.b64decode(frame["b64"]))) for frame in sample]
    own = grey.detector.detect(np.stack([np.asarray(frame) for frame in frames])[None])
    assert np.float32(prediction["score"]) == own["score"][0]
    assert len(prediction["frame_score"]) == 4


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        ("serving_default", {"clips": clips()[:0]}, "a request should have one sample or more"),
        ("serving_default", {"clips": clips(channels=2)}, "clips should have one of (1, 3, 4) cha"),
        ("score_bytes", {"frames_bytes": np.full((1, 4), b"GIF89a")}, "frames_bytes should be a"),
        ("score_bytes", {"frames_bytes": np.full((1, 3), b"")}, "Cannot feed value of shape"),
    ],
)
def test_what_is_wrong(grey, signature, inputs, message):
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=None) as error:
        grey.run(signature, inputs)
    assert message in str(error.value)


def test_frames_of_two_sizes_in_a_clip_are_refused(grey):
    small, large = files(clips(1))[0], files(clips(1, size=(9, 10)))[0]
    mixed = np.array([[*small[:2], *large[:2]]], object)
    with pytest.raises(tf.errors.InvalidArgumentError):
        grey.run("score_bytes", {"frames_bytes": mixed})


@pytest.mark.parametrize("error", ["squared", "absolute"])
@pytest.mark.parametrize("precision", [None, "mixed_bfloat16"])
def test_onnx(precision, error):
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    detector = clips_detector(precision=precision)
    detector.featurizer.frame_scoring = FrameScoring(error=error)
    features = np.asarray(detector.featurizer(clips()), "float32")
    proto = onnx.detector_to_onnx(detector, features)
    about = {entry.key: entry.value for entry in proto.metadata_props}
    assert json.loads(about["length"]) == 4
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (score,) = session.run(["score"], {"features": features})
    # Of 16 bits the ONNX model computes in 32.
    np.testing.assert_allclose(score, detector.score(clips()), rtol=0.02 if precision else 1e-4)


def test_onnx_of_a_trained_detector_with_many_queries():
    # Of 2,048 queries of a clip one is always at the threshold of shrinkage.
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    detector = load_pretrained("ped2")
    batch = np.random.default_rng(0).integers(0, 256, (2, 16, 64, 64, 1), "uint8")
    onnx.detector_to_onnx(detector, np.asarray(detector.featurizer(batch)))
