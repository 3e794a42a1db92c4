"""Trains a video detector where there is a GPU and JAX, but no TensorFlow.

    python benchmarks/train_elsewhere.py pack configs/ped2_paper.yaml ped2.npz
    KERAS_BACKEND=jax python benchmarks/train_elsewhere.py fit ped2.npz weights.npz
    python benchmarks/train_elsewhere.py finish weights.npz --workdir runs/ped2_paper

Overrides of the configuration (dotted.key=value) are given to the first command; the files take it
along. The second command needs keras, jax, numpy, pandas, joblib, Pillow, pydantic and PyYAML, and
no video. Run again, it goes on from the last epoch in its output, so every experiment needs a file
of weights of its own. There, too, `speed ped2.npz weights.npz` says how many clips a second the net
scores, and `errors test.npz weights.npz errors.npz` keeps what it scores: of the test videos, if
they were packed by `pack --test`, and with each of the weights that `fit --every 5` left behind on
its way. The third command evaluates as `memae_tf.train` does and leaves the same files, but for
checkpoints. The model, its loss and the samples are those of the package; an epoch is one program
on the GPU, where all footage stays.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser(
        "pack", help="put the prepared frames of the training videos into a file"
    )
    fit = commands.add_parser("fit", help="train on them")
    finish = commands.add_parser("finish", help="make a run: threshold, evaluation, report")
    pack.add_argument("config", help="YAML file of the experiment")
    pack.add_argument("--test", action="store_true", help="the test videos instead")
    speed = commands.add_parser("speed", help="time the scoring of clips on the GPU")
    errors = commands.add_parser("errors", help="score clips on the GPU with some weights")
    for command in (fit, speed, finish, errors):
        command.add_argument("source", type=Path, help="file of the step before")
    speed.add_argument("weights", type=Path, help="what `fit` wrote")
    errors.add_argument("weights", type=Path, nargs="+", help="what `fit` wrote")
    for command in (pack, fit, errors):
        command.add_argument("output", type=Path, help="where to write, .npz")
    fit.add_argument("--every", type=int, help="keep the weights of each so many epochs, too")
    fit.add_argument(
        "--seconds", type=float, default=float("inf"), help="begin no epoch after so many"
    )
    finish.add_argument("--workdir", type=Path, required=True)
    pack.add_argument("overrides", nargs="*", metavar="dotted.key=value")
    args = parser.parse_args()
    functions = {
        "pack": pack_frames,
        "fit": train,
        "speed": time_scoring,
        "errors": write_errors,
        "finish": evaluate,
    }
    functions[args.command](args)


# Epochs; a save takes a second or two.
SAVE_EVERY = 10


def pack_frames(args: argparse.Namespace) -> None:
    """Frames, uint8 (frames, height, width, channels), where clips start, the configuration."""
    from memae_tf.config import load_config
    from memae_tf.data import load
    from memae_tf.evaluation.evaluate import require_evaluable

    config = load_config(args.config, args.overrides)
    for key in ("early_stopping", "validation_share"):
        if getattr(config.training, key):
            raise SystemExit(f"training.{key}: is for memae_tf.train alone")
    dataset = load(config.data, config.training.seed)
    require_evaluable(dataset, config.evaluation)
    clips = dataset.test if args.test else dataset.train
    featurizer = dataset.featurizer
    np.savez(
        args.output,
        frames=np.concatenate([video.frames for video in clips.videos]),
        lengths=[len(video.frames) for video in clips.videos],
        places=clips.places,
        featurizer=json.dumps(featurizer.get_config()),
        offset=np.asarray(featurizer.offset),
        spread=np.asarray(featurizer.spread),
        config=json.dumps(config.model_dump(mode="json")),
    )


def unpack(path: Path):
    """The configuration, and training samples as the package makes them of clips."""
    from memae_tf.data.clips import Clips, Video
    from memae_tf.layers import ClipFeaturizer
    from memae_tf.training.clip_samples import ClipSamples

    packed = np.load(path)
    config = config_in(packed)
    featurizer = ClipFeaturizer.from_config(json.loads(str(packed["featurizer"])))
    featurizer.offset.assign(packed["offset"])
    featurizer.spread.assign(packed["spread"])
    videos = [
        Video(str(number), frames, np.arange(len(frames)), len(frames), None)
        for number, frames in enumerate(
            np.split(packed["frames"], np.cumsum(packed["lengths"])[:-1])
        )
    ]
    clips = Clips(videos, featurizer.length, featurizer.frame_stride, packed["places"])
    return config, ClipSamples(clips, featurizer, config.training)


def train(args: argparse.Namespace) -> None:
    """Trains; writes all that more epochs need, and the history, now and then and in the end."""
    started = time.monotonic()
    import keras
    from jax_conv3d import install

    from memae_tf.models import build_memae
    from memae_tf.training.optimizer import make_optimizer

    config, samples = unpack(args.source)
    training = config.training
    steps = -(-len(samples) // training.batch_size)
    keras.utils.set_random_seed(training.seed)
    install()
    policy = None if training.precision == "float32" else training.precision
    model = build_memae(config.model, samples.shape[1:], policy)
    model.compile(make_optimizer(training, steps))
    epochs = Epochs(model, samples, config)
    history = epochs.load(args.output) if args.output.exists() else []
    while len(history) < training.epochs and time.monotonic() - started < args.seconds:
        history.append(epochs.run(len(history)))
        print(json.dumps(history[-1]), flush=True)
        if args.every and len(history) % args.every == 0:
            kept = args.output.with_name(f"{args.output.stem}_{len(history):03}.npz")
            epochs.keep(kept, history)
        if len(history) % SAVE_EVERY == 0:
            epochs.save(args.output, history)
    epochs.save(args.output, history)


class Epochs:
    """Epochs of a compiled model as programs of JAX.

    Args:
        model: A compiled MemAE.
        samples: `ClipSamples`; all of their footage is put on the GPU.
        config: The configuration of the experiment.
    """

    def __init__(self, model, samples, config):
        import jax

        self.model, self.samples, self.config = model, samples, config
        model.optimizer.build(model.trainable_variables)
        self.resident = jax.device_put(samples.resident())
        self.steps = jax.jit(self._steps, donate_argnums=0)

    def _variables(self) -> list[list]:
        """What Keras's `train_step` takes and gives on JAX."""
        return [
            self.model.trainable_variables,
            self.model.non_trainable_variables,
            self.model.optimizer.variables,
            self.model.metrics_variables,
        ]

    def _steps(self, state, resident, plan):
        """Steps of batches of a plan, arrays (steps, batch, ...)."""
        from jax import lax

        def step(state, part):
            batch = self.samples.prepare(self.samples.gather(resident, part))
            data = batch if batch[2] is not None else batch[:2]
            return self.model.train_step(state, data)[1], None

        return lax.scan(step, state, plan)[0]

    def run(self, epoch: int) -> dict:
        """One epoch; what history.json has of it."""
        start = time.perf_counter()
        size, count = self.config.training.batch_size, len(self.samples)
        seed = self.config.training.seed
        order = np.random.default_rng([seed, epoch]).permutation(count)
        plan = self.samples.plan(order, seed, epoch)
        learning_rate = float(np.asarray(self.model.optimizer.learning_rate))
        self.model.reset_metrics()
        state = tuple([v.value for v in variables] for variables in self._variables())
        whole = count // size * size
        # The last batch may be smaller.
        for places, batch in ((slice(whole), size), (slice(whole, count), count - whole)):
            if batch:
                part = {k: v[places].reshape(-1, batch, *v.shape[1:]) for k, v in plan.items()}
                state = self.steps(state, self.resident, part)
        for variables, values in zip(self._variables(), state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        logs = {name: float(value) for name, value in self.model.get_metrics_result().items()}
        seconds = time.perf_counter() - start
        return {
            "epoch": epoch + 1,
            **{name: logs[name] for name in ("loss", "reconstruction", "penalty")},
            "learning_rate": learning_rate,
            "seconds": seconds,
            "samples_per_second": count / seconds,
        }

    def save(self, path: Path, history: list[dict]) -> None:
        """Writes all that going on and finishing need."""
        weights = self.model.get_weights()
        parts = {"optimizer": map(np.asarray, self.model.optimizer.variables)}
        training = self.config.training
        if training.averaging is not None and len(history) == training.epochs:
            parts["averages"] = self._averages(weights)
        self._write(path, history, weights=weights, **parts)

    def keep(self, path: Path, history: list[dict]) -> None:
        """Writes what scoring needs."""
        self._write(path, history, weights=self.model.get_weights())

    def _write(self, path: Path, history: list[dict], **parts) -> None:
        """Arrays in the order of `get_weights`, whole or not at all."""
        aside = path.with_suffix(".saving.npz")
        arrays = {f"{k}_{i:03}": v for k, part in parts.items() for i, v in enumerate(part)}
        config = json.dumps(self.config.model_dump(mode="json"))
        np.savez(aside, config=config, history=json.dumps(history), **arrays)
        os.replace(aside, path)

    def _averages(self, weights: list[np.ndarray]) -> list[np.ndarray]:
        """The averaged weights, with BatchNorm statistics of their own."""
        from memae_tf.training.averaging import estimate_statistics

        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        estimate_statistics(self.model, self.samples, self.config.training)
        averages = self.model.get_weights()
        self.model.set_weights(weights)
        return averages

    def load(self, path: Path) -> list[dict]:
        """Takes back what `save` wrote; returns the history."""
        from memae_tf.config import differing_keys

        kept = np.load(path)
        # More epochs are what this is for.
        others = [
            key for key in differing_keys(config_in(kept), self.config) if key != "training.epochs"
        ]
        if others:
            raise SystemExit(f"{path}: has weights of another experiment ({', '.join(others)})")
        self.model.set_weights(named(kept, "weights_"))
        for variable, value in zip(
            self.model.optimizer.variables, named(kept, "optimizer_"), strict=True
        ):
            variable.assign(value)
        return json.loads(str(kept["history"]))


def time_scoring(args: argparse.Namespace) -> None:
    """Prints what it takes to score clips whose frames are on the GPU."""
    import jax
    from jax_conv3d import install

    from memae_tf.models import build_memae

    config, samples = unpack(args.source)
    weights = named(np.load(args.weights), "weights_")
    resident = jax.device_put(samples.resident())
    install()
    for precision in ("mixed_bfloat16", "float32"):
        model = build_memae(config.model, samples.shape[1:], precision)
        model.set_weights(weights)
        state = [
            [v.value for v in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]
        for batch in (1, 16):
            places = np.linspace(0, len(samples) - 1, batch).astype("int64")
            plan = samples.plan(places, seed=0, epoch=0)

            @jax.jit
            def score(state, resident, plan, model=model):
                x, _, _ = samples.prepare(samples.gather(resident, plan))
                reconstruction, _ = model.stateless_call(*state, x, training=False)
                return model.frame_error(x, reconstruction, "absolute")

            seconds = []
            for _ in range(8):
                start = time.perf_counter()
                jax.block_until_ready(score(state, resident, plan))
                seconds.append(time.perf_counter() - start)
            # But for the first, which compiles.
            median = float(np.median(seconds[1:]))
            device = jax.devices()[0].device_kind
            result = {"device": device, "precision": precision, "batch": batch}
            print(json.dumps({**result, "seconds": median, "clips_per_second": batch / median}))


def write_errors(args: argparse.Namespace) -> None:
    """Writes errors of clips, float32 (files of weights, clips), the clips' places, the history.

    Also as `averages` the errors with the averaged weights of the last file, if it has some.
    """
    import jax
    from jax_conv3d import install

    from memae_tf.models import build_memae
    from memae_tf.training.clip_samples import ClipSamples

    config, samples = unpack(args.source)
    # As they are, whatever the training makes of them.
    plain = config.training.model_copy(update={"augmentation": None, "pseudo_anomalies": None})
    samples = ClipSamples(samples.clips, samples.featurizer, plain)
    resident = jax.device_put(samples.resident())
    install()
    policy = None if config.training.precision == "float32" else config.training.precision
    model = build_memae(config.model, samples.shape[1:], policy)
    kind = config.evaluation.frames.error

    @jax.jit
    def errors_of(state, resident, plan):
        x = samples.prepare(samples.gather(resident, plan))[0]
        reconstruction, _ = model.stateless_call(*state, x, training=False)
        return model.frame_error(x, reconstruction, kind).mean(axis=1)

    def errors(weights: list[np.ndarray]) -> np.ndarray:
        model.set_weights(weights)
        state = [
            [v.value for v in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]
        size, found = config.training.batch_size, []
        for start in range(0, len(samples), size):
            places = np.arange(start, min(start + size, len(samples)))
            found.append(errors_of(state, resident, samples.plan(places, seed=0, epoch=0)))
        return np.concatenate(found)

    files = [np.load(path) for path in args.weights]
    found = {"errors": np.stack([errors(named(file, "weights_")) for file in files])}
    averages = named(files[-1], "averages_")
    if averages:
        found["averages"] = errors(averages)
    found["epochs"] = [len(json.loads(str(file["history"]))) for file in files]
    packed = np.load(args.source)
    kept = {"places": packed["places"], "config": packed["config"], "history": files[-1]["history"]}
    np.savez(args.output, **kept, **found)


def config_in(file):
    """The configuration in a file of `pack` or `fit`."""
    from memae_tf.config import parse_config

    return parse_config(json.loads(str(file["config"])))


def named(file, prefix: str) -> list[np.ndarray]:
    return [file[name] for name in sorted(file.files) if name.startswith(prefix)]


def evaluate(args: argparse.Namespace) -> None:
    """What `memae_tf.train` does after the last epoch."""
    from memae_tf.console import import_tensorflow, summary

    import_tensorflow()
    from memae_tf.data import load
    from memae_tf.models import Detector, build_memae
    from memae_tf.training import experiment
    from memae_tf.training.run_directory import RunDirectory

    trained = np.load(args.source)
    config, history = config_in(trained), json.loads(str(trained["history"]))
    if len(history) < config.training.epochs:
        raise SystemExit(
            f"{args.source}: has {len(history)} of {config.training.epochs} epochs; `fit` goes on"
        )
    dataset = load(config.data, config.training.seed)
    shape = dataset.featurizer.feature_shape
    model = build_memae(config.model, shape, config.training.precision)
    averages = config.training.averaging is not None
    model.set_weights(named(trained, "averages_" if averages else "weights_"))
    run = RunDirectory(args.workdir)
    detector = Detector(dataset.featurizer, model, threshold=0.0)
    with run.begun(config):
        print(summary(experiment.finish(config, run, detector, dataset, history)))


if __name__ == "__main__":
    main()
