"""How long a plan lasts: ISO 8601 durations counted on the tenant's calendar."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import isodate

# Whole days and larger: a plan of hours would end at another wall-clock time after a DST change.
DATE_DURATION = re.compile(r"P(?=\d)(\d{1,3}Y)?(\d{1,4}M)?(\d{1,4}W)?(\d{1,5}D)?", re.ASCII)


def parse(duration: str) -> "isodate.Duration | timedelta":
    """The duration, or `ValueError` with a message for the person who typed it."""
    if not DATE_DURATION.fullmatch(duration) or not re.search("[1-9]", duration):
        raise ValueError(
            f"{duration!r} is no duration; write years, months, weeks or days, "
            "such as P1Y, P1M, P2W or P30D."
        )
    return isodate.parse_duration(duration)


def end_of(starts_at: datetime, duration: str, zone: ZoneInfo) -> datetime | None:
    """The first instant (UTC) after a period that starts then; None for a blank duration.

    A month ends on the same day of the next month, or on that month's last day: from 31 January,
    P1M ends on 28 or 29 February at the same local time.
    """
    if not duration:
        return None
    local = starts_at.astimezone(zone).replace(tzinfo=None)
    return (local + parse(duration)).replace(tzinfo=zone).astimezone(UTC)
