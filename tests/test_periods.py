"""How long access lasts: months on the tenant's calendar, clamped, and half-open to the instant."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from purchases import periods
from purchases.models import Entitlement, Plan

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Pacific/Apia", "Asia/Kathmandu"]


def end(starts_at, duration, zone="UTC"):
    """The end as the tenant's clock shows it, minute by minute, with its offset from UTC."""
    starts_at = datetime.fromisoformat(starts_at).replace(tzinfo=ZoneInfo(zone))
    ends_at = periods.end_of(starts_at.astimezone(UTC), duration, ZoneInfo(zone))
    return ends_at.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes")


@pytest.mark.parametrize(
    ("starts_at", "duration", "ends_at"),
    [
        ("2026-01-15T09:30", "P1M", "2026-02-15T09:30"),
        ("2026-01-31T09:30", "P1M", "2026-02-28T09:30"),
        ("2028-01-31T09:30", "P1M", "2028-02-29T09:30"),
        ("2026-08-31T09:30", "P1M", "2026-09-30T09:30"),
        ("2026-12-31T09:30", "P2M", "2027-02-28T09:30"),
        ("2026-02-28T09:30", "P1M", "2026-03-28T09:30"),
        ("2026-10-31T09:30", "P13M", "2027-11-30T09:30"),
        ("2028-02-29T09:30", "P1Y", "2029-02-28T09:30"),
        ("2028-02-29T09:30", "P4Y", "2032-02-29T09:30"),
        ("2026-01-31T09:30", "P30D", "2026-03-02T09:30"),
        ("2026-12-25T09:30", "P2W", "2027-01-08T09:30"),
        ("2026-01-31T09:30", "P1M1D", "2026-03-01T09:30"),
    ],
)
def test_a_month_ends_on_the_same_day_or_on_the_months_last(starts_at, duration, ends_at):
    assert end(starts_at, duration) == f"{ends_at}+00:00"


@pytest.mark.parametrize(
    ("starts_at", "duration", "ends_at"),
    [
        # The wall clock decides, so this month has an hour less and that one an hour more.
        ("2026-03-15T12:00", "P1M", "2026-04-15T12:00+02:00"),
        ("2026-10-15T12:00", "P1M", "2026-11-15T12:00+01:00"),
        # 02:30 does not exist that night: the clock goes on at 03:30.
        ("2026-02-28T02:30", "P29D", "2026-03-29T03:30+02:00"),
        # 02:30 comes twice that night: the first counts.
        ("2026-09-25T02:30", "P1M", "2026-10-25T02:30+02:00"),
    ],
)
def test_a_period_keeps_its_local_time_over_a_clock_change(starts_at, duration, ends_at):
    assert end(starts_at, duration, "Europe/Berlin") == ends_at


def test_a_period_may_start_in_the_hour_that_comes_twice():
    second_half_past_two = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)

    ends_at = periods.end_of(second_half_past_two, "P1D", ZoneInfo("Europe/Berlin"))

    assert ends_at == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "ends_at"),
    [
        ("UTC", datetime(2026, 2, 28, 23, 30, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 2, 28, 23, 30, tzinfo=UTC)),
        # Already the 31st there, which February does not have either.
        ("Europe/Berlin", datetime(2026, 2, 27, 23, 30, tzinfo=UTC)),
        ("Pacific/Kiritimati", datetime(2026, 2, 27, 23, 30, tzinfo=UTC)),
    ],
)
def test_the_tenants_calendar_says_which_day_it_is(zone, ends_at):
    starts_at = datetime(2026, 1, 30, 23, 30, tzinfo=UTC)

    assert periods.end_of(starts_at, "P1M", ZoneInfo(zone)) == ends_at


def test_a_blank_duration_never_ends():
    assert periods.end_of(datetime(2026, 1, 1, tzinfo=UTC), "", ZoneInfo("UTC")) is None


@given(
    minutes=st.integers(0, 100 * 365 * 24 * 60),
    days=st.integers(1, 1000),
    zone=st.sampled_from(ZONES),
)
def test_days_are_days_give_or_take_a_clock_change(minutes, days, zone):
    starts_at = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)

    ends_at = periods.end_of(starts_at, f"P{days}D", ZoneInfo(zone))

    # A whole day went missing in Apia when it crossed the date line.
    assert abs(ends_at - starts_at - timedelta(days=days)) <= timedelta(hours=25)
    assert ends_at > starts_at


@pytest.mark.parametrize(
    "duration",
    [
        "P",
        "1M",
        "P0D",
        "P0M0D",
        "PT1H",
        "P1DT1H",
        "P-1M",
        "-P1M",
        "P1.5M",
        "P1,5M",
        "p1m",
        "P1D1M",
        "P1M ",
        " P1M",
        "P1M\n",
        "P1000Y",
        "P1M1M",
        "one month",
        "2026-01-01/P1M",
        "P\N{ARABIC-INDIC DIGIT THREE}D",
        "P1\N{ARABIC-INDIC DIGIT THREE}D",
    ],
)
def test_a_plan_of_another_duration_is_refused_with_a_message(plan, duration):
    plan.duration = duration

    with pytest.raises(ValidationError) as refusal:
        plan.full_clean()

    (message,) = refusal.value.message_dict["duration"]
    assert "such as P1Y, P1M, P2W or P30D" in message


@pytest.mark.parametrize("duration", ["", "P1D", "P2W", "P1M", "P12M", "P1Y", "P1Y6M", "P10D"])
def test_a_plan_may_last_days_weeks_months_or_years(plan, duration):
    plan.duration = duration

    plan.full_clean()


@pytest.fixture
def bought_on_the_31st(deliver, checkout, paid_event):
    """The monthly plan, bought on 31 January at 12:00 UTC; the tenant's clock shows 13:00."""
    checkout.tenant.timezone = "Europe/Berlin"
    checkout.tenant.save()
    with time_machine.travel("2026-01-31T12:00:00Z", tick=False):
        deliver(paid_event)


def test_a_purchase_grants_its_period_on_the_tenants_calendar(bought_on_the_31st):
    entitlements = Entitlement.objects.values_list("starts_at", "ends_at").distinct()

    assert list(entitlements) == [
        (datetime(2026, 1, 31, 12, tzinfo=UTC), datetime(2026, 2, 28, 12, tzinfo=UTC))
    ]


@pytest.mark.parametrize(
    ("moment", "products"),
    [
        ("2026-01-31T11:59:59Z", 0),
        ("2026-01-31T12:00:00Z", 2),
        ("2026-02-28T11:59:59Z", 2),
        ("2026-02-28T12:00:00Z", 0),
    ],
)
def test_access_begins_with_its_start_and_stops_just_before_its_end(
    bought_on_the_31st, moment, products
):
    with time_machine.travel(moment, tick=False):
        assert Entitlement.objects.active().count() == products


def test_a_plan_that_changes_later_does_not_change_what_was_bought(bought_on_the_31st):
    Plan.objects.update(duration="P1Y")

    assert set(Entitlement.objects.values_list("ends_at", flat=True)) == {
        datetime(2026, 2, 28, 12, tzinfo=UTC)
    }
