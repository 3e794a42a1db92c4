"""MemoryUnit from 50 to 100,000 slots: time and memory, beside the paper's formula in plain ops.

    python benchmarks/memory_unit.py
    python benchmarks/memory_unit.py --jit

See README.md in this folder.
"""

import math
import resource
import statistics
import sys
import time

import common

SLOTS = (50, 500, 2_000, 10_000, 50_000, 100_000)
SYSTEMS = ("layer", "naive")
# From here on the exponent is fitted: below, fixed costs of a call show.
LARGE = 2_000


def make_layer(system: str, num_slots: int):
    from memae_tf import MemoryUnit

    return MemoryUnit(num_slots) if system == "layer" else _naive_class()(num_slots)


def _naive_class():
    import keras
    from keras import ops

    class NaiveMemory(keras.layers.Layer):
        """Equations 4, 5, 7 and 11 of the paper, one after the other (cosine times 10)."""

        def __init__(self, num_slots: int):
            super().__init__()
            self.num_slots = num_slots

        def build(self, input_shape):
            self.memory = self.add_weight(shape=(self.num_slots, input_shape[-1]))

        def call(self, queries):
            cosine = ops.matmul(
                ops.normalize(queries, axis=-1), ops.transpose(ops.normalize(self.memory, axis=-1))
            )
            w = ops.softmax(10.0 * cosine)
            above = w - 1 / self.num_slots
            w = ops.relu(above) * w / (ops.abs(above) + 1e-12)
            w = w / ops.maximum(ops.sum(w, axis=-1, keepdims=True), 1e-12)
            self.add_loss(-0.0002 * ops.mean(ops.sum(w * ops.log(w + 1e-12), axis=-1)))
            return ops.matmul(w, self.memory)

    return NaiveMemory


def _queries(count: int, channels: int, seed: int):
    import numpy as np
    import tensorflow as tf

    return tf.constant(np.random.default_rng(seed).normal(size=(count, channels)).astype("f"))


def run(system, num_slots, options) -> dict:
    """Both parts; to be called in a process whose peak memory is that of this call."""
    layer = make_layer(system, num_slots)
    layer.build((None, options.channels))
    # First, because it takes less memory.
    result = _inference(layer, options)
    return {**result, "training_seconds": _training_step(layer, options)}


def _inference(layer, options) -> dict:
    """Seconds a call, and bytes at the peak beyond those of a call with one query."""
    import tensorflow as tf

    function = tf.function(
        lambda queries: layer(queries, training=False),
        input_signature=[tf.TensorSpec((None, options.channels))],
        jit_compile=options.jit,
    )
    queries = _queries(options.queries, options.channels, options.seed)
    function(queries[:1])
    before = _peak_bytes()
    function(queries)
    peak = _peak_bytes() - before
    return {"seconds": _seconds(lambda: function(queries), options.rounds), "bytes": peak}


def _training_step(layer, options) -> float:
    """Seconds of forward and backward pass."""
    import tensorflow as tf

    @tf.function(jit_compile=options.jit)
    def gradient(queries):
        with tf.GradientTape() as tape:
            read = layer(queries, training=True)
            loss = tf.reduce_mean(tf.square(queries - read)) + tf.add_n(layer.losses)
        return tape.gradient(loss, layer.memory.value)

    queries = _queries(options.training_queries, options.channels, options.seed)
    gradient(queries)
    return _seconds(lambda: gradient(queries), options.rounds)


def _peak_bytes() -> int:
    # In bytes on macOS, in KiB elsewhere.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _seconds(call, rounds: int) -> float:
    """Median over the rounds; a round repeats short calls for a tenth of a second."""
    start = time.perf_counter()
    call()
    repeats = max(1, int(0.1 / (time.perf_counter() - start)))
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(repeats):
            result = call()
        result.numpy()
        seconds.append((time.perf_counter() - start) / repeats)
    return statistics.median(seconds)


def measure(system: str, num_slots: int, options, peak: float) -> dict:
    """One row of the table, from a process of its own."""
    result = common.in_fresh_process(run, system, num_slots, options)
    # Both matrix products.
    flops = 4 * options.queries * num_slots * options.channels
    return {
        "system": system,
        "slots": num_slots,
        **result,
        "matrices": result["bytes"] / (4 * options.queries * num_slots),
        "share_of_peak": flops / result["seconds"] / peak,
    }


def exponent(rows: list[dict], quantity: str) -> float | None:
    """Slope of the logarithm of a quantity over that of the slots: 1 is linear growth."""
    points = [
        (math.log(row["slots"]), math.log(row[quantity]))
        for row in rows
        if row["slots"] >= LARGE and row[quantity] > 0
    ]
    if len(points) < 2:
        return None
    mean_x, mean_y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return covariance / sum((x - mean_x) ** 2 for x, _ in points)


def main() -> None:
    parser = common.argument_parser(__doc__.partition("\n")[0])
    parser.add_argument("--slots", type=int, nargs="+", default=SLOTS)
    parser.add_argument("--queries", type=int, default=4096, help="of an inference call")
    parser.add_argument("--training-queries", type=int, default=256, help="of a training step")
    parser.add_argument("--channels", type=int, default=64, help="C")
    parser.add_argument("--naive-up-to", type=int, default=50_000, help="slots, for its memory")
    parser.add_argument("--jit", action="store_true", help="compile with XLA")
    options = parser.parse_args()
    if options.quick:
        options.slots, options.queries, options.training_queries = (50, 4_000), 512, 32
        options.rounds, options.channels = 1, 8
    where = common.machine()
    peak = _peak_flops()
    rows = []
    print(
        f"{'':<6}{'slots':>8}{'inference':>14}{'us/slot':>10}{'peak memory':>14}{'matrices':>10}"
        f"{'of matmul peak':>16}{'training step':>15}"
    )
    for num_slots in options.slots:
        for system in SYSTEMS:
            if system == "naive" and num_slots > options.naive_up_to:
                continue
            row = measure(system, num_slots, options, peak)
            rows.append(row)
            print(
                f"{system:<6}{num_slots:>8,}{row['seconds'] * 1e3:>11.2f} ms"
                f"{row['seconds'] * 1e6 / num_slots:>10.2f}{row['bytes'] / 1e6:>11.1f} MB"
                f"{row['matrices']:>10.2f}{row['share_of_peak']:>16.2f}"
                f"{row['training_seconds'] * 1e3:>12.2f} ms",
                flush=True,
            )
    layer_rows = [row for row in rows if row["system"] == "layer"]
    exponents = {q: exponent(layer_rows, q) for q in ("seconds", "bytes", "training_seconds")}
    _print_exponents(exponents)
    print(
        f"{options.queries:,} queries (training: {options.training_queries:,}) of "
        f"{options.channels} channels, float32, {'XLA' if options.jit else 'graph'}, medians of "
        f"{options.rounds}, matmul peak {peak / 1e9:.0f} GFLOP/s"
    )
    print(common.describe(where, options.seed))
    settings = {
        name: getattr(options, name)
        for name in ("queries", "training_queries", "channels", "jit", "rounds", "seed")
    }
    common.write_json(
        options.json,
        {
            "machine": where,
            "settings": settings,
            "peak_gflops": peak / 1e9,
            "rows": rows,
            "exponents": exponents,
        },
    )


def _peak_flops() -> float:
    worker = common.Worker(common.matmul)
    seconds = common.interleave({"matmul": worker}, rounds=5)["matmul"]
    worker.close()
    return common.peak_flops(seconds)


def _print_exponents(exponents: dict[str, float | None]) -> None:
    for quantity, value in exponents.items():
        if value is not None:
            print(f"layer: {quantity} grow as slots^{value:.2f} from {LARGE:,} slots on")


if __name__ == "__main__":
    main()
