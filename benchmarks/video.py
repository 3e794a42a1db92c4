"""Clips and frames per second of the 3-D MemAE: the network alone, and from file to scores.

    python benchmarks/video.py
    python benchmarks/video.py --quick --json video.json

See README.md in this folder.
"""

import itertools
import math
import statistics
import tempfile
from pathlib import Path

import common

SYSTEMS = {
    "float32": "memae_tf, float32",
    "bfloat16": "memae_tf, mixed_bfloat16",
    "torch": "PyTorch, float32",
    "torch bfloat16": "PyTorch, bfloat16",
}
TRAINING = {
    "training": "memae_tf's training loop, float32",
    "torch training": "PyTorch, training, float32",
}
# Clips per second are to be at least so many times PyTorch's in float32.
TARGETS = {"float32": 2.0, "bfloat16": 3.0}
# Frames per second, from file to scores, with a clip at every 16th frame: the paper's on a GPU.
END_TO_END_TARGET, STRIDE = 38.0, 16
FOOTAGE_SIZE, FOOTAGE_FRAMES = (240, 360), 256


def model_config():
    from memae_tf.config import load_model

    return load_model(common.ROOT / "configs" / "ped2_paper.yaml")


def make_detector(size: int, precision: str, seed: int):
    """An untrained detector: what it costs does not depend on weights."""
    import keras

    from memae_tf.layers import ClipFeaturizer
    from memae_tf.models import Detector, build_memae

    keras.utils.set_random_seed(seed)
    featurizer = ClipFeaturizer((size, size), 16)
    policy = None if precision == "float32" else f"mixed_{precision}"
    return Detector(featurizer, build_memae(model_config(), featurizer.feature_shape, policy), 1.0)


def clips(size: int, batch_size: int, seed: int):
    import numpy as np

    shape = (batch_size, 16, size, size, 1)
    return np.random.default_rng(seed).integers(0, 256, shape, "uint8")


def scaled(size: int, batch_size: int, seed: int):
    """Clips as the network sees them."""
    return clips(size, batch_size, seed).astype("float32") / 127.5 - 1


# What is timed.


def network(size: int, batch_size: int, seed: int, precision: str):
    detector = make_detector(size, precision, seed)
    x = clips(size, batch_size, seed)
    return lambda: float(detector.detect(x, batch_size=batch_size)["score"][0])


def torch_network(size: int, batch_size: int, seed: int, precision: str):
    import torch
    from torch_video import VideoMemAE

    torch.manual_seed(seed)
    model = VideoMemAE(model_config()).eval().to(getattr(torch, precision))
    x = torch.from_numpy(clips(size, batch_size, seed)).movedim(-1, 1)

    def run() -> float:
        with torch.inference_mode():
            return float(model.score(x)[0])

    return run


def training(size: int, batch_size: int, seed: int):
    """One step of the package's loop."""
    import keras

    from memae_tf.config import TrainingConfig
    from memae_tf.models import build_memae
    from memae_tf.training.loop import TrainingLoop
    from memae_tf.training.strategy import make_strategy

    keras.utils.set_random_seed(seed)
    x = scaled(size, batch_size, seed)
    strategy = make_strategy()
    with strategy.scope():
        model = build_memae(model_config(), x.shape[1:])
    config = TrainingConfig(epochs=1000, batch_size=batch_size, learning_rate=1e-4, seed=seed)
    loop = TrainingLoop(model, x, config, strategy)
    epochs = itertools.count()
    return lambda: loop.run_epoch(next(epochs))["loss"]


def torch_training(size: int, batch_size: int, seed: int):
    import torch
    from torch_video import VideoMemAE

    torch.manual_seed(seed)
    model = VideoMemAE(model_config())
    x = torch.from_numpy(scaled(size, batch_size, seed)).movedim(-1, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def run() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = model.loss(x)
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


def from_file_to_scores(size: int, seed: int, precision: str, video: str):
    """Decoding, preparation, network and frame scores, as `memae_tf.score` has them."""
    from memae_tf.config import FrameScoring
    from memae_tf.scoring.detectors import LocalDetector
    from memae_tf.scoring.footage import FootageScorer
    from memae_tf.scoring.streams import Ahead, Footage

    detector = make_detector(size, precision, seed)

    def run() -> int:
        footage = Footage(video, detector.featurizer, shown=False)
        scorer = FootageScorer(
            LocalDetector(detector), FrameScoring(clip_stride=STRIDE), None, explain=False
        )
        with Ahead(footage, drops=False) as ahead:
            return sum(1 for _ in scorer.run(ahead, patient=True))

    return run


def preparation(size: int, seed: int, video: str):
    """Decoding and preparation alone."""
    from memae_tf.scoring.streams import Footage

    featurizer = make_detector(size, "float32", seed).featurizer
    return lambda: sum(1 for _ in Footage(video, featurizer, shown=False))


def write_footage(path: Path, frames: int, seed: int) -> None:
    """Noise that drifts, of the size of Ped2's frames, as H.264."""
    import av
    import numpy as np

    noise = np.random.default_rng(seed).integers(0, 256, FOOTAGE_SIZE, "uint8")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = FOOTAGE_SIZE
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            picture = av.VideoFrame.from_ndarray(np.roll(noise, 2 * number, axis=1), format="gray")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


# What comes out.


def flops_per_clip(size: int) -> int:
    """Floating-point operations of the convolutions and the memory for one clip.

    A transposed convolution does what the convolution does that it mirrors.
    """
    config = model_config()
    shape, total = [16, size, size], 0
    strides = [(1, 2, 2)] + [(2, 2, 2)] * (len(config.filters) - 1)
    widths = itertools.pairwise([1, *config.filters])
    for (a, b), stride in zip(widths, strides, strict=True):
        shape = [math.ceil(n / s) for n, s in zip(shape, stride, strict=True)]
        total += 2 * 2 * 27 * a * b * math.prod(shape)
    memory = 2 * 2 * config.memory.num_slots * config.filters[-1] * math.prod(shape)
    return total + memory


def measure(options, video: str) -> dict:
    """All systems, interleaved."""
    shared = options.size, options.batch_size, options.seed
    workers = {"matmul": common.Worker(common.matmul)}
    for precision in ("float32", "bfloat16"):
        workers[precision] = common.Worker(network, *shared, precision)
    workers["torch"] = common.Worker(torch_network, *shared, "float32")
    workers["torch bfloat16"] = common.Worker(torch_network, *shared, "bfloat16")
    workers["training"] = common.Worker(training, *shared)
    workers["torch training"] = common.Worker(torch_training, *shared)
    arguments = options.size, options.seed
    for precision in ("float32", "bfloat16"):
        name = f"end to end, {precision}"
        workers[name] = common.Worker(from_file_to_scores, *arguments, precision, video)
    workers["preparation"] = common.Worker(preparation, *arguments, video)
    seconds = common.interleave(workers, options.rounds)
    for worker in workers.values():
        worker.close()
    peak = common.peak_flops(seconds.pop("matmul"))
    networks = SYSTEMS | TRAINING
    speed = {system: options.batch_size / statistics.median(seconds[system]) for system in networks}
    frames = {
        name: options.frames / statistics.median(runs)
        for name, runs in seconds.items()
        if name not in networks
    }
    return {
        "seconds": seconds,
        "clips_per_second": speed,
        "frames_per_second": frames,
        "ratios": {system: speed[system] / speed["torch"] for system in TARGETS},
        "training_ratio": speed["training"] / speed["torch training"],
        "peak_gflops": peak / 1e9,
        "share_of_peak": speed["float32"] * flops_per_clip(options.size) / peak,
        "gflop_per_clip": flops_per_clip(options.size) / 1e9,
    }


def report(result: dict) -> str:
    lines = []
    for system, target in TARGETS.items():
        ratio = result["ratios"][system]
        lines.append(f"  {system} / torch float32 {ratio:>8.2f}   (target: {target:g})")
    lines.append(f"  training / torch training {result['training_ratio']:>6.2f}")
    lines.append(
        f"  share of the peak, float32 {result['share_of_peak']:>5.0%}   "
        f"({result['gflop_per_clip']:.0f} GFLOP a clip, {result['peak_gflops']:.0f} GFLOP/s)"
    )
    for system, name in (SYSTEMS | TRAINING).items():
        runs = result["seconds"][system]
        lines.append(
            f"  {name:<34}{result['clips_per_second'][system]:>8.2f} clips/s   a batch "
            f"{statistics.median(runs):.3f} s ({min(runs):.3f} to {max(runs):.3f})"
        )
    for name, speed in result["frames_per_second"].items():
        target = f"   (target: {END_TO_END_TARGET:g})" if name.startswith("end") else ""
        lines.append(f"  {name:<34}{speed:>8.1f} frames/s{target}")
    return "\n".join(lines)


def main() -> None:
    parser = common.argument_parser(__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=256, help="side of the frames")
    parser.add_argument("--batch-size", type=int, default=2, help="clips")
    options = parser.parse_args()
    options.frames = FOOTAGE_FRAMES
    if options.quick:
        options.size, options.rounds, options.frames = 32, 1, 48
    where = common.machine(("av",))
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "footage.mp4"
        write_footage(video, options.frames, options.seed)
        result = measure(options, str(video))
    print(report(result))
    print(
        f"clips of 16 x {options.size} x {options.size}, batches of {options.batch_size}; "
        f"{options.frames} frames of {FOOTAGE_SIZE[1]} x {FOOTAGE_SIZE[0]}, a clip at every "
        f"{STRIDE}th; medians of {options.rounds}"
    )
    print(common.describe(where, options.seed))
    settings = {name: getattr(options, name) for name in ("size", "batch_size", "rounds", "frames")}
    common.write_json(options.json, {"machine": where, "settings": settings, **result})


if __name__ == "__main__":
    main()
