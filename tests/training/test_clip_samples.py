import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from memae_tf.config import Conv3DModel, TrainingConfig
from memae_tf.data.clips import Clips, Video
from memae_tf.layers import ClipFeaturizer
from memae_tf.models import build_memae
from memae_tf.training.clip_samples import ClipSamples, part_of_frames, patch_masks
from memae_tf.training.feed import gather_on, shuffled
from memae_tf.training.loop import Position, TrainingLoop
from memae_tf.training.strategy import make_strategy

RNG = np.random.default_rng(0)
MODEL = Conv3DModel(name="conv3d", filters=[2, 3], reduction="mean", memory={"num_slots": 4})
EVERYTHING = {
    "augmentation": {"flip": 0.5, "crop": 0.2},
    "pseudo_anomalies": {"skip": 0.3, "patch": 0.3, "loss": "repel"},
}


def video(num_frames: int, level: int | None = None) -> Video:
    """Random frames; or such that say their number, counted from `level`."""
    if level is None:
        frames = RNG.integers(0, 256, (num_frames, 8, 10, 1), "uint8")
    else:
        numbers = np.arange(level, level + num_frames, dtype="uint8")
        frames = np.broadcast_to(numbers[:, None, None, None], (num_frames, 8, 10, 1))
    return Video("v", frames, np.arange(num_frames), num_frames, None)


def samples_of(videos, length=4, frame_stride=1, **settings) -> ClipSamples:
    config = TrainingConfig(epochs=2, batch_size=5, **settings)
    clips = Clips.windows(videos, length, frame_stride, 1)
    featurizer = ClipFeaturizer((8, 10), length, frame_stride, scaling="unit")
    return ClipSamples(clips, featurizer, config)


def batch(samples: ClipSamples, epoch: int = 0) -> tuple:
    """What the model gets and should give, as pixel values, and the weights, of a whole epoch."""
    plan = samples.plan(np.arange(len(samples)), 0, epoch)
    read = samples.read(plan)
    gathered = samples.gather(tf.constant(samples.resident()), plan)
    specs = samples.specs()
    assert set(read) == set(gathered) == set(specs)
    for name, spec in specs.items():
        np.testing.assert_array_equal(read[name], gathered[name])
        assert spec.shape == read[name].shape[1:]
        assert spec.dtype == read[name].dtype
    x, target, weights = samples.prepare({k: tf.constant(v) for k, v in read.items()})
    return x.numpy() * 255, target.numpy() * 255, weights


def test_clips_are_the_windows():
    samples = samples_of([video(6), video(5)])
    x, target, weights = batch(samples)
    expected = np.stack([samples.clips[i] for i in range(len(samples))])
    np.testing.assert_allclose(x, expected, atol=1e-3)
    assert x is target or (x == target).all()
    assert weights is None
    np.testing.assert_allclose(samples[np.array([4, 1])] * 255, expected[[4, 1]], atol=1e-3)


def test_footage_is_kept_once():
    samples = samples_of([video(30)], length=10)
    assert samples.nbytes == samples.resident().nbytes == 30 * 80


def test_skipped_frames():
    samples = samples_of([video(40, 0), video(9, 100)], pseudo_anomalies={"skip": 0.5})
    x, target, _ = batch(samples)
    steps = np.diff(x[:, :, 0, 0, 0], axis=1).round()
    assert (steps == steps[:, :1]).all()
    # The short one has room for twice the speed at most, (9 - 1) // 3.
    short = x[:, 0, 0, 0, 0] >= 100
    assert {1} < set(steps[~short, 0]) <= {1, 2, 3, 4, 5}
    assert set(steps[short, 0]) <= {1, 2}
    assert (np.diff(target[:, :, 0, 0, 0], axis=1).round() == 1).all()
    np.testing.assert_allclose(target[:, 0], x[:, 0])
    assert 0.2 < (steps[:, 0] > 1).mean() < 0.8


def test_frame_stride_is_what_skips_are_multiples_of():
    samples = samples_of([video(60, 0)], frame_stride=2, pseudo_anomalies={"skip": 1, "skips": [3]})
    x, target, _ = batch(samples)
    assert (np.diff(x[:, :, 0, 0, 0], axis=1).round() == 6).all()
    assert (np.diff(target[:, :, 0, 0, 0], axis=1).round() == 2).all()


def test_repelled_clips_count_negatively():
    pseudo = {"skip": 0.3, "patch": 0.3, "loss": "repel"}
    samples = samples_of([video(60)], pseudo_anomalies=pseudo)
    x, target, weights = batch(samples)
    np.testing.assert_array_equal(x, target)
    clips = np.stack([samples.clips[i] for i in range(len(samples))])
    changed = np.abs(x - clips).max(axis=(1, 2, 3, 4)) > 0.01
    np.testing.assert_array_equal(weights, np.where(changed, -1, 1))
    assert 0.3 < changed.mean() < 0.9


def test_a_clip_has_skipped_frames_or_a_patch():
    samples = samples_of([video(60)], pseudo_anomalies={"skip": 0.5, "patch": 0.5})
    plan = samples.plan(np.arange(len(samples)), 0, 0)
    skips, patches = plan["gap"] > 1, (plan["patch_half"] > 0).all(axis=1)
    np.testing.assert_array_equal(patches, ~skips)
    assert 0.2 < skips.mean() < 0.8


def test_clips_without_room_for_a_skip_stay_normal():
    samples = samples_of([video(5)], pseudo_anomalies={"skip": 1.0, "loss": "repel"})
    x, _, weights = batch(samples)
    np.testing.assert_allclose(x, np.stack([samples.clips[i] for i in range(2)]), atol=1e-3)
    np.testing.assert_array_equal(weights, [1, 1])


def test_patches_cover_a_part_and_the_clip_is_the_target():
    videos = [video(30)]
    samples = samples_of(videos, pseudo_anomalies={"patch": 1.0, "patch_size": 0.5})
    x, target, _ = batch(samples)
    clips = np.stack([samples.clips[i] for i in range(len(samples))])
    np.testing.assert_allclose(target, clips, atol=1e-3)
    changed = (np.abs(x - target) > 0.01).mean(axis=(1, 2, 3, 4))
    assert changed.max() <= (0.5 + 2 / 8) * (0.5 + 2 / 10)
    assert (changed > 0).mean() > 0.9


def test_masks_by_hand():
    centers = np.array([[[0.5, 0.5], [0.0, 0.5]]], "float32")
    masks = patch_masks(tf.constant(centers), tf.constant([[0.25, 0.25]]), (8, 8)).numpy()[0]
    inside = np.zeros((8, 8))
    inside[2:6, 2:6] = 1
    np.testing.assert_allclose(masks[0][2:6, 2:6], 1)
    # The border is a pixel wide, and half of it is left at the next pixel's centre.
    np.testing.assert_allclose(masks[0][1, 2:6], 0.5, atol=1e-6)
    assert masks[0].sum() < 6 * 6
    assert masks[1][2, 3] == pytest.approx(0.5)
    assert patch_masks(tf.constant(centers), tf.zeros((1, 2)), (8, 8)).numpy().max() == 0


def test_parts_of_frames_by_hand():
    clip = tf.constant(np.arange(16, dtype="float32").reshape(1, 1, 4, 4, 1))

    def part(*box):
        return part_of_frames(clip, tf.constant([box], tf.float32)).numpy()[0, 0, ..., 0]

    np.testing.assert_allclose(part(0, 0, 1, 1), clip[0, 0, ..., 0])
    np.testing.assert_allclose(part(0, 1, 1, -1), clip[0, 0, :, ::-1, 0], atol=1e-5)
    # The upper left quarter in twice its size; the outermost pixels lie at its edge.
    quarter = part(0, 0, 0.5, 0.5)
    np.testing.assert_allclose(quarter[1], quarter[0] + 1, atol=1)
    np.testing.assert_allclose(quarter[0], [0, 0.25, 0.75, 1.25])


@settings(max_examples=10, deadline=None)
@given(epoch=st.integers(0, 20))
def test_augmented_clips_stay_within_their_frames_and_alike(epoch):
    numbered = samples_of([video(20, 50)], augmentation={"flip": 0.5, "crop": 0.5})
    x, target, _ = batch(numbered, epoch)
    np.testing.assert_allclose(x, target)
    # Even frames stay what they are.
    np.testing.assert_allclose(x.max(axis=(2, 3)), x.min(axis=(2, 3)), atol=1e-2)
    assert (np.diff(x[:, :, 0, 0, 0], axis=1).round() == 1).all()


def test_flips_are_about_as_many_as_asked_for():
    ramp = np.broadcast_to(np.arange(10, dtype="uint8")[None, None, :, None], (200, 8, 10, 1))
    samples = samples_of([Video("v", ramp, np.arange(200), 200, None)], augmentation={"flip": 0.3})
    x, _, _ = batch(samples)
    assert (x[:, 0, 0, 0, 0].round() == 9).mean() == pytest.approx(0.3, abs=0.1)


def test_plan_depends_on_seed_and_epoch_alone():
    samples = samples_of([video(40)], **EVERYTHING)
    order = shuffled(len(samples), 1, 2)
    first, same, other = (samples.plan(order, 1, epoch) for epoch in (2, 2, 3))
    for name in first:
        np.testing.assert_array_equal(first[name], same[name])
        assert (first[name] != other[name]).any()


# As strategies name them.
CPU, GPU = (f"/job:localhost/replica:0/task:0/device:{kind}:0" for kind in ("CPU", "GPU"))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"augmentation": {"flip": 0.5, "crop": 0.2}},
        {"pseudo_anomalies": {"skip": 0.5}},
        {"pseudo_anomalies": {"patch": 0.5}},
        EVERYTHING,
    ],
    ids=["plain", "augmented", "skips", "patches", "everything"],
)
def test_what_gathers_on_a_gpu_is_compiled_and_gives_the_same_bits(settings):
    """Here XLA compiles it for the CPU."""
    samples = samples_of([video(16), video(12)], frame_stride=2, **settings)
    assert gather_on([CPU], samples) == samples.gather
    compiled = gather_on([GPU], samples)
    assert compiled.experimental_get_tracing_count() == 0
    resident = tf.constant(samples.resident())
    plan = samples.plan(np.arange(len(samples)), 0, 0)
    # As the loop has it: some steps of batches, and what is behind the end of the epoch.
    plan = {name: np.stack([values, 0 * values]) for name, values in plan.items()}
    expected, gathered = samples.gather(resident, plan), compiled(resident, plan)
    assert compiled.experimental_get_tracing_count() == 1
    assert "HloModule" in compiled.experimental_get_compiler_ir(resident, plan)()
    assert set(expected) == set(gathered) == set(samples.specs())
    for name, values in expected.items():
        np.testing.assert_array_equal(values, gathered[name])
        assert values.dtype == gathered[name].dtype


def test_a_loop_that_gathers_compiled_learns_the_same():
    samples = samples_of([video(16), video(12)], **EVERYTHING)
    loops = loop_of(samples), loop_of(samples)
    assert loops[0].feed.gather == samples.gather
    loops[1].feed.gather = compiled = gather_on([GPU], samples)
    for loop in loops:
        loop.run_epoch(0)
    assert compiled.experimental_get_tracing_count() == 2  # whole batches, and the last one
    for a, b in zip(*(loop.model.get_weights() for loop in loops), strict=True):
        np.testing.assert_array_equal(a, b)


def loop_of(samples: ClipSamples, **settings) -> TrainingLoop:
    config = TrainingConfig(epochs=2, batch_size=5, **EVERYTHING, **settings)
    keras.utils.set_random_seed(0)
    strategy = make_strategy()
    with strategy.scope():
        model = build_memae(MODEL, samples.shape[1:])
    return TrainingLoop(model, samples, config, strategy)


@pytest.mark.parametrize("loss", ["repel", "restore"])
def test_loss_of_a_step_has_the_weights_and_targets_of_its_samples(loss):
    pseudo = {**EVERYTHING["pseudo_anomalies"], "loss": loss}
    samples = samples_of([video(40)], pseudo_anomalies=pseudo)
    loop = loop_of(samples)
    read = samples.read(samples.plan(np.arange(len(samples)), 0, 0))
    read = {name: tf.constant(values) for name, values in read.items()}
    x, target, weights = samples.prepare(read)
    terms, _ = loop._compute_gradients(read, 0.5)
    errors = np.square(target.numpy() - loop.model(x, training=True).numpy()).mean((1, 2, 3, 4))
    if loss == "repel":
        assert set(weights.numpy()) == {-1.0, 1.0}
        errors = errors * weights.numpy()
    else:
        assert np.abs(target - x).max() > 0.1
    assert terms[0].numpy() == pytest.approx(0.5 * errors.mean(), rel=1e-4)


def test_streamed_is_as_resident_and_a_stop_in_an_epoch_changes_nothing():
    samples = samples_of([video(16), video(12)], **EVERYTHING)
    resident, streamed = loop_of(samples), loop_of(samples, resident_mb=0)
    resident.run_epoch(0)
    expected = resident.model.get_weights()
    stopped = next(iter(streamed.run(Position(0), stop_requested=lambda: True)))
    assert 0 < stopped.step < streamed.steps_per_epoch
    # The rest from the device.
    resident.load_state(streamed.state())
    for _ in resident.run(stopped):
        pass
    for a, b in zip(expected, resident.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
