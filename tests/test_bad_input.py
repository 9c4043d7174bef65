"""Whatever comes in gets a clear outcome, breaks nothing and leaves no half of anything."""

import copy
import functools
import json
import operator
import socket
from contextlib import contextmanager, suppress

import pytest
from django.db import transaction

from fulfillment.models import StripeEvent
from purchases.models import Entitlement, Purchase, PurchaseEvent
from tests.conftest import TOKEN, changed, sign, stripe_event

WHOLE, NONE = (1, 2, 3), (0, 0, 0)
MIB = 1024 * 1024


def bought():
    """How many purchases, entitlements and purchase events there are."""
    return tuple(model.objects.count() for model in (Purchase, Entitlement, PurchaseEvent))


def outcome():
    record = StripeEvent.objects.get()
    return str(record.status), record.outcome


# --- bodies that are not an event


def paid_body(old=b"", new=b""):
    """The paid event as bytes, with the first of one piece replaced by another."""
    body = json.dumps(stripe_event("checkout.session.completed.paid")).encode()
    return body.replace(old, new, 1)


AMOUNT = b'"amount_subtotal": 25000'
UNPARSABLE = {
    "empty": b"",
    "blank": b" \n",
    "text": b"hello",
    "cut_off": paid_body()[:-1],
    "two_objects": paid_body() + b"{}",
    "array": b"[%s]" % paid_body(),
    "null": b"null",
    "string": b'"evt_1"',
    "not_utf8": paid_body(b"Jenny", b"J\xffnny"),
    "utf16": paid_body().decode().encode("utf-16"),
    "raw_nul_in_text": paid_body(b"Jenny", b"J\x00nny"),
    "million_brackets": b"[" * 1_000_000,
    "million_braces": b'{"a":' * 200_000,
    "closed_brackets": b"[" * 500_000 + b"]" * 500_000,
    "65_levels": b'{"a":' * 65 + b"1" + b"}" * 65,
    "endless_quotes": b'"' * 1_000_000,
    "endless_escapes": b'"' + b"\\" * 1_000_001,
    "duplicate_id": paid_body(b'"id"', b'"id": "evt_other", "id"'),
    "duplicate_amount": paid_body(AMOUNT, b'"amount_subtotal": 1, ' + AMOUNT),
    "nan": paid_body(AMOUNT, b'"amount_subtotal": NaN'),
    "infinity": paid_body(AMOUNT, b'"amount_subtotal": -Infinity'),
    "float_overflow": paid_body(AMOUNT, b'"amount_subtotal": 1e999'),
    "31_digits": paid_body(AMOUNT, b'"amount_subtotal": 1' + b"0" * 30),
    "100000_digits": paid_body(AMOUNT, b'"amount_subtotal": ' + b"9" * 100_000),
}


@pytest.mark.parametrize("name", UNPARSABLE)
def test_a_body_that_cannot_be_read_is_held(name, deliver, checkout):
    response = deliver(UNPARSABLE[name])

    record = StripeEvent.objects.get()
    assert (response.status_code, outcome()) == (200, ("held", "unparsable"))
    assert record.id.startswith("sha256:")
    assert bytes(record.payload) == UNPARSABLE[name]


@pytest.mark.parametrize("name", ["empty", "cut_off", "million_brackets", "nan"])
def test_the_same_bad_body_again_is_one_record(name, deliver):
    deliver(UNPARSABLE[name])

    response = deliver(UNPARSABLE[name])

    assert response.status_code == 200
    assert StripeEvent.objects.count() == 1


@pytest.mark.parametrize(
    ("mode", "status"), [("always_200", 200), ("store_or_503", 200), ("strict", 413)]
)
def test_a_body_of_more_than_a_mebibyte_is_not_read(mode, status, deliver, settings):
    settings.STRIPE_WEBHOOK_RESPONSES = mode

    response = deliver(paid_body().ljust(MIB + 1))

    assert response.status_code == status
    assert not StripeEvent.objects.exists()


def test_a_body_of_a_mebibyte_is_read(deliver, checkout):
    deliver(paid_body().ljust(MIB))

    assert outcome() == ("done", "fulfilled")


def test_bad_input_does_not_stand_in_the_way_of_the_next_event(deliver, recorded, checkout):
    event = stripe_event("checkout.session.completed.paid")
    bad = [*UNPARSABLE.values(), b"{}", b'{"id": "evt_2"}', paid_body().ljust(MIB + 1)]
    statuses = {deliver(body).status_code for body in bad}

    deliver(event)

    assert statuses == {200}
    assert recorded(event) == ("done", "fulfilled")


# --- values that are not what Stripe sends


AMOUNTS = [-1, 1_000_000_000_000, 10**29, 25000.0, "25000", True, [25000], {"amount": 25000}]


@pytest.mark.parametrize("field", ["amount_subtotal", "amount_total"])
@pytest.mark.parametrize("amount", AMOUNTS, ids=str)
def test_what_is_no_amount_buys_nothing(amount, field, deliver, checkout, paid_event):
    response = deliver(changed(paid_event, **{field: amount}))

    assert (response.status_code, outcome()) == (200, ("held", "malformed"))
    assert bought() == NONE


@pytest.mark.parametrize("amount", [0, 999_999_999_999])
def test_an_amount_at_the_bounds_is_compared(amount, deliver, checkout, paid_event):
    deliver(changed(paid_event, amount_subtotal=amount))

    assert outcome() == ("held", "amount_mismatch")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("Jen\0ny", "Jen\N{REPLACEMENT CHARACTER}ny"),
        ("Jen\ud800ny", "Jen\N{REPLACEMENT CHARACTER}ny"),
        ("\udc00\ud800", "\N{REPLACEMENT CHARACTER}" * 2),
        ("Zoë 🎻", "Zoë 🎻"),
        ("x" * 300, "x" * 200),
        (None, ""),
        ([], ""),
    ],
)
def test_a_name_is_made_storable(name, kept, deliver, checkout, paid_event):
    deliver(changed(paid_event, customer_details={"email": "member@example.com", "name": name}))

    assert outcome() == ("done", "fulfilled")
    assert Purchase.objects.get().member.name == kept


@pytest.mark.parametrize("bad", ["\0", "\ud800", " ", "x" * 256], ids=repr)
@pytest.mark.parametrize("field", ["id", "payment_intent"])
def test_an_identifier_is_never_altered(field, bad, deliver, checkout, paid_event):
    deliver(changed(paid_event, **{field: f"cs_{bad}"}))

    assert outcome() == ("held", "malformed")
    assert bought() == NONE


@pytest.mark.parametrize("bad", ["\0", "\ud800"], ids=repr)
def test_a_charge_in_no_currency_is_held(bad, deliver, account):
    deliver(changed(stripe_event("charge.succeeded"), currency=bad))

    assert outcome() == ("held", "malformed")


@pytest.mark.parametrize("bad", ["", "evt_\0", "evt_\ud800", "x" * 256, 7, None], ids=repr)
def test_an_event_without_a_usable_id_is_kept_by_its_hash(bad, deliver, checkout, paid_event):
    response = deliver({**paid_event, "id": bad})

    assert (response.status_code, outcome()) == (200, ("held", "malformed"))
    assert StripeEvent.objects.get().id.startswith("sha256:")


@pytest.mark.parametrize(
    "email", ["no-address", "a@b", "\0@example.com", "\ud800@example.com", f"{'x' * 250}@a.com", 7]
)
def test_what_is_no_email_makes_no_member(email, deliver, checkout, paid_event):
    deliver(changed(paid_event, customer_details={"email": email, "name": "Jenny"}))

    assert outcome() == ("held", "malformed")
    assert bought() == NONE


def test_without_an_email_there_is_nobody_to_give_it_to(deliver, checkout, paid_event):
    deliver(changed(paid_event, customer_details=None))

    assert outcome() == ("held", "no_email")
    assert bought() == NONE


@pytest.mark.parametrize("metadata", [None, {}])
def test_without_metadata_our_checkout_decides(metadata, deliver, checkout, paid_event):
    deliver(changed(paid_event, metadata=metadata))

    assert outcome() == ("done", "fulfilled")


@pytest.mark.parametrize("metadata", [None, {}])
def test_without_metadata_and_checkout_it_is_not_ours(metadata, deliver, account, paid_event):
    deliver(changed(paid_event, metadata=metadata))

    assert outcome() == ("ignored", "not_ours")


# --- wrong types everywhere


WRONG = [None, 0, -1, 1.5, True, "", "\0", "\ud800", [], {}, 10**12, "x" * 300]
# The fields that decide something, below the envelope and below the session.
READ = {
    *("id", "type", "account", "api_version", "created", "livemode", "data", "data.object"),
    *(
        f"data.object.{name}"
        for name in (
            *("id", "mode", "status", "payment_status", "payment_intent", "currency"),
            *("amount_subtotal", "amount_total", "customer_email", "livemode"),
            *("customer_details", "customer_details.email", "customer_details.name"),
            *("metadata", "metadata.tenant_id", "metadata.package", "metadata.credits"),
        )
    ),
}


def paths(value, parent=""):
    """The path of every value in a JSON object, such as `data.object.metadata`."""
    for key, child in value.items():
        yield f"{parent}{key}"
        if isinstance(child, dict):
            yield from paths(child, f"{parent}{key}.")


def replaced(event, wrong, *at):
    event = copy.deepcopy(event)
    for path in at:
        *parents, key = path.split(".")
        functools.reduce(operator.getitem, parents, event)[key] = wrong
    return event


@contextmanager
def rolled_back():
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.mark.parametrize("path", sorted(READ))
def test_a_wrong_type_leaves_a_whole_purchase_or_none(path, deliver, checkout, paid_event):
    for wrong in WRONG:
        with rolled_back():
            response = deliver(replaced(paid_event, wrong, path))

            status, _ = left = outcome()
            assert response.status_code == 200, wrong
            assert status in ("done", "ignored", "held"), wrong
            assert bought() == (WHOLE if left == ("done", "fulfilled") else NONE), wrong


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: repr(wrong)[:20])
@pytest.mark.parametrize("is_leaf", [True, False])
def test_a_field_that_decides_nothing_may_have_any_type(
    is_leaf, wrong, deliver, checkout, paid_event
):
    unread = [path for path in paths(paid_event) if path not in READ]
    parents = {path.rpartition(".")[0] for path in unread}
    outermost = [path for path in unread if path.rpartition(".")[0] in {"", *READ}]
    leaves = [path for path in unread if path not in parents]

    deliver(replaced(paid_event, wrong, *(leaves if is_leaf else outermost)))

    assert outcome() == ("done", "fulfilled")
    assert bought() == WHOLE


# --- the API


@pytest.fixture
def exchange(client, publishable_key):
    def exchange(body):
        return client.post(
            "/api/purchases/exchange",
            body,
            content_type="application/json",
            headers={"Authorization": f"Bearer {publishable_key}"},
        )

    return exchange


NO_REQUESTS = {
    **UNPARSABLE,
    "too_large": b'{"token": "x"}'.ljust(MIB + 1),
    "no_token": b"{}",
    "duplicate_token": b'{"token": "x", "token": "y"}',
    "deep_token": b'{"token": %s}' % (b"[" * 64 + b"]" * 64),
    "null_verifier": b'{"token": "x", "verifier": null}',
    "surrogate_verifier": b'{"token": "x", "verifier": "\\ud800"}',
    "unknown_token": b'{"token": "x", "verifier": 7}',
}


@pytest.mark.parametrize("name", NO_REQUESTS)
def test_a_bad_request_is_told_what_is_wrong(name, exchange):
    response = exchange(NO_REQUESTS[name])

    assert response.status_code == 400
    assert response.json()["error"]["code"] == 400
    assert response.json()["error"]["message"]


@pytest.mark.parametrize("token", WRONG, ids=repr)
def test_a_token_of_another_type_is_refused(token, exchange):
    response = exchange(json.dumps({"token": token}))

    assert response.status_code == 400
    assert response.json()["error"]["type"] in ("invalid_request", "invalid_token")


@pytest.mark.parametrize("name", NO_REQUESTS)
def test_a_bad_refresh_is_told_what_is_wrong(name, client, db):
    response = client.post(
        "/api/members/token/refresh", NO_REQUESTS[name], content_type="application/json"
    )

    assert response.status_code == 400
    assert response.json()["error"]["code"] == 400


def test_a_bad_request_leaves_the_token_as_it_was(exchange, deliver, checkout, paid_event):
    deliver(paid_event)
    exchange(json.dumps({"token": TOKEN, "verifier": "\0"}))

    checkout.refresh_from_db()
    assert checkout.exchanged_at is None


@pytest.mark.parametrize(
    ("address", "kind"),
    [("/api/v1/purchases?" + "a&" * 1001, (400, "parse_error")), ("/api/x/", (404, "not_found"))],
    ids=["1001_parameters", "no_such_call"],
)
def test_what_reaches_no_call_is_answered_in_the_envelope_too(address, kind, client, db):
    response = client.get(address)

    error = response.json()["error"]
    assert (response.status_code, error["type"]) == kind
    assert (error["code"], error["details"]) == (kind[0], {})


# --- through a real server: lengths, chunks and connections that break


def send(allegro, body, *headers):
    """Send raw bytes, stop sending, and return the status of the answer; None without one."""
    head = [b"POST /api/webhooks/stripe HTTP/1.1", b"Host: 127.0.0.1", b"Connection: close"]
    with socket.create_connection(("127.0.0.1", allegro.port), timeout=30) as connection:
        # The server may answer and hang up before it has read the whole of a huge body.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(b"\r\n".join([*head, *headers, b"", body]))
            connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").readline()
    return int(answer.split()[1]) if answer else None


def signature(body):
    return b"Stripe-Signature: " + sign(body).encode()


def in_chunks(body, size=1000):
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])


CHUNKED = b"Transfer-Encoding: chunked"


@pytest.mark.django_db(transaction=True)
def test_a_chunked_body_is_read_whole(allegro, checkout):
    body = paid_body()

    status = send(allegro, in_chunks(body), CHUNKED, signature(body))

    assert (status, outcome()) == (200, ("done", "fulfilled"))


@pytest.mark.parametrize("length", [MIB, MIB + 1, 10 * MIB])
@pytest.mark.django_db(transaction=True)
def test_a_chunked_body_may_have_a_mebibyte(length, allegro, checkout):
    body = paid_body().ljust(length)

    status = send(allegro, in_chunks(body, size=65536), CHUNKED, signature(body))

    assert status == 200
    assert bought() == (WHOLE if length == MIB else NONE)


@pytest.mark.django_db(transaction=True)
def test_ten_megabytes_are_answered_and_not_kept(allegro, checkout):
    body = paid_body().ljust(10 * MIB)

    status = send(allegro, body, b"Content-Length: %d" % len(body), signature(body))

    assert status == 200
    assert not StripeEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_body_that_was_cut_short_is_not_acknowledged(allegro, checkout):
    body = paid_body()

    status = send(allegro, body[:-1], b"Content-Length: %d" % len(body), signature(body))

    assert status not in range(200, 300)
    assert not StripeEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_chunked_body_that_was_cut_short_is_not_acknowledged(allegro, checkout):
    body = paid_body()

    status = send(allegro, in_chunks(body)[:-100], CHUNKED, signature(body))

    assert status not in range(200, 300)
    assert not StripeEvent.objects.exists()


@pytest.mark.parametrize("length", [b"-1", b"abc", b"1e3", b"", b"99999999999999999999"])
@pytest.mark.django_db(transaction=True)
def test_a_length_that_is_none_is_no_delivery(length, allegro, checkout):
    body = paid_body()

    send(allegro, body, b"Content-Length: " + length, signature(body))

    assert bought() == NONE
    assert send(allegro, in_chunks(body), CHUNKED, signature(body)) == 200
