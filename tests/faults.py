"""Faults for a running server and worker; each is a context manager that holds it.

On PostgreSQL both log in as a role of their own, so that what is done to it hits nobody else.
"""

import resource
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from django.db import connection

from tests.conftest import LOCK
from tests.processes import database_url

BETWEEN_TERMINATIONS = 0.12
# Whole events fit into a file of this size, a database does not.
SMALL_FILE = 32 * 1024


class Clerk:
    """The role that server and worker have, and what an administrator can do to it."""

    def __init__(self, administrator):
        self.name = f"clerk_of_{connection.settings_dict['NAME']}"
        self._administrator = administrator
        self._execute(f"CREATE ROLE {self.name} LOGIN PASSWORD 'clerk'")
        for kind in ("TABLES", "SEQUENCES"):
            self._execute(f"GRANT ALL ON ALL {kind} IN SCHEMA public TO {self.name}")

    @property
    def url(self):
        role = {"USER": self.name, "PASSWORD": "clerk"}
        return database_url({**connection.settings_dict, **role})

    def alter(self, change):
        """Change the role for all of its sessions: those there are now end."""
        self._execute(f"ALTER ROLE {self.name} {change}")
        self.end_sessions()

    def end_sessions(self, but=()):
        self._execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE usename = %s AND pid <> ALL(%s)",
            [self.name, list(but)],
        )

    def is_waiting(self, sessions=1):
        """Whether as many of its sessions wait for a lock."""
        waiting = self._execute(
            "SELECT 1 FROM pg_stat_activity WHERE usename = %s AND wait_event_type = 'Lock'",
            [self.name],
        )
        return len(waiting.fetchall()) >= sessions

    def drop(self):
        self.end_sessions()
        self._execute(f"DROP OWNED BY {self.name}")
        self._execute(f"DROP ROLE {self.name}")

    def _execute(self, statement, parameters=None):
        return self._administrator.execute(statement, parameters)


@contextmanager
def clerk():
    url = database_url(connection.settings_dict)
    with psycopg.connect(url, autocommit=True) as administrator:
        role = Clerk(administrator)
        yield role
        role.drop()


# --- PostgreSQL


def _altered(to, back):
    @contextmanager
    def altered(deployment):
        deployment.clerk.alter(to)
        yield
        deployment.clerk.alter(back)

    return altered


no_connections = _altered("NOLOGIN", "LOGIN")
read_only = _altered(
    "SET default_transaction_read_only = on", "RESET default_transaction_read_only"
)


@contextmanager
def no_free_connection(deployment):
    """Two idle sessions take all the places that the role has."""
    deployment.clerk.alter("CONNECTION LIMIT 2")
    with ExitStack() as stack:
        idle = []
        while len(idle) < 2:
            deployment.clerk.end_sessions(but=[session.info.backend_pid for session in idle])
            try:
                idle.append(stack.enter_context(psycopg.connect(deployment.clerk.url)))
            except psycopg.OperationalError:
                continue
        yield
    deployment.clerk.alter("CONNECTION LIMIT -1")


@contextmanager
def sessions_ended_again_and_again(deployment):
    is_over = threading.Event()

    def end_sessions():
        while not is_over.wait(BETWEEN_TERMINATIONS):
            deployment.clerk.end_sessions()

    thread = threading.Thread(target=end_sessions)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def holding(*statements):
    """Another session's transaction, in which these were executed and which goes on."""

    @contextmanager
    def held(deployment):
        rival = connection.copy()
        with rival.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        try:
            yield
        finally:
            rival.close()

    return held


member_rows_locked = holding("BEGIN", "SELECT id FROM tenants_member FOR UPDATE")
checkout_rows_locked = holding("BEGIN", "SELECT id FROM fulfillment_checkout FOR UPDATE")
inbox_locked = holding(*LOCK[connection.vendor])


@contextmanager
def refusing(table, column, value):
    """The table takes no row with that value."""
    refuse, accept = {
        "sqlite": (
            (
                f"CREATE TRIGGER refuse_{table} BEFORE INSERT ON {table} "
                f"WHEN NEW.{column} = '{value}' BEGIN SELECT RAISE(ABORT, 'refused'); END"
            ),
            f"DROP TRIGGER refuse_{table}",
        ),
        "postgresql": (
            f"ALTER TABLE {table} ADD CONSTRAINT refuse_{table} CHECK ({column} <> '{value}')",
            f"ALTER TABLE {table} DROP CONSTRAINT refuse_{table}",
        ),
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(refuse)
    yield
    with connection.cursor() as cursor:
        cursor.execute(accept)


# --- files


@contextmanager
def files_limited(deployment, size):
    """No file of server or worker grows beyond this size, as if the disk were full."""
    pids = [*_children(deployment.server.pid), deployment.worker.pid]
    before = [resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids]
    for pid, (_, hard) in zip(pids, before, strict=True):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
    yield
    for pid, limit in zip(pids, before, strict=True):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)


def _children(pid):
    return map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


@contextmanager
def no_room_for_the_database(deployment):
    with files_limited(deployment, SMALL_FILE):
        yield


@contextmanager
def no_room_at_all(deployment):
    with files_limited(deployment, 0):
        yield


FAULTS = {
    "sqlite": {"locked": inbox_locked, "no room": no_room_for_the_database},
    "postgresql": {
        "no connections": no_connections,
        "no free connection": no_free_connection,
        "read-only": read_only,
        "sessions ended again and again": sessions_ended_again_and_again,
        "members locked": member_rows_locked,
        "checkouts locked": checkout_rows_locked,
        "inbox locked": inbox_locked,
    },
}[connection.vendor]
# So that no event is stored at all.
NO_DATABASE = {"sqlite": inbox_locked, "postgresql": no_connections}[connection.vendor]
