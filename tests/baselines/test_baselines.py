"""Every baseline tells one digit of scikit-learn's from the others, and keeps to its source."""

import math

import keras
import numpy as np
import pydantic
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from memae_tf.baselines import build_baseline
from memae_tf.baselines.vae import VAE
from memae_tf.config import Model, TrainingConfig
from memae_tf.errors import UserError

NET = {"name": "conv2d", "filters": [8, 16], "kernels": [3, 3], "strides": [2, 2]}
DENSE = {"name": "dense", "hidden": [32]}


def build(shape, training=None, **model):
    keras.utils.set_random_seed(0)
    config = pydantic.TypeAdapter(Model).validate_python(model)
    training = {"epochs": 20, "batch_size": 16, "learning_rate": 0.003, **(training or {})}
    return build_baseline(config, shape, TrainingConfig(**training))


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """120 zeros, and test images of which 58 are zeros."""
    data = load_digits()
    x = (data.images[..., None] / 16).astype("float32")
    zeros, others = x[data.target == 0], x[data.target != 0][:200]
    test = np.concatenate([zeros[120:], others])
    return zeros[:120], test, np.repeat([0, 1], [58, 200])


def auc(baseline, digits, flat=False) -> float:
    train, test, labels = digits
    if flat:
        train, test = train.reshape(len(train), -1), test.reshape(len(test), -1)
    baseline.fit(train)
    scores = baseline.score(test)
    assert scores.shape == (len(test),)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(baseline.score(test[:7]), scores[:7], rtol=1e-3, atol=1e-3)
    return roc_auc_score(labels, scores)


# Untrained, the networks have about 0.6, on vectors 0.7.
@pytest.mark.parametrize(
    ("model", "floor"),
    [
        ({"name": "ocsvm"}, 0.98),
        ({"name": "kde"}, 0.98),
        ({"name": "kde", "bandwidth": 0.5, "pca": None}, 0.98),
        ({"name": "vae", "code": 8, "net": NET}, 0.97),
        ({"name": "dsebm", "net": NET}, 0.97),
        ({"name": "pixelcnn", "filters": 8, "layers": 2, "levels": 8}, 0.95),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_other_digits_score_higher(model, floor, digits):
    assert auc(build((8, 8, 1), **model), digits) > floor


@pytest.mark.parametrize("name", ["vae", "dsebm"])
def test_normal_images_are_rebuilt_better(name, digits):
    train, test, labels = digits
    baseline = build((8, 8, 1), name=name, net=NET)
    baseline.fit(train)
    rebuilt = baseline.reconstruct(test)
    assert rebuilt.shape == test.shape
    error = np.square(test - rebuilt).sum(axis=(1, 2, 3))
    assert error[labels == 1].mean() > 1.5 * error[labels == 0].mean()


@pytest.mark.parametrize(
    ("model", "floor"),
    [
        ({"name": "vae", "code": 4, "net": DENSE}, 0.97),
        ({"name": "dsebm", "net": DENSE, "score": "reconstruction"}, 0.97),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_vectors_too(model, floor, digits):
    assert auc(build((64,), **model), digits, flat=True) > floor


def test_kde_is_the_mean_of_gaussians():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(5, 3))
    kde = build((3,), name="kde", bandwidth=0.7, pca=None)
    kde.fit(x.astype("float32"))
    density = [np.mean([multivariate_normal.pdf(q, p, 0.49) for p in x]) for q in y]
    np.testing.assert_allclose(kde.score(y.astype("float32")), -np.log(density), rtol=1e-4)


def test_kde_s_bandwidth_is_that_of_the_best_likelihood_of_held_out_samples():
    # Scott's rule is right for a Gaussian: n ** (-1 / (d + 4)) of its deviation, here 0.29.
    x = np.random.default_rng(0).normal(size=(500, 1)).astype("float32")
    kde = build((1,), name="kde")
    kde.fit(x)
    assert 0.15 < kde.model.bandwidth_ < 0.6


def test_kde_is_exact_in_many_dimensions():
    # With the default of scikit-learn's trees, log densities are wrong by 150 here.
    x = load_digits().data.astype("float32") / 16
    kde = build((64,), name="kde", bandwidth=0.1, pca=None)
    kde.fit(x[:1000])
    squares = np.square(x[1000:1100, None] - x[None, :1000]).sum(axis=-1, dtype="float64")
    exact = logsumexp(-squares / 0.02, axis=1) - math.log(1000) - 32 * math.log(2 * math.pi * 0.01)
    np.testing.assert_allclose(kde.score(x[1000:1100]), -exact, atol=1e-3)


def test_shallow_systems_learn_from_a_part():
    x = np.random.default_rng(0).normal(size=(300, 4)).astype("float32")
    ocsvm = build((4,), name="ocsvm", max_samples=50)
    ocsvm.fit(x)
    assert len(ocsvm.model.support_) <= 50


def test_nu_bounds_the_share_of_training_samples_outside():
    x = np.random.default_rng(0).normal(size=(400, 3)).astype("float32")
    for nu in (0.05, 0.4):
        ocsvm = build((3,), name="ocsvm", nu=nu)
        ocsvm.fit(x)
        assert np.mean(ocsvm.score(x) > 0) == pytest.approx(nu, abs=0.03)


def test_vae_s_bound_by_hand():
    vae: VAE = build((3,), name="vae", code=2, net=DENSE)
    network, x = vae.network, np.array([[0.1, -2.0, 0.7]], "float32")
    network.log_sigma.assign(-0.5)
    mean, log_variance = np.split(np.asarray(network.encoder(x)), 2, axis=-1)
    rebuilt = np.asarray(network.decoder(mean))
    nll = -multivariate_normal.logpdf(x[0], rebuilt[0], np.exp(-1.0))
    kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum()
    np.testing.assert_allclose(vae.score(x), nll + kl, rtol=1e-5)


def test_vae_trains_on_draws_from_its_posterior():
    network = build((3,), name="vae", code=2, net={"name": "dense", "hidden": []}).network
    # Mean (1, -1) and deviation (e, 1 / e) whatever comes in; the decoder gives the code back.
    network.encoder.set_weights([np.zeros((3, 4)), np.array([1.0, -1.0, 2.0, -2.0])])
    network.decoder.set_weights([np.eye(2, 3), np.zeros(3)])
    x = keras.ops.zeros((20_000, 3))
    losses = np.asarray(network.sample_loss(x))
    kl = 0.5 * (1 + 1 + np.exp(2) + np.exp(-2) - 2 - (2 - 2))
    # The mean of the squares of the draws: mean squared and variance.
    error = 0.5 * (1 + np.exp(2) + 1 + np.exp(-2)) + 1.5 * math.log(2 * math.pi)
    assert losses.mean() == pytest.approx(kl + error, rel=0.05)


def test_dsebm_s_scores_and_loss_by_hand():
    x = keras.ops.convert_to_tensor(np.random.default_rng(0).normal(size=(500, 4)), "float32")
    by_energy = build((4,), name="dsebm", net=DENSE, code=5, noise=0.5).network
    by_error = build((4,), name="dsebm", net=DENSE, code=5, score="reconstruction").network
    np.testing.assert_array_equal(by_energy.sample_score(x), by_energy.energy(x))
    error = np.square(np.asarray(x - by_error.reconstruct(x))).sum(axis=1)
    np.testing.assert_allclose(by_error.sample_score(x), error, rtol=1e-5)
    # Without units f(x) = b = 0: what is to come back is the sample, not the noisy one.
    for weight in by_energy.hidden.trainable_variables:
        weight.assign(keras.ops.zeros_like(weight))
    np.testing.assert_allclose(by_energy.sample_loss(x), np.square(x).sum(axis=1), rtol=1e-4)


def test_dsebm_learns_from_noisy_samples():
    x = keras.ops.zeros((2000, 4))

    def losses(noise: float) -> np.ndarray:
        network = build((4,), name="dsebm", net=DENSE, code=5, noise=noise).network
        return np.asarray(network.sample_loss(x))

    # All samples are the same one.
    assert losses(0.5).std() > 100 * losses(1e-6).std()


def test_dsebm_s_reconstruction_is_the_gradient_of_its_energy():
    network = build((4,), name="dsebm", net=DENSE, code=5).network
    x = np.random.default_rng(0).normal(size=(2, 4)).astype("float32")
    rebuilt = np.asarray(network.reconstruct(keras.ops.convert_to_tensor(x)))
    for axis in range(4):
        step = np.zeros(4, "float32")
        step[axis] = 1e-2
        slope = (np.asarray(network.energy(x + step)) - np.asarray(network.energy(x - step))) / 2e-2
        np.testing.assert_allclose(x[:, axis] - slope, rebuilt[:, axis], atol=2e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixelcnn_sees_every_earlier_pixel_and_no_later_one(channels):
    network = build((6, 6, channels), name="pixelcnn", filters=24, layers=3, levels=4).network
    x = np.random.default_rng(0).uniform(size=(1, 6, 6, channels)).astype("float32")
    base = np.asarray(network.logits(x)).reshape(36 * channels, 4)
    for place in (0, 7 * channels, 14 * channels + channels - 1, 36 * channels - 1):
        changed = x.copy()
        changed.reshape(-1)[place] += 0.5
        differs = np.abs(np.asarray(network.logits(changed)).reshape(base.shape) - base).max(axis=1)
        assert (differs[: place + 1] == 0).all()
        assert place == 36 * channels - 1 or differs[place + 1] > 0
    # From the first pixel three layers reach to the end of a small image.
    changed = x.copy()
    changed[0, 0, 3, 0] += 0.5
    differs = np.abs(np.asarray(network.logits(changed)) - np.asarray(network.logits(x)))
    assert (differs[0, 1, :5].max(axis=(-1, -2)) > 0).all()


def test_pixelcnn_takes_the_nearest_level():
    network = build((1, 1, 1), name="pixelcnn", filters=4, layers=1, levels=3).network
    values = keras.ops.reshape(keras.ops.convert_to_tensor([0.0, 0.2, 0.3, 0.7, 0.8]), (5, 1, 1, 1))
    network.sample_score(values)
    network.outputs_[-1].bias.assign([0.0, 1.0, 2.0])
    scores = np.asarray(network.sample_score(values))
    expected = np.log(np.exp([0, 1, 2]).sum()) - np.array([0, 0, 1, 1, 2])
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_pixelcnn_s_distribution_adds_up_to_one():
    network = build((1, 2, 1), name="pixelcnn", filters=4, layers=2, levels=3).network
    values = np.array([0.0, 0.5, 1.0], "float32")
    images = np.array([[[[a], [b]]] for a in values for b in values], "float32")
    probabilities = np.exp(-np.asarray(network.sample_score(keras.ops.convert_to_tensor(images))))
    np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-5)


def test_wrong_input_is_the_user_s_mistake():
    with pytest.raises(UserError, match="name=pixelcnn takes images"):
        build((12,), name="pixelcnn")
    with pytest.raises(UserError, match="conv2d does not take samples of the shape"):
        build((12,), name="vae", net=NET)
    with pytest.raises(UserError, match=r"data\.scaling=unit"):
        build((8, 8, 1), name="pixelcnn").fit(np.full((2, 8, 8, 1), -1.0))
    with pytest.raises(UserError, match=r"model\.bandwidth=cv: needs at least two"):
        build((3,), name="kde").fit(np.zeros((1, 3), "float32"))
