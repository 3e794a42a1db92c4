"""Counters and histograms in Prometheus's text format, with TensorFlow Serving's names."""

import bisect
import threading
from collections.abc import Sequence

PATH = "/monitoring/prometheus/metrics"
PREFIX = ":tensorflow:serving:"


def exponential_buckets(scale: float, growth: float, count: int) -> list[float]:
    """The upper limits of all buckets but the last, which has none."""
    return [scale * growth**power for power in range(count - 1)]


# In microseconds, up to about 20 minutes.
LATENCY_BUCKETS = exponential_buckets(10, 1.8, 33)
COUNT_BUCKETS = exponential_buckets(1, 2, 15)


class Counter:
    """A number that only grows, for each combination of labels."""

    kind = "counter"

    def __init__(self, name: str, labels: Sequence[str]):
        self.name = name
        self.labels = tuple(labels)
        self._cells: dict[tuple[str, ...], float] = {}
        self._lock = threading.Lock()

    def add(self, *values: str, by: int = 1) -> None:
        """Adds to the cell with these label values."""
        with self._lock:
            self._cells[values] = self._cells.get(values, 0) + by

    def lines(self) -> list[str]:
        """The cells as text."""
        with self._lock:
            cells = dict(self._cells)
        return [
            f"{self.name}{_braces(self.labels, values)} {cell}" for values, cell in cells.items()
        ]


class Histogram:
    """Counts of observations by size, for each combination of labels."""

    kind = "histogram"

    def __init__(self, name: str, labels: Sequence[str], buckets: Sequence[float]):
        self.name = name
        self.labels = tuple(labels)
        self._limits = list(buckets)
        self._cells: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}
        self._lock = threading.Lock()

    def observe(self, value: float, *values: str) -> None:
        """Records an observation with these label values."""
        index = bisect.bisect_right(self._limits, value)
        with self._lock:
            if values not in self._cells:
                self._cells[values] = ([0] * (len(self._limits) + 1), [0.0])
            counts, total = self._cells[values]
            counts[index] += 1
            total[0] += value

    def lines(self) -> list[str]:
        """The cells as text, with cumulative buckets."""
        with self._lock:
            cells = {key: (list(counts), total[0]) for key, (counts, total) in self._cells.items()}
        lines = []
        for values, (counts, total) in cells.items():
            seen = 0
            for limit, count in zip([*map(_number, self._limits), "+Inf"], counts, strict=True):
                seen += count
                labels = _braces((*self.labels, "le"), (*values, limit))
                lines.append(f"{self.name}_bucket{labels} {seen}")
            labels = _braces(self.labels, values)
            lines += [
                f"{self.name}_sum{labels} {_number(total)}",
                f"{self.name}_count{labels} {seen}",
            ]
        return lines


class Metrics:
    """All metrics of the server."""

    def __init__(self):
        self.requests = Counter(PREFIX + "request_count", ("model_name", "status"))
        self.request_latency = Histogram(
            PREFIX + "request_latency", ("model_name", "API", "entrypoint"), LATENCY_BUCKETS
        )
        self.runtime_latency = Histogram(
            PREFIX + "runtime_latency", ("model_name", "API", "runtime"), LATENCY_BUCKETS
        )
        self.example_counts = Histogram(
            PREFIX + "request_example_counts", ("model",), COUNT_BUCKETS
        )
        self.example_count_total = Counter(PREFIX + "request_example_count_total", ("model",))
        self.warmup_latency = Histogram(
            PREFIX + "model_warmup_latency", ("model_path", "status"), LATENCY_BUCKETS
        )
        self.queuing_latency = Histogram(
            PREFIX + "batching_session:queuing_latency", (), LATENCY_BUCKETS
        )

    def page(self) -> str:
        """All metrics as text for Prometheus."""
        lines = []
        for metric in vars(self).values():
            cells = metric.lines()
            if cells:
                lines += [f"# TYPE {metric.name} {metric.kind}", *cells]
        return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _braces(names: Sequence[str], values: Sequence[str]) -> str:
    pairs = (f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    # The name of a model in a request may have any characters, even ones that are not text.
    text = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
