"""What Prometheus reads of a gateway. vLLM's metrics never name the adapter: versions are counted here.

How long the sides of a blind pair took stands under the policy `pair`, whichever versions they are of.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.replies = Counter(
            "thumbwheel_replies", "Chat replies", ["policy", "outcome"], registry=self.registry
        )
        self.first_token = Histogram(
            "thumbwheel_first_byte_seconds",
            "From the request to the first byte of the reply",
            ["policy"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.duration = Histogram(
            "thumbwheel_reply_seconds",
            "From the request to the last byte of the reply",
            ["policy"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.retries = Counter(
            "thumbwheel_engine_retries",
            "Requests that were tried again on another engine",
            registry=self.registry,
        )
        self.log_dropped = Counter(
            "thumbwheel_log_dropped", "Replies that were never logged", registry=self.registry
        )
        self.engines_ready = Gauge(
            "thumbwheel_engines_ready", "Engines that answer with the champion", registry=self.registry
        )
