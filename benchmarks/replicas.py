"""Training on one replica and on two logical CPU devices: what the distribution costs.

    python benchmarks/replicas.py

See README.md in this folder.
"""

import statistics

import common
import training

REPLICAS = (1, 2)


def measure(name: str, options) -> dict:
    """One and two replicas on one model, interleaved."""
    arguments = (name, options.rows, options.batch_size, options.seed)
    workers = {count: common.Worker(training.loop, *arguments, count) for count in REPLICAS}
    seconds = common.interleave(workers, options.rounds, warmup=2)
    for worker in workers.values():
        worker.close()
    one, two = (statistics.median(seconds[count]) for count in REPLICAS)
    steps = -(-options.rows // options.batch_size)
    return {
        "seconds_per_epoch": {str(count): runs for count, runs in seconds.items()},
        "rows_per_second": {"1": options.rows / one, "2": options.rows / two},
        "speedup": one / two,
        "overhead_ms_per_step": (two - one) / steps * 1e3,
    }


def report(name: str, result: dict) -> str:
    lines = [
        f"configs/{name}.yaml",
        f"  2 replicas / 1 replica {result['speedup']:.2f}, "
        f"{result['overhead_ms_per_step']:+.2f} ms a step",
    ]
    for count, runs in result["seconds_per_epoch"].items():
        lines.append(
            f"  {count} replica(s) {result['rows_per_second'][count]:>12,.0f} rows/s   epoch "
            f"{statistics.median(runs):.3f} s ({min(runs):.3f} to {max(runs):.3f})"
        )
    return "\n".join(lines)


def main() -> None:
    parser = common.argument_parser(__doc__.partition("\n")[0])
    options = training.parse_sizes(parser)
    where = common.machine()
    results = {}
    for name in options.models:
        results[name] = measure(name, options)
        print(report(name, results[name]), flush=True)
    training.finish(options, where, results)


if __name__ == "__main__":
    main()
