"""Trains a video detector where there is a GPU but no TensorFlow, on another backend of Keras.

    python benchmarks/train_elsewhere.py pack configs/ped2_paper.yaml ped2.npz
    KERAS_BACKEND=torch python benchmarks/train_elsewhere.py fit ped2.npz weights.npz
    python benchmarks/train_elsewhere.py finish configs/ped2_paper.yaml weights.npz \
        --workdir runs/ped2_paper

The second command needs keras, numpy, pydantic, PyYAML and the backend, and no video; the third one
evaluates as `memae_tf.train` does and leaves the same files, but for checkpoints. The model and its
loss are those of the package; the loop is Keras's `fit`.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np
from keras import ops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, words in {
        "pack": "put the prepared frames of the training videos into a file",
        "fit": "train on them",
        "finish": "make a run of the weights: threshold, evaluation, report",
    }.items():
        command = commands.add_parser(name, help=words)
        if name != "fit":
            command.add_argument("config", help="YAML file of the experiment")
        if name != "pack":
            command.add_argument("source", type=Path, help="file of the step before")
        if name != "finish":
            command.add_argument("output", type=Path, help="where to write, .npz")
        else:
            command.add_argument("--workdir", type=Path, required=True)
        if name != "fit":
            command.add_argument("overrides", nargs="*", metavar="dotted.key=value")
    args = parser.parse_args()
    {"pack": pack, "fit": fit, "finish": finish}[args.command](args)


def pack(args: argparse.Namespace) -> None:
    """Frames, uint8 (frames, height, width, channels), where clips start, the configuration."""
    from memae_tf.config import load_config
    from memae_tf.data import load

    config = load_config(args.config, args.overrides)
    for key in ("augmentation", "pseudo_anomalies", "early_stopping", "averaging"):
        if getattr(config.training, key) is not None:
            raise SystemExit(f"training.{key}: is for memae_tf.train alone")
    dataset = load(config.data, config.training.seed)
    clips = dataset.train
    offsets = np.cumsum([0, *(len(video.frames) for video in clips.videos)])
    np.savez(
        args.output,
        frames=np.concatenate([video.frames for video in clips.videos]),
        starts=offsets[clips.places[:, 0]] + clips.places[:, 1],
        offset=np.asarray(dataset.featurizer.offset),
        spread=np.asarray(dataset.featurizer.spread),
        config=json.dumps(config.model_dump(mode="json")),
    )


def fit(args: argparse.Namespace) -> None:
    """Trains; writes the weights in the order of `get_weights`, and the history."""
    from memae_tf.config import parse_config
    from memae_tf.models import build_memae
    from memae_tf.training.optimizer import make_optimizer

    packed = np.load(args.source)
    config = parse_config(json.loads(str(packed["config"])))
    training = config.training
    keras.utils.set_random_seed(training.seed)
    clips = Clips(packed, config)
    policy = None if training.precision == "float32" else training.precision
    model = build_memae(config.model, clips.shape, policy)
    model.compile(make_optimizer(training, len(clips)))
    history = History(len(clips.starts))
    model.fit(clips, epochs=training.epochs, shuffle=False, callbacks=[history], verbose=2)
    weights = {f"weights_{i:03}": value for i, value in enumerate(model.get_weights())}
    np.savez(args.output, history=json.dumps(history.entries), **weights)


def finish(args: argparse.Namespace) -> None:
    """What `memae_tf.train` does after the last epoch."""
    from memae_tf.config import load_config
    from memae_tf.console import import_tensorflow, summary

    import_tensorflow()
    from memae_tf.data import load
    from memae_tf.models import Detector, build_memae
    from memae_tf.training import experiment
    from memae_tf.training.run_directory import RunDirectory

    config = load_config(args.config, args.overrides)
    dataset = load(config.data, config.training.seed)
    model = build_memae(config.model, dataset.featurizer.feature_shape)
    trained = np.load(args.source)
    model.set_weights([trained[name] for name in sorted(trained.files) if name != "history"])
    run = RunDirectory(args.workdir)
    run.create(config)
    detector = Detector(dataset.featurizer, model, threshold=0.0)
    history = json.loads(str(trained["history"]))
    print(summary(experiment.finish(config, run, detector, dataset, history)))


class Clips(keras.utils.PyDataset):
    """Batches of clips, normalised, in a new order each epoch."""

    def __init__(self, packed, config):
        super().__init__(workers=8, max_queue_size=16)
        self.frames, self.starts = packed["frames"], packed["starts"]
        self.offset, self.spread = packed["offset"], packed["spread"]
        self.steps = np.arange(config.data.clip_length) * config.data.frame_stride
        self.shape = (config.data.clip_length, *self.frames.shape[1:])
        self.batch_size, self.seed, self.epoch = config.training.batch_size, config.training.seed, 0
        self.on_epoch_end()

    def __len__(self):
        return -(-len(self.starts) // self.batch_size)

    def __getitem__(self, number):
        starts = self.order[number * self.batch_size : (number + 1) * self.batch_size]
        frames = self.frames[starts[:, None] + self.steps]
        return ((frames.astype("float32") - self.offset) / self.spread,)

    def on_epoch_end(self):
        self.order = np.random.default_rng([self.seed, self.epoch]).permutation(self.starts)
        self.epoch += 1


class History(keras.callbacks.Callback):
    """Collects what history.json has."""

    def __init__(self, num_clips: int):
        super().__init__()
        self.num_clips = num_clips
        self.entries: list[dict] = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self.start
        self.entries.append(
            {
                "epoch": epoch + 1,
                **{name: float(logs[name]) for name in ("loss", "reconstruction", "penalty")},
                "learning_rate": float(ops.convert_to_numpy(self.model.optimizer.learning_rate)),
                "seconds": seconds,
                "samples_per_second": self.num_clips / seconds,
            }
        )


if __name__ == "__main__":
    main()
