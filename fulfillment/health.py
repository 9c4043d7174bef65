"""Whether this process lives, can serve, and whether what Stripe sends gets through."""

import hmac
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from django.conf import settings
from django.db import Error, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from fulfillment import figures, quarantine, spool

View = Callable[[HttpRequest], HttpResponse]


@require_safe
@never_cache
def live(request: HttpRequest) -> HttpResponse:
    """200 whenever the process answers: restarting it would mend nothing else."""
    return JsonResponse({"status": "ok"})


@require_safe
@never_cache
def ready(request: HttpRequest) -> HttpResponse:
    """200 if requests can be served here, else 503 with the reasons."""
    reasons = [*database_reasons(), *spool_reasons()]
    return JsonResponse(
        {"status": "unavailable" if reasons else "ok", "reasons": reasons},
        status=503 if reasons else 200,
    )


def database_reasons() -> list[str]:
    """Why the database can't be used; no answer is waited for longer than its timeouts."""
    try:
        missing = unapplied_migrations()
    except Error as error:
        return [f"The database does not answer ({type(error).__name__}). Check DATABASE_URL."]
    if missing:
        return [f"Run `manage.py migrate`: {', '.join(missing)} not applied."]
    return []


def unapplied_migrations() -> list[str]:
    """The last migration of each app that is not up to date."""
    applied = MigrationRecorder(connection).applied_migrations()
    return [f"{app}.{name}" for app, name in _last_migrations() if (app, name) not in applied]


@cache
def _last_migrations() -> list[tuple[str, str]]:
    # Read from the source once: that costs 100 times the query.
    leaves: list[tuple[str, str]] = MigrationLoader(None).graph.leaf_nodes()
    return leaves


def spool_reasons() -> list[str]:
    try:
        spool.check_writable()
    except OSError as error:
        return [
            f"The spool can't be written to ({error.strerror or error}). Check WEBHOOK_SPOOL_DIR."
        ]
    return []


# --- for monitoring alone


def with_metrics_token(view: View) -> View:
    """Answer only who shows METRICS_TOKEN as a bearer token, and nobody where it is not set."""

    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponse:
        if not settings.METRICS_TOKEN:
            return HttpResponse("Set METRICS_TOKEN.\n", status=404, content_type="text/plain")
        shown = request.headers.get("Authorization", "").encode(errors="surrogatepass")
        if hmac.compare_digest(shown, f"Bearer {settings.METRICS_TOKEN}".encode()):
            return view(request)
        return HttpResponse(
            "Send METRICS_TOKEN as a bearer token.\n",
            status=401,
            content_type="text/plain",
            headers={"WWW-Authenticate": "Bearer"},
        )

    return guarded


OVERDUE_SECONDS = 300
SPOOL_SECONDS = 120


@require_safe
@never_cache
@with_metrics_token
def webhooks(request: HttpRequest) -> HttpResponse:
    """How the way from Stripe to the member is; 503 while events do not get through it."""
    reasons: list[str] = []
    try:
        answer = _in_database(reasons)
    except Error as error:
        answer = {}
        reasons.append(f"The database does not answer ({type(error).__name__}).")
    answer |= _on_disk(reasons)
    answer |= {"status": "red" if reasons else "ok", "reasons": reasons}
    return JsonResponse(answer, status=503 if reasons else 200)


def _in_database(reasons: list[str]) -> dict[str, Any]:
    unsettled, background = figures.unsettled(), figures.background()
    overdue = figures.age(unsettled.oldest_due)
    if quarantine.is_alarming():
        reasons.append(quarantine.ALARM)
    if overdue > OVERDUE_SECONDS:
        reasons.append(
            f"An event has been due for {overdue:.0f} s. See that `manage.py worker` runs; "
            "`manage.py process_events` works on all that is due."
        )
    return {
        "oldest_due_seconds": round(overdue),
        "failed": unsettled.by_status["failed"],
        "held": unsettled.held,
        "rejected_in_last_10_minutes": quarantine.rejected_lately(),
        "last_accepted": figures.deliveries().last_accepted,
        "last_reconciliation": background.reconciled,
        "reconciliation_missing": background.reconciliation_missing,
        "worker_last_seen": background.worker_seen,
    }


def _on_disk(reasons: list[str]) -> dict[str, Any]:
    reasons.extend(unwritable := spool_reasons())
    if unwritable:
        return {}
    depth, refused = spool.measure(), spool.refused()
    waiting = figures.age(depth.oldest)
    if waiting > SPOOL_SECONDS:
        reasons.append(
            f"{depth.files} events wait on disk, the oldest for {waiting:.0f} s. See that the "
            "database takes rows and that `manage.py worker` runs."
        )
    if refused:
        reasons.append(
            f"The database refused {refused} events for their content. They are in bad/ of "
            "WEBHOOK_SPOOL_DIR; the log line `spool_refused` says why."
        )
    return {
        "spool_files": depth.files,
        "spool_bytes": depth.bytes,
        "spool_oldest_seconds": round(waiting),
        "spool_refused_files": refused,
    }
