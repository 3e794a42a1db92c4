"""Settings for Ped2 without its test set: 12 training videos train, the other 4 are the test.

    python docs/results/ped2_search.py configs/ped2.yaml \
        training.schedule=constant training.epochs=9

The four are made abnormal in a part of their frames, in several ways: they run two or three times
as fast, or a part of another video moves through them, as large as a person or larger, at one or
two pixels a frame. After every third epoch, prints micro AUC (each video in [0, 1]; raw) of each,
by squared and by absolute errors.
"""

import argparse

import numpy as np
from PIL import Image

HELD_OUT = (1, 5, 9, 13)
EVERY = 3
ABNORMAL_FRAMES = 50
ERRORS = ("squared", "absolute")
# Size and pixels a frame.
OBJECTS = {"person": (1.0, 1.0), "fast person": (1.0, 2.0), "large": (1.6, 1.0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*", metavar="dotted.key=value")
    options = parser.parse_args()

    from memae_tf.console import import_tensorflow

    import_tensorflow()
    from memae_tf.config import load_config
    from memae_tf.data import load

    config = load_config(options.config, options.overrides)
    dataset = load(config.data, config.training.seed)
    videos = dataset.train.videos
    held_out = [videos[number] for number in HELD_OUT]
    kept = [video for video in videos if video not in held_out]
    tests = made_abnormal([np.asarray(video.frames) for video in held_out])
    for epoch, losses, model in train(config, dataset.featurizer, kept):
        print(f"epoch {epoch}, reconstruction {losses['reconstruction']:.5f}")
        for kind, footage in tests.items():
            figures = [measure(model, dataset.featurizer, config, footage, e) for e in ERRORS]
            print(f"  {kind:<12}", *(f"{a:.3f} {b:.3f}  " for a, b in figures), flush=True)


def made_abnormal(videos: list[np.ndarray]) -> dict[str, list]:
    """Frames and labels of the abnormal videos, by what is wrong with them."""
    tests = {f"{n} x as fast": [faster(frames, n) for frames in videos] for n in (2, 3)}
    for kind, (scale, speed) in OBJECTS.items():
        rng = np.random.default_rng(7)
        tests[kind] = [
            with_object(frames.copy(), videos[(number + shift) % len(videos)], scale, speed, rng)
            for shift in (1, 2)
            for number, frames in enumerate(videos)
        ]
    return tests


def train(config, featurizer, videos):
    """Gives epoch, losses and the model after every third epoch."""
    import keras

    from memae_tf.data.clips import Clips
    from memae_tf.models import build_memae
    from memae_tf.training.fit import training_set
    from memae_tf.training.loop import Position, TrainingLoop
    from memae_tf.training.strategy import make_strategy

    data, training = config.data, config.training
    clips = Clips.windows(videos, data.clip_length, data.frame_stride, data.clip_stride)
    keras.utils.set_random_seed(training.seed)
    samples, strategy = training_set(featurizer, clips, training), make_strategy(None)
    with strategy.scope():
        model = build_memae(config.model, samples.shape[1:])
    final = build_memae(config.model, samples.shape[1:])
    loop = TrainingLoop(model, samples, training, strategy)
    for epoch in range(training.epochs):
        for position in loop.run(Position(epoch)):
            losses = position.losses
        if (epoch + 1) % EVERY == 0:
            final.set_weights(loop.weights())
            yield epoch + 1, losses, final


def measure(model, featurizer, config, footage, error) -> tuple[float, float]:
    """Micro AUC, each video in [0, 1], and raw."""
    from memae_tf.data.clips import Video
    from memae_tf.evaluation.frames import score_videos
    from memae_tf.evaluation.metrics import VideoScores, frame_aucs
    from memae_tf.models import Detector

    featurizer.frame_scoring = config.evaluation.frames.model_copy(update={"error": error})
    videos = [
        Video(str(number), frames, np.arange(len(frames)), len(frames), None)
        for number, (frames, _) in enumerate(footage)
    ]
    scores = score_videos(Detector(featurizer, model, 0.0), videos, featurizer.frame_scoring)
    scored = (
        VideoScores(video.name, own, labels)
        for video, own, (_, labels) in zip(videos, scores, footage, strict=True)
    )
    aucs = frame_aucs(tuple(scored))
    return aucs["micro_auc_minmax"], aucs["micro_auc_raw"]


def faster(frames: np.ndarray, times: int) -> tuple[np.ndarray, np.ndarray]:
    """A video of which a part is faster, and its labels."""
    total = len(frames)
    start = total // 4
    middle = range(start, min(total - start // 2, start + ABNORMAL_FRAMES * times), times)
    numbers = [*range(start), *middle, *range(middle[-1] + 1, total)]
    labels = np.zeros(len(numbers), int)
    labels[start : start + len(middle)] = 1
    return frames[numbers], labels


def with_object(
    frames: np.ndarray, other: np.ndarray, scale: float, speed: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A video through which what moves most in another one is drawn, and its labels."""
    total, height, width, _ = frames.shape
    size = height // 6, width // 9
    number = rng.integers(5, len(other) - 5)
    motion = np.abs(other[number].astype(int) - other[number - 3])[..., 0]
    room = motion[: height - size[0], : width - size[1]]
    top, left = np.unravel_index(np.argmax(room), room.shape)
    top, left = (max(0, n - side // 2) for n, side in zip((top, left), size, strict=True))
    thing = Image.fromarray(other[number, top : top + size[0], left : left + size[1], 0])
    tall, wide = (int(scale * side) for side in size)
    thing = np.asarray(thing.resize((wide, tall))).astype(float)
    rows, columns = np.mgrid[:tall, :wide]
    distance = (2 * rows / (tall - 1) - 1) ** 2 + (2 * columns / (wide - 1) - 1) ** 2
    mask = np.clip(1.5 - 1.5 * distance, 0, 1)
    top = rng.integers(height // 4, height - tall - 2)
    step = speed * rng.choice([-1, 1])
    labels, start = np.zeros(total, int), total // 4
    for number in range(start, min(total - total // 5, start + ABNORMAL_FRAMES)):
        column = round((0 if step > 0 else width - wide) + step * (number - start))
        if not 0 <= column <= width - wide:
            break
        part = frames[number, top : top + tall, column : column + wide, 0]
        part[:] = (mask * thing + (1 - mask) * part).astype("uint8")
        labels[number] = 1
    return frames, labels


if __name__ == "__main__":
    main()
