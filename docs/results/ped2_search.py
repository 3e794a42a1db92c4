"""Settings for Ped2 without its test set: 12 training videos train, the other 4 are the test.

    python docs/results/ped2_search.py configs/ped2.yaml "model.filters=[32, 48, 64]"

The four are made abnormal in a part of their frames, in two ways: they run three times as fast
("fast"), or a part of another video, half as large again, moves through them ("object"). Prints
the three AUCs of both after every 5th epoch.
"""

import argparse

import numpy as np
from PIL import Image

HELD_OUT = (1, 5, 9, 13)
EVERY = 5
ABNORMAL_FRAMES = 50


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
    rng = np.random.default_rng(7)
    tests = {"fast": [], "object": []}
    for number, video in enumerate(held_out):
        other = held_out[(number + 1) % len(held_out)]
        tests["fast"].append(faster(np.asarray(video.frames)))
        tests["object"].append(with_object(np.array(video.frames), np.asarray(other.frames), rng))
    for epoch, losses, detector in train(config, dataset.featurizer, kept):
        figures = {name: measure(detector, config, videos) for name, videos in tests.items()}
        print(epoch, losses, figures, flush=True)


def train(config, featurizer, videos):
    """Gives epoch, losses and the detector after every 5th epoch."""
    import keras

    from memae_tf.data.clips import Clips
    from memae_tf.models import Detector, build_memae
    from memae_tf.training.experiment import training_set
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
    detector = Detector(featurizer, final, 0.0)
    for epoch in range(training.epochs):
        for position in loop.run(Position(epoch)):
            losses = position.losses
        if (epoch + 1) % EVERY == 0:
            final.set_weights(loop.weights())
            yield epoch + 1, losses, detector


def measure(detector, config, videos) -> dict[str, float]:
    """The three AUCs on frames and labels."""
    from memae_tf.data.clips import Video
    from memae_tf.evaluation.frames import score_videos
    from memae_tf.evaluation.metrics import VideoScores, frame_aucs

    footage = [
        Video(str(number), frames, np.arange(len(frames)), len(frames), None)
        for number, (frames, _) in enumerate(videos)
    ]
    scores = score_videos(detector, footage, config.evaluation.frames)
    scored = (
        VideoScores(video.name, own, labels)
        for video, own, (_, labels) in zip(footage, scores, videos, strict=True)
    )
    return {name: round(value, 3) for name, value in frame_aucs(tuple(scored)).items()}


def faster(frames: np.ndarray, times: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A video of which a part is faster, and its labels."""
    total = len(frames)
    start = total // 4
    middle = range(start, min(total - start // 2, start + ABNORMAL_FRAMES * times), times)
    numbers = [*range(start), *middle, *range(middle[-1] + 1, total)]
    labels = np.zeros(len(numbers), int)
    labels[start : start + len(middle)] = 1
    return frames[numbers], labels


def with_object(
    frames: np.ndarray, other: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A video through which what moves most in another one runs, enlarged, and its labels."""
    total, height, width, _ = frames.shape
    size = rng.integers(height // 7, height // 5), rng.integers(width // 10, width // 7)
    number = rng.integers(5, len(other) - 5)
    motion = np.abs(other[number].astype(int) - other[number - 3])[..., 0]
    room = motion[: height - size[0], : width - size[1]]
    top, left = np.unravel_index(np.argmax(room), room.shape)
    top, left = (max(0, n - side // 2) for n, side in zip((top, left), size, strict=True))
    thing = Image.fromarray(other[number, top : top + size[0], left : left + size[1], 0])
    thing = np.asarray(thing.resize((int(1.5 * size[1]), int(1.5 * size[0])))).astype(float)
    rows, columns = np.mgrid[: thing.shape[0], : thing.shape[1]]
    ends = (thing.shape[0] - 1, thing.shape[1] - 1)
    mask = (2 * rows / ends[0] - 1) ** 4 + (2 * columns / ends[1] - 1) ** 4 < 1
    top = rng.integers(height // 4, height - thing.shape[0] - 2)
    speed = width / 70 * rng.choice([-1, 1])
    left = 0 if speed > 0 else width - thing.shape[1]
    labels, start = np.zeros(total, int), total // 4
    for number in range(start, min(total - total // 5, start + ABNORMAL_FRAMES)):
        column = round(left + speed * (number - start))
        if not 0 <= column <= width - thing.shape[1]:
            break
        part = frames[number, top : top + thing.shape[0], column : column + thing.shape[1], 0]
        part[mask] = thing[mask]
        labels[number] = 1
    return frames, labels


if __name__ == "__main__":
    main()
