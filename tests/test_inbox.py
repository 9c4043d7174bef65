"""A genuine event that could not be worked on is kept, tried again, and in the end given up on."""

import logging
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from structlog.stdlib import ProcessorFormatter

from fulfillment import inbox
from fulfillment.models import Checkout, StripeEvent
from purchases.models import Entitlement, Product, Purchase, PurchaseEvent
from tenants.models import Member, Tenant
from tests.conftest import changed

pytestmark = pytest.mark.django_db(transaction=True)

DELAYS = [
    timedelta(seconds=5),
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=6),
    timedelta(hours=12),
    timedelta(hours=24),
]


class WrongTimezone:
    """A cause that shows while the event is worked on."""

    outcome = "ZoneInfoNotFoundError"
    error = "mars/olympus"

    def break_it(self):
        Tenant.objects.update(timezone="Mars/Olympus")

    def mend(self):
        Tenant.objects.update(timezone="UTC")


class DeletedProduct:
    """A cause that shows only at the commit, where foreign keys are checked."""

    outcome = "IntegrityError"
    error = "foreign key"

    def break_it(self):
        self._product = Product.objects.get(slug="archive")
        self._product.plans.clear()
        Product.objects.filter(slug="archive").delete()

    def mend(self):
        self._product.save(force_insert=True)


@pytest.fixture(params=[WrongTimezone, DeletedProduct])
def cause(request, checkout):
    """Why no event of the checkout can be fulfilled, until it is mended."""
    cause = request.param()
    cause.break_it()
    return cause


@pytest.fixture
def failed_event(cause, deliver, paid_event):
    """An event that failed once."""
    deliver(paid_event)
    return paid_event


def the_record():
    return StripeEvent.objects.get()


def effects():
    models = (Purchase, Member, Entitlement, PurchaseEvent)
    return [model.objects.count() for model in models]


NONE = [0, 0, 0, 0]
ALL = [1, 1, 2, 3]


def test_a_failure_keeps_the_record_and_none_of_the_effects(cause, deliver, paid_event):
    response = deliver(paid_event)

    assert response.status_code == 200
    record = the_record()
    assert (record.status, record.outcome, record.attempts) == ("failed", cause.outcome, 1)
    assert cause.error in record.error.lower()
    assert record.next_attempt_at > timezone.now()
    assert record.settled_at is None
    assert effects() == NONE
    assert Checkout.objects.get().status == "open"


def test_a_mended_cause_lets_the_record_be_processed_again(cause, failed_event):
    cause.mend()

    record = inbox.process_again(failed_event["id"])

    assert (record.status, record.outcome, record.error) == ("done", "fulfilled", "")
    assert record.next_attempt_at is None
    assert record.purchase.fulfilled_by == "replay"
    assert effects() == ALL


def test_a_redelivery_of_a_failed_event_is_worked_on_at_once(cause, failed_event, deliver):
    cause.mend()

    response = deliver(failed_event)

    assert response.status_code == 200
    assert the_record().status == "done"
    assert effects() == ALL


@pytest.mark.parametrize("mode", ["always_200", "store_or_503", "strict"])
def test_a_second_failure_is_counted_and_acknowledged(failed_event, deliver, settings, mode):
    settings.STRIPE_WEBHOOK_RESPONSES = mode

    response = deliver(failed_event)

    assert response.status_code == 200
    record = the_record()
    assert (record.status, record.attempts) == ("failed", 2)
    assert effects() == NONE


@pytest.mark.parametrize(("attempt", "delay"), list(enumerate(DELAYS, start=1)))
def test_the_delay_grows_with_each_attempt(failed_event, attempt, delay):
    StripeEvent.objects.update(attempts=attempt - 1)

    before = timezone.now()
    record = inbox.process_again(failed_event["id"])
    after = timezone.now()

    assert (record.status, record.attempts) == ("failed", attempt)
    assert before + delay * 0.8 <= record.next_attempt_at <= after + delay * 1.2


def test_what_failed_together_does_not_come_back_together(cause, deliver, paid_event):
    random.seed(1)
    deliver(paid_event)
    deliver(changed(paid_event, event_id="evt_another"))

    records = StripeEvent.objects.all()

    waits = [record.next_attempt_at - record.received_at for record in records]
    assert abs(waits[0] - waits[1]) > timedelta(milliseconds=100)


def test_after_all_retries_it_is_held_for_an_operator(failed_event, deliver):
    StripeEvent.objects.update(attempts=len(DELAYS))

    deliver(failed_event)

    record = the_record()
    assert (record.status, record.outcome) == ("held", "gave_up")
    assert record.next_attempt_at is None
    assert record.error
    assert effects() == NONE


def test_what_was_given_up_can_still_be_processed(cause, failed_event):
    StripeEvent.objects.update(attempts=len(DELAYS))
    inbox.process_again(failed_event["id"])
    cause.mend()

    record = inbox.process_again(failed_event["id"])

    assert record.status == "done"
    assert effects() == ALL


def test_a_settled_record_is_not_processed_again(checkout, deliver, paid_event):
    deliver(paid_event)

    record = inbox.process_again(paid_event["id"])

    assert (record.status, record.outcome, record.attempts) == ("done", "fulfilled", 0)
    assert effects() == ALL


def test_processed_again_twice_at_once_it_is_done_once(cause, failed_event):
    cause.mend()

    def process_again():
        try:
            return inbox.process_again(failed_event["id"])
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        runs = [threads.submit(process_again) for _ in range(4)]

    assert {run.result().outcome for run in runs} == {"fulfilled"}
    assert effects() == ALL


# --- an error's text may quote a row, and a row has the member in it

TRIGGER = """
CREATE TRIGGER refusal BEFORE INSERT ON tenants_member
BEGIN SELECT RAISE(ABORT, 'refused: member@example.com'); END
"""
REFUSAL = {
    "sqlite": (TRIGGER, "DROP TRIGGER refusal"),
    "postgresql": (
        "ALTER TABLE tenants_member ADD CONSTRAINT refusal CHECK (name <> 'Jenny Rosen')",
        "ALTER TABLE tenants_member DROP CONSTRAINT refusal",
    ),
}


@pytest.fixture
def quoting_database(transactional_db):
    """A database that refuses the new member and quotes its row."""
    refuse, allow = REFUSAL[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(refuse)
    yield
    with connection.cursor() as cursor:
        cursor.execute(allow)


@pytest.fixture
def log(caplog):
    """The log as the product writes it."""
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    caplog.handler.setFormatter(
        next(found for found in formatters if isinstance(found, ProcessorFormatter))
    )
    return caplog


@pytest.mark.parametrize("attempts_before", [1, len(DELAYS)], ids=["second", "last"])
def test_no_email_is_logged_when_an_attempt_fails(
    quoting_database, checkout, deliver, paid_event, log, attempts_before
):
    deliver(paid_event)
    StripeEvent.objects.update(attempts=attempts_before)

    deliver(paid_event)

    assert "member@example.com" in the_record().error
    assert log.text.count("webhook_delivery") == log.text.count("stripe_event_failed") == 2
    assert "member@example.com" not in log.text


# --- the command


@pytest.fixture
def process_events():
    """Run the command; its lines of output."""

    def process_events(*arguments):
        output = StringIO()
        call_command("process_events", *arguments, stdout=output)
        return output.getvalue().splitlines()

    return process_events


def test_the_command_processes_all_that_are_unsettled(cause, failed_event, deliver, process_events):
    deliver(changed(failed_event, event_id="evt_second"))
    cause.mend()

    lines = process_events()

    assert lines == [f"{failed_event['id']} done fulfilled", "evt_second done already_fulfilled"]
    assert effects() == ALL


def test_the_command_processes_only_the_ids_it_is_given(
    cause, failed_event, deliver, process_events, recorded
):
    second = changed(failed_event, event_id="evt_second")
    deliver(second)
    cause.mend()

    lines = process_events("evt_second")

    assert lines == ["evt_second done fulfilled"]
    assert recorded(failed_event)[0] == "failed"


def test_the_command_has_nothing_to_say_of_settled_events(
    checkout, deliver, paid_event, process_events
):
    deliver(paid_event)

    assert process_events() == []


def test_the_command_fails_while_an_event_does(failed_event, process_events):
    with pytest.raises(CommandError, match="1 failed"):
        process_events()

    record = the_record()
    assert (record.status, record.attempts) == ("failed", 2)


def test_a_dry_run_lists_and_changes_nothing(cause, failed_event, process_events):
    cause.mend()
    before = StripeEvent.objects.values().get()

    lines = process_events("--dry-run")

    assert lines == [f"{failed_event['id']} failed {cause.outcome}"]
    assert StripeEvent.objects.values().get() == before
    assert effects() == NONE


def test_the_command_knows_no_other_id(failed_event, process_events):
    with pytest.raises(CommandError, match="evt_unknown"):
        process_events("evt_unknown")


# --- a database that can't take the event


@pytest.fixture
def no_spool(settings, tmp_path):
    """A spool that can't be written: its folder's place is taken by a file."""
    (tmp_path / "file").touch()
    settings.WEBHOOK_SPOOL_DIR = str(tmp_path / "file" / "spool")


@pytest.mark.parametrize(
    ("mode", "status", "retry_after"),
    [("always_200", 200, None), ("store_or_503", 503, "60"), ("strict", 503, "60")],
)
def test_an_event_that_cannot_be_stored_is_answered_as_configured(
    checkout, lock, no_spool, deliver, paid_event, settings, mode, status, retry_after
):
    settings.STRIPE_WEBHOOK_RESPONSES = mode

    response = deliver(paid_event)

    lock.close()
    assert (response.status_code, response.headers.get("Retry-After")) == (status, retry_after)
    assert response.json() == {"received": status == 200}
    assert not StripeEvent.objects.exists()
    assert effects() == NONE


def test_once_the_database_is_back_the_same_event_gets_through(
    checkout, lock, no_spool, deliver, paid_event, settings
):
    settings.STRIPE_WEBHOOK_RESPONSES = "store_or_503"
    refused = deliver(paid_event)
    lock.close()

    response = deliver(paid_event)

    assert (refused.status_code, response.status_code) == (503, 200)
    assert the_record().status == "done"
    assert effects() == ALL


def test_an_outage_costs_a_failed_event_no_attempt(failed_event, lock, deliver):
    deliver(failed_event)

    lock.close()
    record = the_record()
    assert (record.status, record.attempts) == ("failed", 1)
