"""Training throughput of the dense MemAE: this package's loop beside its peers.

    python benchmarks/training.py
    python benchmarks/training.py --quick --json training.json

See README.md in this folder.
"""

import itertools
import statistics

import common

SYSTEMS = {
    "loop": "memae_tf's training loop",
    "torch eager": "PyTorch loop over tensors in memory",
    "torch compiled": "the same under torch.compile",
    "fit tf.data": "Keras model.fit over tf.data",
    "fit numpy": "Keras model.fit over the array",
}
# The loop's throughput is to be at least so many times that of the peer.
TARGETS = {"torch": 2.0, "fit tf.data": 5.0}
MODELS = ("kddcup_paper", "kddcup")
NUM_FEATURES = 120


def features(rows: int, seed: int):
    """Simulated feature rows of the size of KDDCUP99's, in the range of z-scores."""
    import numpy as np

    return np.random.default_rng(seed).normal(size=(rows, NUM_FEATURES)).astype("float32")


def model_config(name: str):
    from memae_tf.config import load_model

    return load_model(common.ROOT / "configs" / f"{name}.yaml")


def training_config(batch_size: int, seed: int):
    from memae_tf.config import TrainingConfig

    return TrainingConfig(epochs=1000, batch_size=batch_size, learning_rate=1e-3, seed=seed)


# What is timed. Each prepares model and data, and returns a function that trains an epoch.


def loop(name: str, rows: int, batch_size: int, seed: int, replicas: int | None = None):
    import keras

    from memae_tf.models import build_memae
    from memae_tf.training.loop import TrainingLoop
    from memae_tf.training.strategy import make_strategy

    config = training_config(batch_size, seed)
    keras.utils.set_random_seed(seed)
    strategy = make_strategy(replicas)
    with strategy.scope():
        model = build_memae(model_config(name), (NUM_FEATURES,))
    training = TrainingLoop(model, features(rows, seed), config, strategy)
    epochs = itertools.count()
    return lambda: training.run_epoch(next(epochs))["loss"]


def fit_tf_data(name: str, rows: int, batch_size: int, seed: int):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(features(rows, seed))
    data = data.shuffle(rows, seed=seed).batch(batch_size).prefetch(tf.data.AUTOTUNE)
    return _fit(name, seed, x=data)


def fit_numpy(name: str, rows: int, batch_size: int, seed: int):
    return _fit(name, seed, x=features(rows, seed), batch_size=batch_size)


def _fit(name: str, seed: int, **data):
    import keras

    from memae_tf.models import build_memae

    keras.utils.set_random_seed(seed)
    model = build_memae(model_config(name), (NUM_FEATURES,))
    model.compile(keras.optimizers.Adam(1e-3))
    return lambda: model.fit(**data, verbose=0).history["loss"][0]


def torch_eager(name: str, rows: int, batch_size: int, seed: int):
    return _torch(name, rows, batch_size, seed, compiled=False)


def torch_compiled(name: str, rows: int, batch_size: int, seed: int):
    return _torch(name, rows, batch_size, seed, compiled=True)


def _torch(name: str, rows: int, batch_size: int, seed: int, compiled: bool):
    import torch
    from torch_memae import MemAE

    torch.manual_seed(seed)
    x = torch.from_numpy(features(rows, seed))
    model = MemAE(NUM_FEATURES, model_config(name))
    loss_of = torch.compile(model.loss) if compiled else model.loss
    # One call for all weights, in one pass over them.
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def run_epoch() -> float:
        total = torch.zeros(())
        for indices in torch.randperm(rows).split(batch_size):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(x[indices])
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(indices)
        return total.item() / rows

    return run_epoch


MAKERS = {
    "loop": loop,
    "torch eager": torch_eager,
    "torch compiled": torch_compiled,
    "fit tf.data": fit_tf_data,
    "fit numpy": fit_numpy,
}


# What comes out.


def flops_per_row(config) -> int:
    """Floating-point operations in the matrix products of a training step, for one row.

    Forward once, backward twice (gradients of weights and of inputs), but nobody needs the
    gradient of the data.
    """
    widths = [NUM_FEATURES, *config.hidden, config.code]
    dense = 2 * sum(a * b for a, b in itertools.pairwise(widths))
    memory = 2 * config.memory.num_slots * config.code
    return 2 * (3 * (dense + memory) - widths[0] * widths[1])


def measure(name: str, options) -> dict:
    """All systems on one model, interleaved."""
    workers = {"matmul": common.Worker(common.matmul)}
    for system, make in MAKERS.items():
        workers[system] = common.Worker(make, name, options.rows, options.batch_size, options.seed)
    seconds = common.interleave(workers, options.rounds, warmup=2)
    for worker in workers.values():
        worker.close()
    peak = common.peak_flops(seconds.pop("matmul"))
    speed = {system: options.rows / statistics.median(runs) for system, runs in seconds.items()}
    speed["limit"] = peak / flops_per_row(model_config(name))
    return {
        "seconds_per_epoch": seconds,
        "rows_per_second": speed,
        "peak_gflops": peak / 1e9,
        "ratios": ratios(speed),
    }


def ratios(speed: dict[str, float]) -> dict[str, float]:
    """The loop's throughput over that of its peers; of the two PyTorch loops, the faster."""
    peers = {
        "torch": max(speed["torch eager"], speed["torch compiled"]),
        "fit tf.data": speed["fit tf.data"],
        "fit numpy": speed["fit numpy"],
        "limit": speed["limit"],
    }
    return {peer: speed["loop"] / value for peer, value in peers.items()}


def report(name: str, result: dict) -> str:
    lines = [f"configs/{name}.yaml"]
    for peer, ratio in result["ratios"].items():
        target = f"   (target: {TARGETS[peer]:g})" if peer in TARGETS else ""
        lines.append(f"  loop / {peer:<15}{ratio:>6.2f}{target}")
    for system, runs in result["seconds_per_epoch"].items():
        lines.append(
            f"  {SYSTEMS[system]:<38}{result['rows_per_second'][system]:>12,.0f} rows/s   epoch "
            f"{statistics.median(runs):.3f} s ({min(runs):.3f} to {max(runs):.3f})"
        )
    lines.append(
        f"  {'the matrix products alone':<38}{result['rows_per_second']['limit']:>12,.0f} rows/s   "
        f"at {result['peak_gflops']:.0f} GFLOP/s"
    )
    return "\n".join(lines)


def parse_sizes(parser):
    """Adds the options that this benchmark shares with replicas.py, and parses."""
    parser.add_argument("--rows", type=int, default=198_000)
    parser.add_argument("--batch-size", type=int, default=1024, help="of all replicas together")
    parser.add_argument("--models", nargs="+", default=MODELS, help="names of files in configs/")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.rounds, options.models = 4096, 1, MODELS[:1]
    return options


def finish(options, where: dict, results: dict) -> None:
    """Says under what conditions the results came about, and writes the file."""
    print(
        f"{options.rows:,} rows of {NUM_FEATURES} features, batches of {options.batch_size:,}, "
        f"medians of {options.rounds} epochs"
    )
    print(common.describe(where, options.seed))
    settings = {name: getattr(options, name) for name in ("rows", "batch_size", "rounds", "seed")}
    common.write_json(options.json, {"machine": where, "settings": settings, "models": results})


def main() -> None:
    options = parse_sizes(common.argument_parser(__doc__.partition("\n")[0]))
    where = common.machine()
    results = {}
    for name in options.models:
        results[name] = measure(name, options)
        print(report(name, results[name]), flush=True)
    finish(options, where, results)


if __name__ == "__main__":
    main()
