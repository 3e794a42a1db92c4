"""The numeric part of a detector, feature vectors to scores, as an ONNX model."""

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from memae_tf.errors import UserError
from memae_tf.layers import ClipFeaturizer
from memae_tf.models import Detector, MemAE
from memae_tf.models.precision import in_precision

if TYPE_CHECKING:
    import onnx

OPSET = 18
# Relative to the largest value of a sample. TensorFlow and ONNX Runtime add in different orders, so
# reconstructions agree to about 1e-6, which is a larger part of smaller scores.
TOLERANCES = {"score": 1e-3, "reconstruction": 1e-4}
# If a weight is within rounding of the shrinkage threshold, only one of the two may drop the slot.
# A sample with one query is then different; this share of samples may be.
TOLERATED_SHARE = 0.02
# Among the thousands of queries of a clip, there is nearly always one such. What is decoded from
# its place may differ by this much, if most of the sample does not.
TOLERANCE_IN_PLACES = 0.05
# The most random inputs of the check, and the most elements in all of them.
NUM_RANDOM, RANDOM_ELEMENTS = 256, 2**20


def require_onnx() -> None:
    """Imports the packages that make and check ONNX models.

    Raises:
        UserError: If one is not installed.
    """
    try:
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--onnx: the package {error.name} is not installed; "
            "pip install 'memae_tf[onnx]' installs it"
        ) from None


def detector_to_onnx(detector: Detector, samples: np.ndarray) -> "onnx.ModelProto":
    """`memae_to_onnx` for a detector's model, which is all that follows the featurizer.

    The metadata have the `threshold` and, as JSON, the result of the featurizer's
    `describe_features`.
    """
    import onnx

    error = "squared"
    if isinstance(detector.featurizer, ClipFeaturizer):
        error = detector.featurizer.frame_scoring.error
    proto = memae_to_onnx(detector.model, samples, error)
    onnx.helper.set_model_props(
        proto,
        {
            "threshold": repr(float(detector.threshold.numpy())),
            **{
                name: json.dumps(value)
                for name, value in detector.featurizer.describe_features().items()
            },
        },
    )
    return proto


def memae_to_onnx(model: MemAE, samples: np.ndarray, error: str = "squared") -> "onnx.ModelProto":
    """A checked ONNX model of a MemAE: `features` to `score` and `reconstruction`, all float32.

    A model trained in 16 bits is written in float32, as ONNX Runtime has little bfloat16 on CPUs.

    Args:
        model: A built model.
        samples: Some inputs, float32 (samples, ...).
        error: The error of pixels of clips, see `MemAE.frame_error`.

    Raises:
        UserError: If a layer is quantized.
        RuntimeError: If ONNX Runtime and TensorFlow differ for the samples, or for random inputs of
            their shape.
    """
    import tf2onnx

    sample_shape = samples.shape[1:]
    try:
        model = in_precision(model, "float32", sample_shape)
    except UserError as error:
        raise UserError(f"--onnx: {error}") from None
    function = tf.function(
        lambda features: _answer(model, features, error),
        input_signature=[tf.TensorSpec((None, *sample_shape), tf.float32, "features")],
        autograph=False,
    )
    proto, _ = tf2onnx.convert.from_function(function, function.input_signature, opset=OPSET)
    for node in proto.graph.node:
        if node.op_type == "ConvTranspose":
            _pad_output(node)
    inputs = np.concatenate([samples, _random_inputs(sample_shape)])
    check(proto, function, inputs, TOLERANCE_IN_PLACES if _has_places(model, sample_shape) else 0.0)
    return proto


def _has_places(model: MemAE, sample_shape: tuple[int, ...]) -> bool:
    """Whether one part of a sample may lose a slot while the rest does not."""
    if model.memory is None or not model.memory.shrink:
        return False
    return math.prod(model.code_shape(sample_shape)[:-1]) > 1


def _random_inputs(sample_shape: tuple[int, ...]) -> np.ndarray:
    number = max(1, min(NUM_RANDOM, RANDOM_ELEMENTS // math.prod(sample_shape)))
    return np.random.default_rng(0).normal(size=(number, *sample_shape)).astype("float32")


def _answer(model: MemAE, features: tf.Tensor, error: str = "squared") -> dict[str, tf.Tensor]:
    code = model.encode(features)
    if model.memory is not None:
        # If the addressing is returned, the memory reads all queries at once. A loop over blocks of
        # them would make a slow ONNX model.
        code, _ = model.memory(code, return_addressing=True)
    # tf2onnx crops a transposed convolution of unknown size at the wrong end.
    code = tf.ensure_shape(code, (None, *model.code_shape(features.shape[1:])))
    reconstruction = model.decode(code)
    score = model.sample_error(features, reconstruction)
    if error != "squared":
        score = tf.reduce_mean(model.frame_error(features, reconstruction, error), axis=1)
    return {"score": score, "reconstruction": reconstruction}


def _pad_output(node: "onnx.NodeProto") -> None:
    """Replaces negative padding, which ONNX does not have, by padding of the output.

    tf2onnx writes it if a stride exceeds the kernel.
    """
    import onnx

    pads = next((a.ints for a in node.attribute if a.name == "pads"), [])
    axes = len(pads) // 2
    total = [pads[i] + pads[i + axes] for i in range(axes)]
    if min(total, default=0) >= 0:
        return
    for i in range(axes):
        if total[i] < 0:
            pads[i] = pads[i + axes] = 0
    node.attribute.append(
        onnx.helper.make_attribute("output_padding", [max(0, -padding) for padding in total])
    )


def check(proto: "onnx.ModelProto", function, inputs: np.ndarray, in_places: float = 0.0) -> None:
    """Compares the answers of an ONNX model with those of TensorFlow.

    Args:
        proto: The ONNX model.
        function: The same model in TensorFlow.
        inputs: Float32 (samples, ...).
        in_places: How much less than half of a sample may differ, if this is more than
            `TOLERANCES`.

    Raises:
        RuntimeError: If the answers for more than `TOLERATED_SHARE` of the inputs differ by more
            than `TOLERANCES`.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    expected = function(inputs)
    answers = session.run(list(TOLERANCES), {"features": inputs})
    for name, values in zip(TOLERANCES, answers, strict=True):
        wanted = expected[name].numpy()
        if values.shape != wanted.shape:
            raise RuntimeError(f"ONNX: {name} has the shape {values.shape}, not {wanted.shape}")
        share = np.mean(~_agree(values, wanted, TOLERANCES[name], in_places))
        if share > TOLERATED_SHARE:
            raise RuntimeError(
                f"ONNX: {name} differs by more than {TOLERANCES[name]:g} for {share:.0%} of the "
                "samples"
            )


def _agree(
    values: np.ndarray, wanted: np.ndarray, tolerance: float, in_places: float
) -> np.ndarray:
    """Whether the answers for each sample agree.

    Differences are relative to the largest value of the sample.
    """
    values, wanted = (array.reshape(len(array), -1) for array in (values, wanted))
    largest = np.maximum(np.abs(wanted).max(axis=1, keepdims=True), 1e-6)
    differences = np.abs(values - wanted) / largest
    # Comparisons with NaN are false.
    most = np.median(differences, axis=1) <= tolerance
    return most & (differences.max(axis=1) <= max(tolerance, in_places))
