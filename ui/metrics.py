"""`GET /metrics`: memory, CPU, alarms and what the models are doing, as Prometheus reads it.

It names the models and shows which one is busy: only the operator's programs may read it, and no
browser whose rater has a blind trial open. Reads no process: the figures are `Monitor`'s.
"""

from collections.abc import Iterator, Sequence

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from backends.backend import Backend, State
from backends.lineup import Lineup
from backends.resources import Alarm, Kind, Monitor, ProcessReading
from rating.session import Panel, Visitor
from ui.errors import Refused
from ui.language import language_of
from ui.operator import Operator
from ui.visitor import known_id

_REFUSALS = {
    "operator_only": "Metrics are only for whoever runs this panel. Ask from the machine itself at "
    "127.0.0.1, or set TWOPANE_OPERATOR_KEY before the start and send it as "
    '"Authorization: Bearer KEY".',
    "wrong_key": "That is not the operator's key.",
    "too_many_keys": "Too many keys were tried. Wait a few seconds, then try again.",
    "models_hidden": "You have a blind trial of your own open, and metrics could tell you which "
    "side is which. Rate it, or start a new one.",
}
"""In English like the metrics: programs ask for them."""

_KEY_ONLY = (
    "Metrics are only for whoever runs this panel. Send the operator's key, which is set here, as "
    '"Authorization: Bearer KEY".'
)
_HEADERS = {"Cache-Control": "no-store"}


class Metrics:
    """Answers those who ask for metrics."""

    def __init__(self, panel: Panel, lineup: Lineup, monitor: Monitor, operator: Operator) -> None:
        self._panel = panel
        self._operator = operator
        # Not the library's own registry, which all of a process share.
        self._registry = CollectorRegistry()
        self._registry.register(_Figures(panel, lineup, monitor))

    async def answer(self, request: Request) -> Response:
        """Return the figures; to others than the operator's programs, 403 and the reason."""
        try:
            await self._admit(request)
        except Refused as refusal:
            by_key = refusal.code == "operator_only" and self._operator.has_key
            reason = _KEY_ONLY if by_key else _REFUSALS[refusal.code]
            return PlainTextResponse(f"{reason}\n", status_code=403, headers=_HEADERS)
        text = generate_latest(self._registry)
        return Response(text, headers=_HEADERS, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def _admit(self, request: Request) -> None:
        self._operator.check_program(request)
        rater = known_id(request)
        if rater and await self._panel.is_blinded(Visitor(rater, language_of(request))):
            raise Refused("models_hidden")


class _Figures(Collector):
    """What is said at the moment somebody asks."""

    def __init__(self, panel: Panel, lineup: Lineup, monitor: Monitor) -> None:
        self._panel = panel
        self._lineup = lineup
        self._monitor = monitor

    def describe(self) -> Iterator[Metric]:
        """Name nothing in advance: nobody else uses the registry."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Return every figure with its meaning."""
        snapshot = self._monitor.snapshot()
        yield from _of_processes(snapshot.processes)
        yield from _of_models(self._lineup.backends)
        yield from self._of_alarms(snapshot.alarms)
        paused = self._panel.waits_for is not None
        yield GaugeMetricFamily(
            "twopane_trials_paused", "1 while no trial may begin or be asked.", paused
        )

    def _of_alarms(self, alarms: Sequence[Alarm]) -> Iterator[Metric]:
        monitor, begun = self._monitor, {one.kind for one in alarms}
        limits = {kind: limit for kind in Kind if (limit := monitor.limits.of(kind)) is not None}
        active = GaugeMetricFamily(
            "twopane_alarm", "1 while all processes together take too much.", labels=["kind"]
        )
        allowed = GaugeMetricFamily(
            "twopane_alarm_limit_ratio", "Share of the machine that is too much.", labels=["kind"]
        )
        for kind, limit in limits.items():
            active.add_metric([kind], kind in begun)
            allowed.add_metric([kind], limit)
        yield from (active, allowed)
        yield GaugeMetricFamily(
            "twopane_machine_memory_bytes", "Memory of this machine.", monitor.memory_bytes
        )
        yield GaugeMetricFamily("twopane_machine_cores", "Usable cores.", monitor.cores)


def _of_processes(processes: Sequence[ProcessReading]) -> Iterator[Metric]:
    names = ["process"]
    memory = GaugeMetricFamily(
        "twopane_process_memory_bytes", "Memory of the app or a model server.", labels=names
    )
    peak = GaugeMetricFamily(
        "twopane_process_memory_peak_bytes", "Most memory it ever held.", labels=names
    )
    cpu = CounterMetricFamily(
        "twopane_process_cpu_seconds_total", "CPU time since it began.", labels=names
    )
    for one in processes:
        name = [one.model_key or "app"]
        memory.add_metric(name, one.rss_bytes)
        peak.add_metric(name, one.peak_bytes)
        cpu.add_metric(name, one.cpu_s)
    yield from (memory, peak, cpu)


def _of_models(backends: Sequence[Backend]) -> Iterator[Metric]:
    states = GaugeMetricFamily(
        "twopane_model_state", "1 for what a model is doing, else 0.", labels=["model", "state"]
    )
    restarts = CounterMetricFamily(
        "twopane_model_restarts_total", "How often it was started again.", labels=["model"]
    )
    for backend in backends:
        key, status = backend.model.key, backend.status
        restarts.add_metric([key], status.restarts)
        for state in State:
            states.add_metric([key, state], state is status.state)
    yield from (states, restarts)
