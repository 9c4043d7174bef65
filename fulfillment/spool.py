"""Where a genuine event goes when the database can't take it: one file each, on disk, fsynced.

A file that has its final name is whole and durable; it is deleted only after the database has
committed the event. What the database refuses for its content moves to `bad/` and is kept.
"""

import enum
import fcntl
import hashlib
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from django.conf import settings
from django.db import DataError, IntegrityError
from django.db import Error as DatabaseFault

from fulfillment import inbox
from fulfillment.models import StripeEvent

logger = structlog.get_logger(__name__)

MAX_FILES = 20_000
MAX_BYTES = 256 * 1024 * 1024
# One event may wait for a lock that only it needs; so many, and it is the database that waits.
PATIENCE = 3
# Far longer than any write takes.
FRAGMENT_KEPT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Depth:
    """How much waits to be drained, and since when (UTC)."""

    files: int
    bytes: int
    oldest: datetime | None


def store(body: bytes) -> None:
    """Keep the body on disk. When this returns it survives a power cut; raises `OSError` if not.

    The same body twice is one file.
    """
    folder = _folder()
    depth = measure()
    if depth.files >= MAX_FILES or depth.bytes + len(body) > MAX_BYTES:
        raise OSError("the spool is full")
    final = folder / f"{hashlib.sha256(body).hexdigest()}.evt"
    # mkstemp: readable by us alone, and in the same file system as its final name.
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).rename(final)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync(folder)


def measure() -> Depth:
    files = list(_stats())
    oldest = min((file.st_mtime for file in files), default=None)
    return Depth(
        files=len(files),
        bytes=sum(file.st_size for file in files),
        oldest=None if oldest is None else datetime.fromtimestamp(oldest, UTC),
    )


def refused() -> int:
    """How many files the database refused for their content; they wait in `bad/`."""
    return sum(1 for _ in (_folder() / "bad").glob("*.evt"))


def check_writable() -> None:
    """Raise `OSError` if no event could be kept."""
    with tempfile.TemporaryFile(dir=_folder()) as file:
        file.write(b"1")


def drain(limit: int | None = None) -> int:
    """Hand what waits to the inbox, oldest first; returns how many the database took.

    What it can't take now stays, behind the others, and stops them only if it is not alone. Of
    several callers one drains and the others return at once.
    """
    fates: Counter[Fate] = Counter()
    with _alone() as is_alone:
        for path in sorted(_waiting(), key=_turn) if is_alone else []:
            fates[_take_in(path)] += 1
            if fates[Fate.WAITS] == PATIENCE or fates[Fate.TAKEN] == limit:
                break
        if is_alone:
            _remove_fragments()
    if fates[Fate.UNREADABLE]:
        logger.error("spool_unreadable", files=fates[Fate.UNREADABLE])
    return fates[Fate.TAKEN]


class Fate(enum.Enum):
    """What became of a file."""

    TAKEN = enum.auto()
    WAITS = enum.auto()
    REFUSED = enum.auto()
    UNREADABLE = enum.auto()


def _take_in(path: Path) -> Fate:
    try:
        body = path.read_bytes()
    except OSError:
        return Fate.UNREADABLE
    try:
        inbox.receive(body, channel=StripeEvent.Channel.SPOOL, received_at=_age(path))
    except (DataError, IntegrityError):
        logger.exception("spool_refused", file=path.name)
        _set_aside(path)
        return Fate.REFUSED
    except Exception as error:
        is_strange = not isinstance(error, DatabaseFault)
        logger.warning("spool_waits", error=type(error).__name__, exc_info=is_strange)
        # From now on behind the others; when it came stays as it is.
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
        return Fate.WAITS
    path.unlink()
    return Fate.TAKEN


def _folder() -> Path:
    folder = Path(settings.WEBHOOK_SPOOL_DIR)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _waiting() -> list[Path]:
    return list(_folder().glob("*.evt"))


def _stats() -> Iterator[os.stat_result]:
    for path in _waiting():
        # Drained meanwhile, by another process.
        with suppress(FileNotFoundError):
            yield path.stat()


def _age(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _turn(path: Path) -> int:
    """When it was last tried, or came: the time of its last access."""
    return path.stat().st_atime_ns


def _set_aside(path: Path) -> None:
    bad = path.parent / "bad"
    bad.mkdir(mode=0o700, exist_ok=True)
    path.rename(bad / path.name)


def _remove_fragments() -> None:
    """What a process was writing when it was killed: nobody was told that we have it."""
    for path in _folder().glob("*.tmp"):
        if _age(path) < datetime.now(UTC) - FRAGMENT_KEPT:
            path.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    # A rename is durable only once the folder that it changed is.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _alone() -> Iterator[bool]:
    with (_folder() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
