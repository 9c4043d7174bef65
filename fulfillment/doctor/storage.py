"""Whether what is stored survives a power cut: the database, the spool, and the clock over both."""

import stat
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.db import connection

from fulfillment import figures, health, spool
from fulfillment.doctor.findings import Finding, ok, problem, warning
from purchases.restoring import events_of_another_cluster

# The question, and the answers with which a committed row is kept whatever happens.
DURABLE = {
    "sqlite": {"PRAGMA journal_mode": ["wal"], "PRAGMA synchronous": ["2", "3"]},
    "postgresql": {
        "SHOW synchronous_commit": ["on", "remote_apply"],
        "SHOW fsync": ["on"],
        "SHOW default_transaction_isolation": ["read committed"],
    },
}
MOUNTS = Path("/proc/self/mounts")
IN_MEMORY = ("tmpfs", "ramfs")
IN_CONTAINER = ("overlay", "aufs")
MAX_OFFSET_SECONDS = 30


def database_settings() -> Iterator[Finding]:
    wrong = False
    with connection.cursor() as cursor:
        for question, good in DURABLE[connection.vendor].items():
            cursor.execute(question)
            answer = str(cursor.fetchone()[0]).lower()
            if answer not in good:
                wrong = True
                yield problem(
                    "database",
                    f"{question} answers {answer}; events are safe only with {' or '.join(good)}.",
                    "Remove what overrides it from DATABASE_URL, the role or the server.",
                )
    if not wrong:
        yield ok("database", "A committed event survives a power cut.")
    if connection.vendor == "sqlite" and settings.STRIPE_LIVEMODE:
        yield warning("database", "SQLite with a live key.", "Set DATABASE_URL to a PostgreSQL.")


def feed() -> Iterator[Finding]:
    hidden = events_of_another_cluster().count()
    if hidden:
        yield problem(
            "events feed",
            f"{hidden} purchase events were restored from another PostgreSQL server; the feed "
            "and the notifications hold them back.",
            "Run `manage.py renumber_events`.",
        )


def clock() -> Iterator[Finding]:
    yield from judge_clock("the database's", figures.clock_offset())


def judge_clock(whose: str, offset: float) -> Iterator[Finding]:
    if abs(offset) <= MAX_OFFSET_SECONDS:
        yield ok("clock", f"Ours agrees with {whose}.")
        return
    yield problem(
        "clock",
        f"Ours is {offset:+.0f} s off {whose}; at 300 s every delivery is refused.",
        "Let the system set the time by NTP.",
    )


def spool_folder() -> Iterator[Finding]:
    unwritable = health.spool_reasons()
    if unwritable:
        yield from (problem("spool", reason) for reason in unwritable)
        return
    folder = Path(settings.WEBHOOK_SPOOL_DIR).resolve()
    findings = [*_access(folder), *_place(folder), *_contents()]
    yield from findings or [ok("spool", f"{folder} is private, durable and empty.")]


def _access(folder: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        yield problem(
            "spool",
            f"Others have access to {folder} ({mode:o}): it holds what members bought.",
            f"chmod 700 {folder}",
        )


def _place(folder: Path) -> Iterator[Finding]:
    kind = filesystem_of(folder)
    is_relied_on = settings.STRIPE_WEBHOOK_RESPONSES == "always_200"
    if kind in IN_MEMORY:
        yield (problem if is_relied_on else warning)(
            "spool",
            f"{folder} is in memory ({kind}): a restart loses what waits there.",
            "Point WEBHOOK_SPOOL_DIR at a disk, or set STRIPE_WEBHOOK_RESPONSES=store_or_503.",
        )
    elif kind in IN_CONTAINER:
        yield warning(
            "spool",
            f"{folder} is in a container's layer ({kind}): a deployment loses what waits there.",
            "Point WEBHOOK_SPOOL_DIR at a volume, or set STRIPE_WEBHOOK_RESPONSES=store_or_503.",
        )


def filesystem_of(folder: Path) -> str:
    """The kind of file system that a folder is on; blank where the system does not say."""
    if not MOUNTS.exists():
        return ""
    mounts = [line.split()[1:3] for line in MOUNTS.read_text().splitlines()]
    # The deepest mount point above it, and of several there the last.
    inside = [
        (len(Path(point).parts), number, kind)
        for number, (point, kind) in enumerate(mounts)
        if folder.is_relative_to(point)
    ]
    return max(inside)[2] if inside else ""


def _contents() -> Iterator[Finding]:
    depth, refused = spool.measure(), spool.refused()
    if depth.files:
        yield warning(
            "spool",
            f"{depth.files} events wait there since {depth.oldest:%Y-%m-%d %H:%M:%S} UTC.",
            "Run `manage.py process_events`.",
        )
    if refused:
        yield problem(
            "spool",
            f"The database refused {refused} events for their content; they are in bad/.",
            "The log line `spool_refused` says why. Mend it and move the files one folder up.",
        )
