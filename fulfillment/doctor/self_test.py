"""A signed event sent to our own public address, and looked for in our own inbox.

That it arrives proves that address, proxy, secret and database are those of one system.
"""

import json
import ssl
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from django.conf import settings

from fulfillment.doctor.findings import Finding, ok, problem
from fulfillment.doctor.stripe_side import WEBHOOK_PATH
from fulfillment.models import StripeEvent
from fulfillment.signatures import configured_secrets, sign

TIMEOUT_SECONDS = 5
ABOUT = "self-test"


def self_test() -> Iterator[Finding]:
    """The event stays in the inbox, as `allegro.self_test`, and leads to nothing."""
    if not configured_secrets():
        yield problem(ABOUT, "There is no webhook secret to sign with.")
        return
    url = settings.ALLEGRO_URL + WEBHOOK_PATH
    event_id = f"evt_selftest{uuid.uuid4().hex}"
    try:
        status = _post(url, _event(event_id))
    except ssl.SSLError as error:
        yield problem(
            ABOUT,
            f"{url} has no valid certificate ({error.reason}); Stripe does not accept it.",
            "Renew it, with its whole chain, at the proxy.",
        )
    except (OSError, HTTPException) as error:
        yield problem(
            ABOUT,
            f"Nothing answers at {url} ({type(error).__name__}).",
            "Start the server, or correct ALLEGRO_URL. Where this machine can't reach its own "
            "public address, use --no-self-test and resend an event at Stripe instead.",
        )
    else:
        record = StripeEvent.objects.defer("payload").filter(pk=event_id).first()
        yield _judge(url, status, record)


def _event(event_id: str) -> bytes:
    event = {
        "id": event_id,
        "object": "event",
        "type": StripeEvent.SELF_TEST,
        "api_version": settings.STRIPE_API_VERSION,
        "created": int(time.time()),
        "livemode": settings.STRIPE_LIVEMODE,
        "data": {"object": {"object": "self_test"}},
    }
    return json.dumps(event).encode()


def _post(url: str, body: bytes) -> int:
    """The status of the answer; a redirect is not followed, as Stripe follows none."""
    address = urlsplit(url)
    client = HTTPSConnection if address.scheme == "https" else HTTPConnection
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Stripe-Signature": sign(body, configured_secrets()[0]),
    }
    with closing(client(address.netloc, timeout=TIMEOUT_SECONDS)) as connection:
        connection.request("POST", address.path, body, headers)
        return connection.getresponse().status


def _judge(url: str, status: int, record: StripeEvent | None) -> Finding:
    if record and record.outcome == "unhandled_type":
        return ok(ABOUT, f"An event sent to {url} is in the inbox.")
    if record:
        return problem(
            ABOUT,
            f"The event is in the inbox, but {record.status} as {record.outcome}.",
            "The server runs with other settings than this command. Restart it.",
        )
    if status == 200:
        return problem(
            ABOUT,
            f"{url} answers 200, but the event is not in our inbox.",
            "The server runs with another STRIPE_WEBHOOK_SECRET or DATABASE_URL than this "
            "command, or is another system; its log line `webhook_delivery` says more.",
        )
    return problem(
        ABOUT,
        f"{url} answers {status}, where Stripe takes all but 2xx for a failure.",
        "Let the proxy pass this path on as it is: no redirect, no login, no rate limit.",
    )
