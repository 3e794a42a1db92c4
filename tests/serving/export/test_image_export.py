"""Exported detectors of images: pixels and files, in a session and over the wire."""

import base64
import http.client
import io
import json

import grpc
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_detectors import digits, digits_detector

pytest.importorskip("tensorflow_serving.apis")

from exports import assert_batch_major_and_rest_safe, assert_same, export, load
from multi_inference import assert_classify_and_regress_share_a_run
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from memae_tf.errors import UserError
from memae_tf.serving import Client
from memae_tf.serving.export import onnx, publication, saved_model, warmup
from memae_tf.serving.export.publication import Source, publish
from memae_tf.serving.server.config import ModelConfig
from memae_tf.serving.server.model_server import ModelServer, ServerOptions

DECISION = {"score", "is_anomaly", "threshold"}


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """Published, for a server."""
    detector = digits_detector()
    return load(detector, publish(Source(detector), tmp_path_factory.mktemp("digits")))


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    """With one query a position of the feature map."""
    detector = digits_detector(channels=3, queries="position")
    return export(detector, tmp_path_factory.mktemp("colour"))


@pytest.fixture(scope="module", params=["grey", "colour"])
def exported(request):
    return request.getfixturevalue(request.param)


def pictures(number, mode="L", size=(8, 8)):
    """Digits as Pillow's images, of a mode and of (height, width)."""
    resized = (
        Image.fromarray(image[..., 0]).resize(size[::-1], Image.Resampling.BICUBIC)
        for image in digits()[:number]
    )
    if mode == "L":
        return list(resized)
    # Not grey, and not opaque.
    colours = [Image.merge("RGB", (p, p.rotate(90), p.transpose(0))).convert(mode) for p in resized]
    if "A" in mode:
        for picture in colours:
            picture.putalpha(100)
    return colours


def pixels(images):
    """Images of one size as uint8 (batch, height, width, channels)."""
    arrays = np.stack([np.asarray(image) for image in images])
    return arrays if arrays.ndim == 4 else arrays[..., None]


def files(images, suffix="png", **options):
    """Images as the bytes of files."""
    content = []
    for image in images:
        buffer = io.BytesIO()
        image.save(buffer, suffix, **options)
        content.append(buffer.getvalue())
    return np.array(content, object)


def examples(content):
    serialized = []
    for file in content:
        example = tf.train.Example()
        example.features.feature["image_bytes"].bytes_list.value.append(file)
        serialized.append(example.SerializeToString())
    return np.array(serialized, object)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(8, 8), (5, 17), (40, 30)], ids=str)
def test_answers_are_bitwise_those_of_the_detector(exported, mode, size):
    images = pictures(30, mode, size)
    expected = exported.detector.detect(pixels(images), explain=True)
    explanation = exported.run("explain", {"images": pixels(images)})
    assert_same({name: explanation[name] for name in expected}, expected)
    decision = {name: expected[name] for name in DECISION}
    assert np.isfinite(decision["score"]).all()
    if (mode, size) == ("L", (8, 8)):
        assert 0 < decision["is_anomaly"].sum() < 30
    content = files(images)
    features = exported.run("reconstruct", {"images": pixels(images)})["features"]
    assert_same(exported.run("serving_default", {"images": pixels(images)}), decision)
    assert_same(exported.run("score_bytes", {"image_bytes": content}), decision)
    assert_same(exported.run("score_encoded", {"features": features}), decision)
    assert_same(exported.run("examples", {"inputs": examples(content)}), decision)
    regression = exported.run("regress", {"inputs": examples(content)})
    assert_same(regression, {"outputs": decision["score"]})
    classes = exported.run("classify", {"inputs": examples(content)})
    np.testing.assert_array_equal(classes["classes"], [[b"normal", b"anomaly"]] * 30)
    np.testing.assert_array_equal(classes["scores"].argmax(axis=1), decision["is_anomaly"])


def test_loaded_in_python_it_gives_the_same_bits(exported):
    images = pixels(pictures(30, size=(11, 12)))
    answer = exported.loaded.signatures["serving_default"](images=tf.constant(images))
    assert_same({k: v.numpy() for k, v in answer.items()}, exported.detector.detect(images))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{"quality": 30}, {"progressive": True}], ids=str)
def test_jpegs_have_the_pixels_that_pillow_sees(exported, mode, options):
    content = files(pictures(20, mode, (37, 50)), "jpeg", **options)
    opened = [Image.open(io.BytesIO(file)) for file in content]
    images = pixels([o.convert("RGB") if mode == "CMYK" else o for o in opened])
    expected = exported.detector.detect(images)
    assert_same(exported.run("score_bytes", {"image_bytes": content}), expected)


def test_files_of_a_request_may_differ_in_all(exported):
    grey, colour = pictures(1)[0], pictures(1, "RGB", (20, 9))[0]
    transparent = pictures(1, "RGBA", (16, 16))[0]
    grey_transparent = Image.merge("LA", (grey, grey.rotate(90)))
    indexed = colour.quantize(7)
    bits = grey.resize((30, 20)).convert("1")
    images = [grey, colour, transparent, grey_transparent, indexed, bits]
    content = [*files(images), *files([grey, colour], "jpeg")]
    decoded = [np.asarray(grey), np.asarray(colour), np.asarray(transparent), np.asarray(grey)]
    decoded += [np.asarray(indexed.convert("RGB")), np.asarray(bits.convert("L"))]
    decoded += [np.asarray(Image.open(io.BytesIO(file))) for file in content[6:]]
    answer = exported.run("score_bytes", {"image_bytes": np.array(content, object)})
    np.testing.assert_allclose(answer["score"], exported.detector.score(decoded), rtol=1e-5)


def test_explanation_shows_where_and_names_the_slots(exported):
    images = pixels(pictures(4, "RGB"))
    images[3] = images[0]
    images[3, 5, 2] = 255 - images[3, 5, 2]
    answer = exported.run("explain", {"images": images})
    assert set(answer) == DECISION | {"heat_map", "top_slots", "top_weights"}
    assert answer["heat_map"].shape == (4, 8, 8)
    sums = answer["heat_map"].sum(axis=(1, 2))
    np.testing.assert_allclose(sums, answer["score"], rtol=1e-4)
    features = exported.run("reconstruct", {"images": images})["features"]
    addressing = exported.detector.model.addressing(features)
    # One query an image, or one a position of the feature map.
    assert answer["top_slots"].shape == (*addressing.shape[:-1], 5)
    weights = np.take_along_axis(addressing, answer["top_slots"], axis=-1)
    np.testing.assert_allclose(answer["top_weights"], weights, rtol=1e-4)
    np.testing.assert_allclose(weights, -np.sort(-addressing)[..., :5], rtol=1e-4)


def test_reconstruction_is_the_model_s(exported):
    answer = exported.run("reconstruct", {"images": pixels(pictures(5, size=(9, 9)))})
    expected = exported.detector.model(answer["features"]).numpy()
    np.testing.assert_allclose(answer["reconstruction"], expected, rtol=1e-4, atol=1e-5)


def test_thresholds_of_a_request(exported):
    images = pixels(pictures(6))
    own = exported.run("serving_default", {"images": images})
    thresholds = own["score"] + np.array([-1, 0] * 3, "float32")
    answer = exported.run("score_with_threshold", {"images": images, "threshold": thresholds})
    expected = {**own, "threshold": thresholds, "is_anomaly": np.array([1, 0] * 3)}
    assert_same(answer, expected)


def test_every_output_is_batch_major_and_rest_safe(exported):
    definitions = saved_model.signature_definitions(exported.directory)
    assert_batch_major_and_rest_safe(definitions)
    images = {"dtype": "uint8", "shape": [None, None, None, None]}
    assert definitions["serving_default"]["inputs"] == {"images": images}
    image_bytes = {"dtype": "string", "shape": [None]}
    assert definitions["score_bytes"]["inputs"] == {"image_bytes": image_bytes}


def test_warm_up_has_a_request_for_every_signature(colour):
    answers = warmup.replay(colour.directory)
    assert answers.keys() == saved_model.signature_definitions(colour.directory).keys()
    raw = answers["serving_default"]["score"]
    np.testing.assert_array_equal(answers["explain"]["score"], raw)
    np.testing.assert_array_equal(answers["examples"]["score"], answers["score_bytes"]["score"])
    # The second file is a JPEG.
    np.testing.assert_allclose(answers["score_bytes"]["score"][:1], raw[:1], rtol=1e-5)


def test_numeric_part_as_onnx_says_what_features_are(colour):
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    images = pixels(pictures(40))
    features = colour.run("reconstruct", {"images": images})["features"]
    proto = onnx.detector_to_onnx(colour.detector, features)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    metadata = session.get_modelmeta().custom_metadata_map
    size, channels, offset, spread = (
        json.loads(metadata[name]) for name in ("size", "channels", "offset", "spread")
    )
    assert images.shape[1:3] == tuple(size)
    by_hand = (np.repeat(images.astype("float32"), channels, -1) - offset) / np.array(spread)
    (score,) = session.run(["score"], {"features": by_hand.astype("float32")})
    np.testing.assert_allclose(score, colour.detector.score(images), rtol=1e-3)


def test_multi_inference_gives_class_and_score_at_once(exported, tmp_path):
    content = files(pictures(5, "RGB", (30, 20)))
    assert_classify_and_regress_share_a_run(exported.directory, tmp_path, examples(content))


# over the wire


@pytest.fixture(scope="module")
def server(grey):
    options = ServerOptions(grpc_port=0, rest_port=0, poll_seconds=0)
    model = ModelConfig("digits", str(grey.directory.parent))
    with ModelServer([model], options) as server:
        yield server


def by_grpc(server, signature, **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "digits"
    request.model_spec.signature_name = signature
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        outputs = stub.Predict(request, timeout=60).outputs
    return {name: tf.make_ndarray(tensor) for name, tensor in outputs.items()}


def by_rest(server, verb, body):
    address = server.rest_address.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=60)
    body = body if isinstance(body, str) else json.dumps(body)
    connection.request("POST", f"/v1/models/digits:{verb}", body)
    response = connection.getresponse()
    content = json.loads(response.read())
    connection.close()
    return response.status, content


def b64(content):
    return [{"b64": base64.b64encode(file).decode()} for file in content]


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("suffix", ["png", "jpeg"])
def test_files_over_grpc_and_rest(grey, server, mode, suffix):
    content = files(pictures(5, mode, (30, 20)), suffix)
    expected = grey.detector.detect(pixels([Image.open(io.BytesIO(file)) for file in content]))
    assert_same(by_grpc(server, "score_bytes", image_bytes=content), expected)
    body = {"signature_name": "score_bytes", "instances": b64(content)}
    status, answer = by_rest(server, "predict", body)
    assert status == 200
    for name, values in expected.items():
        rows = np.array([row[name] for row in answer["predictions"]], values.dtype)
        np.testing.assert_array_equal(rows, values)
    examples = {"examples": [{"image_bytes": file} for file in b64(content)]}
    status, answer = by_rest(server, "regress", {"signature_name": "regress", **examples})
    assert status == 200
    np.testing.assert_array_equal(np.float32(answer["results"]), expected["score"])
    status, answer = by_rest(server, "classify", {"signature_name": "classify", **examples})
    assert [label for label, _ in answer["results"][0]] == ["normal", "anomaly"]


def test_pixels_over_grpc_and_rest(grey, server):
    images = pixels(pictures(3, "RGB", (9, 13)))
    expected = grey.detector.detect(images, explain=True)
    answer = by_grpc(server, "explain", images=images)
    assert_same({name: answer[name] for name in expected}, expected)
    body = {"signature_name": "explain", "instances": images.tolist()}
    status, answer = by_rest(server, "predict", body)
    assert status == 200
    heat = np.array([row["heat_map"] for row in answer["predictions"]], "float32")
    np.testing.assert_array_equal(heat, expected["heat_map"])


def test_example_request_is_answered(grey, server):
    body = (grey.directory / publication.EXAMPLE).read_text()
    status, answer = by_rest(server, "predict", body)
    assert status == 200
    file = base64.b64decode(json.loads(body)["instances"][0]["b64"])
    expected = grey.detector.score(pixels([Image.open(io.BytesIO(file))]))
    assert np.float32(answer["predictions"][0]["score"]) == expected[0]


def broken(kind):
    whole = files(pictures(1, "RGB", (40, 30)), "png" if kind == "cut png" else "jpeg")[0]
    return {
        "cut jpeg": whole[: len(whole) // 2],
        "cut png": whole[: len(whole) // 2],
        "jpeg header": whole[:4],
        "gif": files(pictures(1), "gif")[0],
        "text": b"no image",
        "nothing": b"",
    }[kind]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("cut jpeg", "Invalid JPEG data"),
        ("cut png", "Invalid PNG data"),
        ("jpeg header", "Invalid JPEG data"),
        ("gif", "image_bytes should be a JPEG or PNG file, and is neither"),
        ("text", "image_bytes should be a JPEG or PNG file, and is neither"),
        ("nothing", "image_bytes should be a JPEG or PNG file, and is neither"),
    ],
)
def test_broken_files_are_the_client_s_error(server, kind, words):
    content = np.array([files(pictures(1))[0], broken(kind)], object)
    with pytest.raises(grpc.RpcError) as error:
        by_grpc(server, "score_bytes", image_bytes=content)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in error.value.details()
    body = {"signature_name": "score_bytes", "instances": b64(content)}
    status, answer = by_rest(server, "predict", body)
    assert status == 400
    assert words in answer["error"]
    assert len(by_grpc(server, "score_bytes", image_bytes=content[:1])["score"]) == 1


@pytest.fixture(params=["grpc", "rest"])
def client(server, request):
    address = server.grpc_address if request.param == "grpc" else server.rest_address
    with Client(address, "digits") as client:
        yield client


@pytest.mark.parametrize("dtype", ["bool", "float32", "int64"])
def test_client_takes_no_images_but_uint8(client, dtype):
    images = pixels(pictures(2))
    for batch in (images.astype(dtype), [image.astype(dtype) for image in images]):
        for call in (client.score, client.explain):
            with pytest.raises(UserError, match=f"images takes uint8, .* 0 to 255, not {dtype}$"):
                call(batch)
    expected = client.score(images)
    assert_same(client.score(list(images)), expected)


def test_client_of_no_images(grey, client):
    expected = grey.detector.detect(np.zeros((0, 8, 8), "uint8"))
    for nothing in ([], (), np.zeros((0, 8, 8), "uint8")):
        answer = client.score(nothing)
        assert_same(answer, expected)
        assert {k: v.dtype for k, v in answer.items()} == {k: v.dtype for k, v in expected.items()}
        assert client.explain(nothing)["score"].shape == (0,)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((1, 8, 8, 2), "uint8"), "images should have one of (1, 3, 4) channels, and have"),
        (np.zeros((1, 0, 8, 1), "uint8"), "non-zero size"),
        (np.zeros((0, 8, 8, 1), "uint8"), "a request should have one sample or more"),
        (np.zeros((1, 8, 8, 1), "float32"), "expected to be uint8|to be uint8"),
    ],
)
def test_arrays_that_are_no_images_are_the_client_s_error(server, images, words):
    with pytest.raises(grpc.RpcError) as error:
        by_grpc(server, "", images=images)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert any(word in error.value.details() for word in words.split("|"))


def test_no_files_are_the_client_s_error(server):
    with pytest.raises(grpc.RpcError) as error:
        by_grpc(server, "score_bytes", image_bytes=np.array([], object))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "a request should have one sample or more" in error.value.details()


def test_example_without_an_image_is_the_client_s_error(server):
    body = {"signature_name": "regress", "examples": [{"picture": {"b64": "AAAA"}}]}
    status, answer = by_rest(server, "regress", body)
    assert status == 400
    assert "image_bytes" in answer["error"]
