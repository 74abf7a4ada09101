"""The server's metrics, in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from ..batching.batcher import Batcher, RoundFigures
    from ..classifiers.registry import Registry
    from .request_log import RequestRecord

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
# Others share one label: methods are the client's words.
_METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"})


class ServerMetrics:
    """Counts and times, each server's own.

    Labels have bounded values: route templates, status codes, and names of classifiers as served.
    """

    def __init__(self) -> None:
        self._collected = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self._collected)
        self._requests = Counter(
            "pennyweight_requests", "Requests answered.", ("method", "route", "status"), registry=self._collected
        )
        self._seconds = Histogram(
            "pennyweight_request_seconds", "From a request's arrival to its answer, accepted requests.", ("route",),
            buckets=_SECONDS, registry=self._collected,
        )  # fmt: skip
        self._round_seconds = Histogram(
            "pennyweight_round_seconds", "Computed in one round.", buckets=_SECONDS, registry=self._collected
        )
        self._round_waited = Histogram(
            "pennyweight_round_waited_seconds", "How long the oldest request of a batch waited.",
            buckets=_SECONDS, registry=self._collected,
        )  # fmt: skip
        self._round_texts = Histogram(
            "pennyweight_round_texts", "Texts computed in one batch.", buckets=_SIZES, registry=self._collected
        )
        self._round_tokens = Histogram(
            "pennyweight_round_tokens", "Tokens computed in one batch.", buckets=[32 * size for size in _SIZES],
            registry=self._collected,
        )  # fmt: skip
        self._texts = Counter("pennyweight_texts", "Texts answered.", ("classifier",), registry=self._collected)
        self._tokens = Counter("pennyweight_tokens", "Tokens read.", registry=self._collected)

    def answered(self, record: RequestRecord, method: str, seconds: float) -> None:
        """Count a request that was answered, or whose client hung up (status 499)."""
        known = method if method in _METHODS else "other"
        self._requests.labels(known, record.route, str(record.status)).inc()
        if record.status == 200:
            self._seconds.labels(record.route).observe(seconds)
        if record.texts and record.status == 200:
            self._tokens.inc(record.tokens)
            for name in record.classifiers:
                self._texts.labels(name).inc(record.texts)

    def round_done(self, figures: RoundFigures) -> None:
        """Count a round of the batcher. Called from its thread."""
        self._round_seconds.observe(figures.seconds)
        self._round_waited.observe(figures.waited)
        self._round_texts.observe(figures.texts)
        self._round_tokens.observe(figures.tokens)

    def watch(self, registry: Registry, batcher: Batcher) -> None:
        """Tell of a registry and a batcher, too, as they are when the metrics are asked for. Once."""
        self._collected.register(_State(registry, batcher))

    def text(self) -> bytes:
        """All metrics as they are now, in the text format."""
        return generate_latest(self._collected)


class _State(Collector):
    """Gauges, read when they are asked for."""

    def __init__(self, registry: Registry, batcher: Batcher) -> None:
        self._registry = registry
        self._batcher = batcher

    def collect(self) -> Iterator[Metric]:
        counts = self._registry.counts
        gauges = (
            ("queued_texts", "Accepted texts that wait.", self._batcher.queued_texts),
            ("queued_tokens", "Their tokens, once for each classifier.", self._batcher.queued_tokens),
            ("tokens_per_second", "Measured speed of computing.", self._batcher.tokens_per_second or 0.0),
            ("loaded_bytes", "Trained tensors in memory.", self._registry.loaded_bytes),
        )
        for name, words, value in gauges:
            yield GaugeMetricFamily(f"pennyweight_{name}", words, value=value)
        states = GaugeMetricFamily("pennyweight_classifiers", "Served classifiers, by their state.", labels=["state"])
        for state in ("loaded", "on_disk", "unusable"):
            states.add_metric([state], counts[state])
        yield states
        for name, words in (
            ("reads", "Classifiers read from disk."),
            ("evictions", "Classifiers dropped from memory to make room for others."),
        ):
            yield CounterMetricFamily(f"pennyweight_classifier_{name}", words, value=counts[name])
