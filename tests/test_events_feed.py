"""The feed of purchase events: every event once, in one order, while others are being written."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from io import StringIO

import psycopg
import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction

from purchases.feed import LOWEST
from purchases.models import NotificationEndpoint, PurchaseEvent
from tenants.models import Member
from tests.processes import database_url
from tests.server import request
from tests.test_concurrency import numbered

WRITERS, SALES = 8, 12


@pytest.fixture
def feed(client, secret_key):
    def feed(**query):
        headers = {"Authorization": f"Bearer {secret_key}"}
        return client.get("/api/v1/events", query, headers=headers)

    return feed


@pytest.fixture
def happened(tenant):
    """Write as many events; returns their ids."""
    member = Member.objects.create(tenant=tenant, email="reader@example.com")

    def happened(count, kind="purchase.completed"):
        return [
            PurchaseEvent.objects.create(
                tenant=tenant, member=member, type=kind, data={"number": number}
            ).id
            for number in range(count)
        ]

    return happened


def error(answer):
    return answer.status_code, answer.json()["error"]["type"]


def test_an_event_is_shown(feed, happened):
    happened(1)
    event = PurchaseEvent.objects.get()

    assert feed().json() == {
        "data": [
            {
                "id": event.id,
                "type": "purchase.completed",
                "created_at": event.created_at.isoformat().replace("+00:00", "Z"),
                "member": str(event.member_id),
                "purchase": None,
                "data": {"number": 0},
            }
        ],
        "meta": {"next": str(event.id), "has_more": False},
    }


def test_a_reader_goes_on_where_it_stopped(feed, happened):
    ids = happened(5)
    read, cursor, more = [], "0", True
    while more:
        page = feed(after=cursor, limit=2).json()
        read.append([event["id"] for event in page["data"]])
        cursor, more = page["meta"]["next"], page["meta"]["has_more"]

    assert read == [ids[:2], ids[2:4], ids[4:]]
    assert feed(after=cursor).json() == {
        "data": [],
        "meta": {"next": cursor, "has_more": False},
    }


def test_a_hundred_come_unless_another_number_is_asked_for(feed, happened):
    happened(101)

    assert len(feed().json()["data"]) == 100
    assert feed().json()["meta"]["has_more"] is True
    assert len(feed(limit=500).json()["data"]) == 101


def test_events_of_one_type_can_be_asked_for(feed, happened):
    happened(2)
    wanted = happened(2, "credits.spent")

    answer = feed(type="credits.spent", limit=1).json()
    rest = feed(type="credits.spent", after=answer["meta"]["next"]).json()

    assert [event["id"] for event in answer["data"] + rest["data"]] == wanted


def test_a_cursor_is_an_event_of_the_tenant(feed, happened, other_account):
    foreign = PurchaseEvent.objects.create(tenant=other_account.tenant, type="purchase.completed")
    happened(1)

    assert error(feed(after=foreign.id)) == (400, "invalid_cursor")
    assert error(feed(after=10**17)) == (400, "invalid_cursor")
    assert len(feed().json()["data"]) == 1


@pytest.mark.django_db(transaction=True)
def test_what_began_earlier_and_ends_later_is_not_missed(feed, happened, settings):
    """On SQLite the second writer waits for the first; on PostgreSQL the reader does."""
    # The database's would wait for the writers as well.
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    feed()
    begun, may_end = threading.Event(), threading.Event()

    def write_slowly():
        with transaction.atomic():
            ids = happened(1)
            begun.set()
            may_end.wait(10)
        connection.close()
        return ids

    def write_at_once():
        ids = happened(1)
        connection.close()
        return ids

    with ThreadPoolExecutor(2) as writers:
        slow = writers.submit(write_slowly)
        begun.wait(10)
        quick = writers.submit(write_at_once)
        wait([quick], timeout=1)
        early = feed().json()
        may_end.set()
        written = [*slow.result(), *quick.result()]

    late = feed(after=early["meta"]["next"]).json()
    assert [event["id"] for event in early["data"] + late["data"]] == written


def test_a_reader_misses_nothing_while_others_write(
    allegro, delivery, drain, open_checkout, paid_event, secret_key
):
    events = [numbered(paid_event, number) for number in range(WRITERS * SALES)]
    for event in events:
        open_checkout(event["data"]["object"]["id"])
    written = threading.Event()

    def page(cursor, limit):
        url = f"{allegro.url}/api/v1/events?after={cursor}&limit={limit}"
        answer = request("GET", url, headers={"Authorization": f"Bearer {secret_key}"})
        assert answer.status == 200, answer.body
        page = json.loads(answer.body)
        return [event["id"] for event in page["data"]], page["meta"]

    def read_on():
        """Everything, until nothing is left after the last was written."""
        read, cursor, is_last = [], "0", False
        while not is_last:
            is_last = written.is_set()
            ids, meta = page(cursor, 7)
            read += ids
            cursor, is_last = meta["next"], is_last and not meta["has_more"]
        return read

    with ThreadPoolExecutor(WRITERS) as writers, ThreadPoolExecutor(1) as readers:
        reading = readers.submit(read_on)
        answers = writers.map(lambda event: delivery(event)(), events)
        assert {answer.status for answer in answers} == {200}
        drain()
        written.set()
        read = reading.result()

    again, meta = page("0", 500)

    everything = set(PurchaseEvent.objects.values_list("id", flat=True))
    assert len(everything) == 3 * len(events)
    assert set(read) == everything
    assert len(read) == len(everything)
    assert again == read
    assert meta["has_more"] is False


@contextmanager
def long_transaction_of_another_database():
    """On PostgreSQL, whose transactions are numbered for all databases of a server together."""
    if connection.vendor != "postgresql":
        yield
        return
    url = database_url({**connection.settings_dict, "NAME": "postgres"})
    with psycopg.connect(url) as other:
        other.execute("SELECT pg_current_xact_id()")
        yield


def test_what_goes_on_in_another_database_holds_nothing_back(transactional_db, feed, happened):
    with long_transaction_of_another_database():
        new = happened(2)

        assert ids_in(feed()) == new


# --- restored into another server


@pytest.fixture
def restored(transactional_db, tenant, happened):
    """Events as they are after a dump was restored; returns their ids in the feed's order.

    This server has used the number of the first as well. And a dump was restored before: an
    endpoint that heard nothing yet has the lowest position there is.
    """
    NotificationEndpoint.objects.create(tenant=tenant, last_transaction_id=LOWEST)
    ids = happened(4)
    in_order = [ids[0], ids[2], ids[1], ids[3]]
    with connection.cursor() as cursor:
        cursor.execute(UNPROTECTED[connection.vendor][0])
        for number, event_id in zip([1, 2**40, 2**40 + 1, 2**40 + 2], in_order, strict=True):
            cursor.execute(
                "UPDATE purchases_purchaseevent SET transaction_id = %s WHERE id = %s",
                [number, event_id],
            )
        cursor.execute(UNPROTECTED[connection.vendor][1])
    return in_order


UNPROTECTED = {
    "sqlite": (
        "DROP TRIGGER purchases_purchaseevent_no_update",
        (
            "CREATE TRIGGER purchases_purchaseevent_no_update BEFORE UPDATE ON "
            "purchases_purchaseevent BEGIN SELECT RAISE(ABORT, 'this table is append-only'); END"
        ),
    ),
    "postgresql": tuple(
        f"ALTER TABLE purchases_purchaseevent {verb} TRIGGER purchases_purchaseevent_append_only"
        for verb in ("DISABLE", "ENABLE")
    ),
}


def ids_in(answer):
    return [event["id"] for event in answer.json()["data"]]


def test_restored_events_are_shown_before_new_ones_and_positions_hold(feed, restored, happened):
    new = happened(1)

    call_command("renumber_events", stdout=StringIO())
    call_command("renumber_events", stdout=StringIO())

    expected = {
        "postgresql": [*restored, *new],
        # One writer at a time: there is nothing to renumber, and nothing is held back.
        "sqlite": [*new, *restored],
    }[connection.vendor]
    assert ids_in(feed()) == expected
    assert ids_in(feed(after=expected[1])) == expected[2:]


def test_renumbered_lines_are_still_protected(restored):
    call_command("renumber_events", stdout=StringIO())

    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        PurchaseEvent.objects.update(type="purchase.failed")
