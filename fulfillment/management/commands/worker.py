import signal
import threading
from importlib import import_module
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import connections

from fulfillment import worker
from fulfillment.models import Worker


class Command(BaseCommand):
    help = (
        "Work on what nobody asks for: retries, spool, sweep, reconciliation, notifications. "
        "Any number may run side by side; SIGTERM finishes what is under way."
    )

    def handle(self, **options: Any) -> None:
        is_scheduled = "procrastinate.contrib.django" in settings.INSTALLED_APPS
        tasks = import_module("fulfillment.tasks") if is_scheduled else None
        stopping = tasks.stopping if tasks else threading.Event()
        for stop in (signal.SIGTERM, signal.SIGINT):
            signal.signal(stop, lambda *_: stopping.set())
        limit_waiting()
        self.stdout.write(f"Worker {worker.NAME} is running. Ctrl-C ends it.")
        self.stdout.flush()
        threads = worker.start(worker.OWN if tasks else [*worker.SHARED, *worker.OWN], stopping)
        if tasks:
            tasks.run()
        for thread in threads:
            thread.join()
        Worker.objects.filter(name=worker.NAME).delete()


def limit_waiting() -> None:
    """Let PostgreSQL end what would keep a worker, or all of them, waiting for ever.

    A lock that somebody forgot holds up the one record that needs it, not the job. And a host that
    lost its network, unlike a killed process, closes no connection: no transaction here waits
    for anything but the database, so an idle one has nobody behind it.
    """
    for database in connections.settings.values():
        if database["ENGINE"].endswith("postgresql"):
            database["OPTIONS"]["options"] += (
                " -c lock_timeout=5s -c idle_in_transaction_session_timeout=45s"
            )
