import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from memae_tf.config import Conv2DModel, DenseModel, load_model
from memae_tf.errors import UserError
from memae_tf.models import build_memae, conv2d, conv3d, dense

CONFIGS = Path(__file__).parents[2] / "configs"
MODELS = sorted(
    path
    for pattern in ("ped2*.yaml", "*mnist*.yaml", "cifar10*.yaml")
    for path in CONFIGS.glob(pattern)
)
SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3), "ped2": (16, 32, 32, 1)}
SHAPES["fashion"] = SHAPES["mnist"]


def parameters(*models: keras.Model) -> int:
    return sum(model.count_params() for model in models)


def test_dense_is_the_paper_s_for_kddcup99():
    encoder, decoder = dense(120)
    assert [layer.units for layer in encoder.layers] == [60, 30, 10, 3]
    assert [layer.units for layer in decoder.layers] == [10, 30, 60, 120]
    activations = [layer.activation.__name__ for layer in (*encoder.layers, *decoder.layers)]
    assert activations == ["tanh"] * 3 + ["linear"] + ["tanh"] * 3 + ["linear"]
    by_hand = (120 * 60 + 60) + (60 * 30 + 30) + (30 * 10 + 10) + (10 * 3 + 3)
    assert parameters(encoder) == by_hand


def test_conv2d_is_the_paper_s_for_mnist():
    encoder, decoder = conv2d((28, 28, 1), queries="position")
    assert encoder.output_shape == (None, 4, 4, 64)
    assert decoder.output_shape == (None, 28, 28, 1)
    convolutions = [layer for layer in encoder.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [c.kernel_size for c in convolutions] == [(1, 1), (3, 3), (3, 3)]
    assert [c.output.shape[1:] for c in convolutions] == [(14, 14, 16), (7, 7, 32), (4, 4, 64)]


def test_conv2d_has_one_query_a_sample_by_default():
    encoder, decoder = conv2d((28, 28, 1))
    assert encoder.output_shape == (None, 1024)
    assert decoder.output_shape == (None, 28, 28, 1)


def test_conv2d_with_a_dense_bottleneck():
    encoder, decoder = conv2d((28, 28, 1), code=16)
    assert encoder.output_shape == (None, 16)
    assert decoder.input_shape == (None, 16)
    assert decoder.output_shape == (None, 28, 28, 1)


def test_conv3d_is_the_paper_s_for_video():
    encoder, decoder = conv3d((16, 256, 256, 1))
    assert encoder.output_shape == (None, 2, 16, 16, 256)
    assert decoder.output_shape == (None, 16, 256, 256, 1)
    # With the memory of 2000 x 256 the 6.5 million parameters of the authors' network.
    assert parameters(encoder, decoder) + 2000 * 256 == pytest.approx(6.5e6, rel=0.01)
    layers = [*encoder.layers, *decoder.layers]
    slopes = [la.negative_slope for la in layers if isinstance(la, keras.layers.LeakyReLU)]
    assert slopes == pytest.approx([0.2] * 7)


def test_conv3d_with_tanh_is_tanh_of_the_linear_one():
    shape = (4, 9, 12, 1)
    _, linear = conv3d(shape, filters=(4, 5))
    _, bounded = conv3d(shape, filters=(4, 5), output_activation="tanh")
    weights = [4 * weight for weight in linear.get_weights()]
    linear.set_weights(weights)
    bounded.set_weights(weights)
    reads = np.random.default_rng(0).normal(size=(2, *linear.input_shape[1:])).astype("float32")
    unbounded = ops.convert_to_numpy(linear(reads))
    assert np.abs(unbounded).max() > 1
    np.testing.assert_allclose(
        ops.convert_to_numpy(bounded(reads)), np.tanh(unbounded.astype("float64")), atol=1e-6
    )


def test_codes_of_conv3d_lie_as_the_clips_do():
    encoder, _ = conv3d((8, 16, 16, 1), filters=(4, 5))
    clips = np.random.default_rng(0).normal(size=(2, 8, 16, 16, 1)).astype("float32")
    clips[1] = clips[0]
    clips[1, 0, 0, 0] += 1
    codes = ops.convert_to_numpy(encoder(clips))
    changed = np.abs(codes[1] - codes[0]).sum(axis=-1)
    assert changed[0, 0, 0] > 0
    assert not changed[2:].any()
    assert not changed[:, 1:].any()
    assert not changed[:, :, 1:].any()


@pytest.mark.parametrize("size", [(28, 28), (31, 45), (33, 32), (7, 9)])
def test_conv2d_restores_any_size(size):
    encoder, decoder = conv2d((*size, 1), filters=(2, 3), kernels=(3, 5), strides=(2, 2))
    x = np.zeros((1, *size, 1), "float32")
    assert decoder(encoder(x)).shape == (1, *size, 1)


@pytest.mark.parametrize("size", [(16, 32, 24), (5, 9, 14), (8, 26, 31)])
def test_conv3d_with_kernels_back_to_front_is_the_net_of_pytorch(size):
    """As in the authors' code, so that its weights are usable; sizes even, odd, and both."""
    torch = pytest.importorskip("torch")
    encoder, decoder = conv3d((*size, 1), filters=(4, 6, 5))
    strides = [(1, 2, 2), (2, 2, 2), (2, 2, 2)]
    rng = np.random.default_rng(0)
    kernels = [
        rng.normal(size=shape).astype("float32") / 9
        for shape in [(4, 1, 3, 3, 3), (6, 4, 3, 3, 3), (5, 6, 3, 3, 3)]
    ]
    mirrored = [
        rng.normal(size=shape).astype("float32") / 9
        for shape in [(5, 6, 3, 3, 3), (6, 4, 3, 3, 3), (4, 1, 3, 3, 3)]
    ]
    for model, given in ((encoder, kernels), (decoder, mirrored)):
        layers = [layer for layer in model.layers if "Conv3D" in type(layer).__name__]
        for layer, kernel in zip(layers, given, strict=True):
            # Taps first; then both have (in, out), or of a transposed one (out, in), the other way.
            layer.kernel.assign(kernel.transpose(2, 3, 4, 1, 0)[::-1, ::-1, ::-1])
    x = rng.normal(size=(2, *size, 1)).astype("float32")
    y = torch.from_numpy(x).movedim(-1, 1)
    sizes = [y.shape[2:]]

    def norm_and_activation(y):
        # A BatchNorm that has seen nothing.
        return torch.nn.functional.leaky_relu(y / (1 + 1e-5) ** 0.5, 0.2)

    for kernel, stride in zip(kernels, strides, strict=True):
        y = torch.nn.functional.conv3d(y, torch.from_numpy(kernel), stride=stride, padding=1)
        y = norm_and_activation(y)
        sizes.append(y.shape[2:])
    code = ops.convert_to_numpy(encoder(x))
    np.testing.assert_allclose(code, y.movedim(1, -1).numpy(), atol=1e-5)
    for step, kernel in enumerate(mirrored, start=1):
        stride = strides[-step]
        extra = [
            m - (n - 1) * s - 1
            for n, m, s in zip(sizes[-step], sizes[-step - 1], stride, strict=True)
        ]
        y = torch.nn.functional.conv_transpose3d(
            y, torch.from_numpy(kernel), stride=stride, padding=1, output_padding=tuple(extra)
        )
        if step < len(mirrored):
            y = norm_and_activation(y)
    rebuilt = ops.convert_to_numpy(decoder(code))
    assert rebuilt.shape == x.shape
    np.testing.assert_allclose(rebuilt, y.movedim(1, -1).numpy(), atol=1e-5)


def test_padding_is_symmetric_as_in_pytorch():
    # A kernel of ones counts the pixels under it: 4 in the first corner, and 6 at an edge.
    encoder, _ = conv2d((8, 8, 1), filters=(1,), kernels=(3,), strides=(2,), queries="position")
    convolution = next(la for la in encoder.layers if isinstance(la, keras.layers.Conv2D))
    convolution.set_weights([np.ones((3, 3, 1, 1)), np.zeros(1)])
    counter = keras.Model(encoder.inputs, convolution.output)
    counts = counter.predict(np.ones((1, 8, 8, 1)), verbose=0)[0, :, :, 0]
    np.testing.assert_array_equal(counts[0], [4, 6, 6, 6])
    np.testing.assert_array_equal(counts[-1], [6, 9, 9, 9])


@pytest.mark.parametrize(
    ("size", "kernel", "stride"),
    [(8, 3, 2), (9, 3, 2), (10, 5, 3), (30, 3, 3), (28, 3, 4), (27, 3, 4), (9, 1, 3)],
)
def test_the_mirror_puts_a_pixel_back_to_its_place(size, kernel, stride):
    encoder, decoder = conv2d((size, size, 1), (1,), (kernel,), (stride,), queries="position")
    for model in (encoder, decoder):
        (convolution,) = (la for la in model.layers if "Conv2D" in type(la).__name__)
        centre = np.zeros((kernel, kernel, 1, 1))
        centre[kernel // 2, kernel // 2] = 1
        convolution.set_weights([centre, np.zeros(1)])
    x = np.random.default_rng(0).uniform(size=(1, size, size, 1)).astype("float32")
    # What the strides leave out is lost.
    expected = np.zeros_like(x)
    expected[:, ::stride, ::stride] = x[:, ::stride, ::stride]
    rebuilt = ops.convert_to_numpy(decoder(encoder(x)))
    # BatchNorm divides by the root of 1 + 1e-5.
    np.testing.assert_allclose(rebuilt, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "shape", "axes"),
    [(conv2d, (28, 28), 3), (conv2d, (28, 0, 1), 3), (conv3d, (16, 64, 64), 4)],
)
def test_shapes_without_channels_are_named(architecture, shape, axes):
    message = rf"must be {axes} positive integers\. Received: input_shape="
    with pytest.raises(ValueError, match=message + re.escape(str(shape))):
        architecture(shape)


def test_queries_by_position_exclude_a_bottleneck():
    with pytest.raises(ValueError, match="Received: queries=position, code=8"):
        conv2d((28, 28, 1), code=8, queries="position")


@pytest.mark.parametrize(
    ("variant", "shrink", "entropy_weight"),
    [("memae", 2.0, 0.01), ("memae-nonspar", 0.0, 0.0)],
)
def test_variants_with_memory(variant, shrink, entropy_weight):
    config = DenseModel(
        name="dense", variant=variant, memory={"shrink": 2.0, "entropy_weight": 0.01}
    )
    memory = build_memae(config, (20,)).memory
    assert (memory.shrink, memory.entropy_weight) == (shrink, entropy_weight)


def test_variant_without_memory():
    assert build_memae(DenseModel(name="dense", variant="ae"), (20,)).memory is None


def test_lists_of_different_lengths_are_the_user_s_mistake():
    config = Conv2DModel(name="conv2d", filters=[4, 4])
    with pytest.raises(UserError, match="model: "):
        build_memae(config, (28, 28, 1))


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_every_model_file_builds_and_trains(path):
    if keras.backend.backend() != "tensorflow" and path.stem not in ("mnist", "ped2"):
        pytest.skip("one file of each kind is enough on other backends")
    config = load_model(path)
    shape = SHAPES[path.stem.split("_")[0]]
    # The same nets with fewer filters, so that a step takes a moment.
    config = config.model_copy(update={"filters": [4] * len(config.filters)})
    model = build_memae(config, shape)
    model.compile("adam")
    x = np.random.default_rng(0).uniform(-1, 1, size=(4, *shape)).astype("float32")
    assert np.isfinite(model.fit(x, batch_size=2, verbose=0).history["loss"][0])
    assert model.score(x).shape == (4,)


@pytest.mark.parametrize("lists", [([], [], []), ((8,), (3,), (0,)), ((8,), (3.5,), (2,))])
def test_layers_that_cannot_be_are_named(lists):
    with pytest.raises(ValueError, match="Received: "):
        conv2d((28, 28, 1), *lists)
    with pytest.raises(ValueError, match="`filters` must be 1 positive integers"):
        conv3d((8, 32, 32, 1), [])
