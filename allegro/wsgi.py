"""The WSGI application, for `gunicorn allegro.wsgi:application`."""

import io
import os
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application
from django.db import connections

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]

# One byte more than the largest body that any view reads, so that a view can tell.
MAX_CHUNKED_BODY = 1024 * 1024 + 1


def with_chunked_bodies(application: Application) -> Application:
    """Let Django see the body of a request with `Transfer-Encoding: chunked`.

    Django reads `CONTENT_LENGTH` bytes and takes a missing length for zero, so a proxy that
    chunks would make every signature wrong. The server has already undone the chunks when it
    sets `wsgi.input_terminated` (PEP 3333 leaves that to an extension).
    """

    def wrapped(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ.get("wsgi.input_terminated") and not environ.get("CONTENT_LENGTH"):
            body = environ["wsgi.input"].read(MAX_CHUNKED_BODY)
            environ["wsgi.input"] = io.BytesIO(body)
            environ["CONTENT_LENGTH"] = str(len(body))
        return application(environ, start_response)

    return wrapped


def refuse_to_start_misconfigured() -> None:
    """Raise on any failed system check: `gunicorn`, unlike `runserver`, runs none by itself."""
    serious = [check for check in run_checks() if check.is_serious()]
    if serious:
        raise ImproperlyConfigured("\n".join(map(str, serious)))


def limit_waiting() -> None:
    """Let no request wait longer for the database than Stripe can wait for an answer.

    Nor may a host that lost its network hold its locks for the hours until TCP notices. Only here:
    a migration or a command may take its time.
    """
    for database in connections.settings.values():
        if database["ENGINE"].endswith("postgresql"):
            database["OPTIONS"]["options"] += (
                " -c lock_timeout=1200 -c statement_timeout=2500"
                " -c idle_in_transaction_session_timeout=45s"
            )
        else:
            # In seconds. SQLite waits once, at the transaction's start.
            database["OPTIONS"]["timeout"] = 3


def drain_spool() -> None:
    """Take in what the last run had to leave on disk."""
    import_module("fulfillment.spool").drain()
    # A connection must not be shared with the workers that are forked from here.
    connections.close_all()


os.environ.setdefault("DJANGO_SETTINGS_MODULE", "allegro.settings")
application = with_chunked_bodies(get_wsgi_application())
limit_waiting()
refuse_to_start_misconfigured()
drain_spool()
