"""What happens without anybody asking: retries, spool, sweep, reconciliation, notifications.

Nothing that a healthy purchase needs. Any number of workers may run, on any number of hosts:
each job claims its work row by row, so that jobs that run side by side share it.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections, connection
from django.utils import timezone

from fulfillment import inbox, spool
from fulfillment.models import Worker
from fulfillment.pruning import prune
from fulfillment.reconciling import reconcile_next
from fulfillment.sweeping import sweep_next
from purchases import endpoints, notifications

logger = structlog.get_logger(__name__)

NAME = f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True, slots=True)
class Job:
    """Work in steps: `step` says whether to go on at once, else it is called `every` seconds."""

    name: str
    step: Callable[[], object]
    every: int


def beat() -> None:
    """Note that this worker is alive, for health pages and doctor to see."""
    Worker.objects.update_or_create(name=NAME, defaults={"seen_at": timezone.now()})


def notify() -> int:
    """Tell tenants' servers what is new; returns how much there was to tell."""
    return notifications.collect() + notifications.deliver_due()


def tidy() -> None:
    """Remove what is old, and renew what a former SECRET_KEY encrypted."""
    logger.info("pruned", **prune())
    if settings.SECRET_KEY_FALLBACKS:
        logger.info("secrets_renewed", endpoints=endpoints.renew_encryption())


# One worker somewhere does each of these.
SHARED = [
    Job("sweep", sweep_next, every=20),
    Job("reconcile", reconcile_next, every=20),
    Job("notify", notify, every=2),
    Job("tidy", tidy, every=24 * 60 * 60),
]
# And each worker does these itself: the spool is its host's, and of what is due each takes a part.
OWN = [
    Job("heartbeat", beat, every=10),
    Job("spool", partial(spool.drain, limit=20), every=2),
    Job("retry", inbox.work_on_due, every=2),
]


def perform(job: Job, stopping: threading.Event) -> None:
    """Do what there is to do. Never raises: a worker outlives whatever goes wrong in a job."""
    try:
        close_old_connections()
        while not stopping.is_set():
            started = time.monotonic()
            if not job.step():
                return
            if connection.vendor == "sqlite":
                # Who waits for its only lock asks a few times a second, and would never meet the
                # instant between two of our transactions.
                stopping.wait(time.monotonic() - started)
    except (DatabaseError, InterfaceError) as error:
        logger.warning("job_postponed", job=job.name, error=type(error).__name__)
    except Exception:
        logger.exception("job_failed", job=job.name)


def start(jobs: Iterable[Job], stopping: threading.Event) -> list[threading.Thread]:
    """Repeat each job in a thread of its own, so that a slow one holds up no other."""
    threads = [threading.Thread(target=_repeat, args=(job, stopping)) for job in jobs]
    for thread in threads:
        thread.start()
    return threads


def _repeat(job: Job, stopping: threading.Event) -> None:
    while not stopping.is_set():
        perform(job, stopping)
        stopping.wait(job.every)
    connection.close()
