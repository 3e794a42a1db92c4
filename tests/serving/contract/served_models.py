"""Small SavedModels that the tests of serving are about."""

import os
import sys
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

DTYPES = (
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
    "string",
    "float16",
    "bfloat16",
    "complex64",
)


DEFAULT_THRESHOLD = tf.constant([0.5])


def spec(dtype: str, *shape: int | None, name: str) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype, name=name)


class Everything(tf.Module):
    """A signature for every case of the contract."""

    def __init__(self):
        self.kernel = tf.Variable(tf.reshape(tf.range(8.0), (4, 2)))

    def signatures(self) -> dict:
        one = spec("float32", None, name="x")
        examples = spec("string", None, name="inputs")
        return {
            "serving_default": self._of(
                lambda a: {"y": a @ self.kernel}, spec("float32", None, 4, name="a")
            ),
            **{
                f"echo_{dtype}": self._of(
                    lambda x: {"y": tf.identity(x)}, spec(dtype, None, name="x")
                )
                for dtype in DTYPES
            },
            "pair": self._of(
                lambda number, text: {"twice": number * 2, "length": tf.strings.length(text)},
                spec("int64", None, name="number"),
                spec("string", None, name="text"),
            ),
            "scalar": self._of(lambda x: {"y": x + 1}, spec("float32", name="x")),
            "total": self._of(lambda x: {"y": tf.reduce_sum(x)}, one),
            "cube": self._of(
                lambda x: {"total": tf.reduce_sum(x, (1, 2)), "same": tf.identity(x)},
                spec("int32", None, None, None, name="x"),
            ),
            "strings": self._of(
                lambda x: {"text": tf.identity(x), "same_bytes": tf.identity(x)},
                spec("string", None, name="x"),
            ),
            "uneven": self._of(lambda x: {"y": x, "first": x[:1]}, one),
            "not_finite": self._of(
                lambda x: {"y": tf.stack([x / 0.0, -x / 0.0, 0 * x / 0.0], 1)}, one
            ),
            "picky": self._of(_picky, one),
            "out_of_range": self._of(
                lambda x: {"y": tf.raw_ops.CheckNumerics(tensor=x, message="not finite")}, one
            ),
            "slow": self._of(_slow, spec("int32", None, name="x")),
            # Only a tf.function tells the saver of its defaults.
            "with_default": tf.function(
                lambda x, threshold=DEFAULT_THRESHOLD: {"above": x > threshold},
                input_signature=[one, spec("float32", None, name="threshold")],
            ),
            "classify": self._of(_classify, examples),
            "classify_scores": self._of(lambda inputs: {"scores": _features(inputs)}, examples),
            "regress": self._of(_regress, examples),
            "regress_matrix": self._of(
                lambda inputs: {"outputs": _regress(inputs)["outputs"][:, None]}, examples
            ),
            "regress_wide": self._of(lambda inputs: {"outputs": _features(inputs)}, examples),
            "wrong_alias": self._of(
                lambda records: {"outputs": _regress(records)["outputs"]},
                spec("string", None, name="records"),
            ),
        }

    @staticmethod
    def _of(function, *specs: tf.TensorSpec):
        return tf.function(function, input_signature=specs).get_concrete_function()

    def save(self, path: Path) -> None:
        tf.saved_model.save(self, str(path), signatures=self.signatures())


def _picky(x):
    with tf.control_dependencies([tf.debugging.assert_non_negative(x, "negative value")]):
        return {"y": tf.sqrt(x)}


def _slow(x):
    # About as many milliseconds as the first element says, and then some.
    done = tf.while_loop(
        lambda i, _: i < x[0] * 100,
        lambda i, total: (i + 1, total + tf.reduce_sum(tf.random.stateless_uniform([50], [i, 0]))),
        (0, 0.0),
    )
    return {"y": x + 0 * tf.cast(done[1], tf.int32)}


def _features(inputs):
    parsed = tf.io.parse_example(
        inputs,
        {
            "x": tf.io.FixedLenFeature([2], tf.float32),
            "shift": tf.io.FixedLenFeature([1], tf.float32, [0.0]),
        },
    )
    return parsed["x"] + parsed["shift"]


def _classify(inputs):
    scores = _features(inputs)
    classes = tf.tile(tf.constant([["left", "right"]]), (tf.shape(scores)[0], 1))
    return {"classes": classes, "scores": scores}


def _regress(inputs):
    return {"outputs": tf.reduce_sum(_features(inputs), 1)}


def save_heads(path: Path) -> None:
    """Saves two signatures of one input tensor, which MultiInference needs and tf.Module cannot."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        inputs = v1.placeholder(tf.string, [None], "inputs")
        features = _features(inputs)
        info = v1.saved_model.build_tensor_info
        signatures = {
            "classify": v1.saved_model.build_signature_def(
                {"inputs": info(inputs)}, {"scores": info(features)}, "tensorflow/serving/classify"
            ),
            "regress": v1.saved_model.build_signature_def(
                {"inputs": info(inputs)},
                {"outputs": info(tf.reduce_sum(features, 1))},
                "tensorflow/serving/regress",
            ),
        }
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


class Adder(tf.Module):
    """Adds a number to what it is given: the number tells which version answered."""

    def __init__(self, number: float):
        self.number = tf.Variable(float(number))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def add(self, x):
        return {"y": x + self.number}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def picky(self, x):
        return _picky(x)


def publish(base: Path, version: int, number: float, warmup: list[float] | None = None) -> Path:
    """Saves an Adder as a version, by renaming it when it is whole."""
    module, aside = Adder(number), base / f".{version}.tmp"
    signatures = {"serving_default": module.add, "picky": module.picky}
    tf.saved_model.save(module, str(aside), signatures=signatures)
    if warmup is not None:
        write_warmup(aside, [warmup_log("picky", [value]) for value in warmup])
    os.replace(aside, base / str(version))
    return base / str(version)


def warmup_log(signature: str, x: list[float]) -> bytes:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "another"
    request.model_spec.signature_name = signature
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(x, tf.float32))
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(request)
    return log.SerializeToString()


def write_warmup(version: Path, records: list[bytes]) -> None:
    extra = version / "assets.extra"
    extra.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        for record in records:
            writer.write(record)


def write_all(directory: Path) -> Path:
    """Saves the models of the contract suite, and the config that serves them."""
    everything, adder, heads = (directory / name for name in ("everything", "adder", "heads"))
    for base in (everything, adder, heads):
        base.mkdir(parents=True, exist_ok=True)
    save_heads(heads / "1")
    Everything().save(everything / "1")
    publish(adder, 1, 10)
    publish(adder, 2, 20)
    config = directory / "models.config"
    config.write_text(f"""
        model_config_list {{
          config {{ name: "everything" base_path: "{everything}" model_platform: "tensorflow" }}
          config {{ name: "heads" base_path: "{heads}" model_platform: "tensorflow" }}
          config {{
            name: "adder" base_path: "{adder}" model_platform: "tensorflow"
            model_version_policy {{ all {{}} }}
            version_labels {{ key: "stable" value: 1 }}
            version_labels {{ key: "canary" value: 2 }}
          }}
        }}
    """)
    return config


if __name__ == "__main__":
    # For a server that is started by hand: TFS_GRPC and TFS_REST then tell where it is.
    print(write_all(Path(sys.argv[1]).resolve()))
