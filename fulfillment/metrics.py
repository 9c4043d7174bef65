"""/metrics, for Prometheus: the figures of the moment, the same from whichever process answers."""

from collections.abc import Iterator
from datetime import datetime

from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from fulfillment import figures, quarantine, spool
from fulfillment.health import with_metrics_token


@require_safe
@never_cache
@with_metrics_token
def metrics(request: HttpRequest) -> HttpResponse:
    return HttpResponse(generate_latest(REGISTRY), content_type=CONTENT_TYPE_PLAIN_0_0_4)


class Figures(Collector):
    """Reads at each scrape; without the database it still says so, and what is on disk."""

    def collect(self) -> Iterator[Metric]:
        try:
            in_database = [*_unsettled(), *_deliveries(), *_background()]
        except Error:
            in_database = []
        yield _gauge("database_up", "Whether the database answers.", bool(in_database))
        yield from in_database
        yield from _on_disk()


REGISTRY = CollectorRegistry()
REGISTRY.register(Figures())


def _unsettled() -> Iterator[Metric]:
    unsettled = figures.unsettled()
    waiting = GaugeMetricFamily(
        "allegro_events_unsettled", "Events that have led to nothing yet.", labels=["status"]
    )
    for status, count in unsettled.by_status.items():
        waiting.add_metric([status], count)
    yield waiting
    held = GaugeMetricFamily(
        "allegro_events_held", "Events that wait for a person, by reason.", labels=["outcome"]
    )
    for outcome, count in unsettled.held.items():
        held.add_metric([outcome], count)
    yield held
    yield _gauge(
        "event_oldest_due_seconds",
        "Since when the first event ought to have been processed; held ones are left out.",
        figures.age(unsettled.oldest_due),
    )


def _deliveries() -> Iterator[Metric]:
    deliveries = figures.deliveries()
    recent = GaugeMetricFamily(
        "allegro_webhook_deliveries",
        "Accepted deliveries of the last 5 minutes.",
        labels=["status", "outcome"],
    )
    for labels, count in deliveries.by_outcome.items():
        recent.add_metric(labels, count)
    yield recent
    latency = GaugeMetricFamily(
        "allegro_webhook_latency_seconds",
        "From receipt to settlement, of the last 1,000 deliveries of the last 5 minutes.",
        labels=["quantile"],
    )
    for quantile in (0.5, 0.95, 1.0) if deliveries.latencies else ():
        last = len(deliveries.latencies) - 1
        latency.add_metric([str(quantile)], deliveries.latencies[round(quantile * last)])
    yield latency
    yield _timestamp(
        "webhook_last_accepted", "When Stripe last brought an event.", deliveries.last_accepted
    )
    yield _gauge(
        "webhook_rejected",
        "Deliveries of the last 10 minutes that look real but match no secret.",
        quarantine.rejected_lately(),
    )
    yield _gauge(
        "webhook_red",
        "Whether all deliveries of the last 10 minutes were rejected.",
        quarantine.is_alarming(),
    )


def _background() -> Iterator[Metric]:
    work = figures.background()
    yield _gauge("workers", "Workers seen within the last minute.", work.workers)
    yield _timestamp("worker_seen", "When a worker was last seen.", work.worker_seen)
    yield _timestamp("reconciliation", "When events were last reconciled.", work.reconciled)
    yield _gauge(
        "reconciliation_missing",
        "Events that the last reconciliation of each account found missing.",
        work.reconciliation_missing,
    )
    yield CounterMetricFamily(
        "allegro_reconciliation_found",
        "Events that reconciliations found missing, ever.",
        work.reconciliation_missing_total,
    )
    yield _gauge(
        "reconciliation_errors",
        "Accounts whose last reconciliation failed.",
        work.reconciliation_errors,
    )
    yield _gauge(
        "checkouts_overdue",
        "Open checkouts that Stripe should have been asked about 5 minutes ago.",
        work.checkouts_overdue,
    )
    yield _gauge("notifications_pending", "Notifications not delivered yet.", work.notifications)
    yield _gauge(
        "notification_oldest_seconds",
        "How long the oldest pending notification has waited.",
        figures.age(work.oldest_notification),
    )
    yield _gauge(
        "clock_offset_seconds",
        "How far our clock is ahead of the database's.",
        figures.clock_offset(),
    )


def _on_disk() -> Iterator[Metric]:
    try:
        spool.check_writable()
        depth, refused = spool.measure(), spool.refused()
    except OSError:
        yield _gauge("spool_writable", "Whether events could be kept on disk.", False)
        return
    yield _gauge("spool_writable", "Whether events could be kept on disk.", True)
    yield _gauge("spool_files", "Events that wait on disk for the database.", depth.files)
    yield _gauge("spool_bytes", "Size of the events on disk.", depth.bytes)
    yield _gauge(
        "spool_oldest_seconds", "How long the oldest has waited.", figures.age(depth.oldest)
    )
    yield _gauge("spool_refused_files", "Events that the database refused, kept in bad/.", refused)


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"allegro_{name}", help_text, value=value)


def _timestamp(name: str, help_text: str, at: datetime | None) -> Metric:
    """Unix time; 0 for never."""
    return _gauge(f"{name}_timestamp_seconds", help_text, at.timestamp() if at else 0.0)
