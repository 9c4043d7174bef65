"""What happened so far, by account, newest first."""

from dataclasses import asdict

from sandbox import money_back
from sandbox.lists import newest_first
from sandbox.objects import Json
from sandbox.pages import clock, money
from sandbox.stand_in import StandIn
from sandbox.state import Account

KEPT = 50


def summarize(sandbox: StandIn) -> Json:
    """The state as the control page and `GET /_sandbox/state` show it."""
    attempts: dict[str, list[Json]] = {}
    for attempt in sandbox.delivery.attempts:
        shown = {**asdict(attempt), "is_good": attempt.is_good, "time": clock(attempt.at)}
        attempts.setdefault(attempt.event_id, []).append(shown)
    held = {event["id"] for event in sandbox.delivery.collected}
    return {
        "accounts": [
            _account(sandbox, account, attempts, held)
            for account in sandbox.world.accounts.values()
        ],
        "delivery": asdict(sandbox.delivery.disturbance),
        "collected": len(sandbox.delivery.collected),
        "endpoints": [
            {"url": endpoint.url, "connect": endpoint.connect}
            for endpoint in sandbox.delivery.endpoints
        ],
        "faults": asdict(sandbox.faults),
    }


def _account(
    sandbox: StandIn, account: Account, attempts: dict[str, list[Json]], held: set[str]
) -> Json:
    events = newest_first(account, "event")
    return {
        "id": account.id,
        "name": account.name,
        "is_platform": sandbox.world.is_platform(account),
        "is_connected": account.is_connected,
        "charges_enabled": account.details["charges_enabled"],
        "sessions": [_session(item) for item in newest_first(account, "checkout.session")[:KEPT]],
        "payments": [
            _payment(account, item) for item in newest_first(account, "payment_intent")[:KEPT]
        ],
        "refunds": [_money_back(item) for item in newest_first(account, "refund")[:KEPT]],
        "disputes": [_money_back(item) for item in newest_first(account, "dispute")[:KEPT]],
        "events": [
            {
                "id": event["id"],
                "type": event["type"],
                "time": clock(event["created"]),
                "is_held": event["id"] in held,
                "is_dropped": event["id"] in sandbox.delivery.dropped,
                "attempts": attempts.get(event["id"], []),
            }
            for event in events[:KEPT]
        ],
    }


def _session(session: Json) -> Json:
    details = session["customer_details"] or {}
    return {
        "id": session["id"],
        "status": session["status"],
        "payment_status": session["payment_status"],
        "amount": session["amount_total"],
        "shown_amount": money(session["amount_total"], session["currency"]),
        "email": details.get("email"),
        "url": session["url"],
        "payment_intent": session["payment_intent"],
        "time": clock(session["created"]),
    }


def _payment(account: Account, intent: Json) -> Json:
    charge = account.table("charge").get(intent["latest_charge"], {})
    refunded = charge.get("amount_refunded", 0)
    return {
        "id": intent["id"],
        "status": intent["status"],
        "amount": intent["amount"],
        "shown_amount": money(intent["amount"], intent["currency"]),
        "refunded": refunded,
        "shown_refunded": money(refunded, intent["currency"]),
        "is_refundable": bool(charge.get("paid"))
        and not charge["refunded"]
        and not money_back.is_blocked(account, charge),
        "is_disputed": charge.get("disputed", False),
        "time": clock(intent["created"]),
    }


def _money_back(item: Json) -> Json:
    return {
        "id": item["id"],
        "status": item["status"],
        "amount": item["amount"],
        "shown_amount": money(item["amount"], item["currency"]),
        "payment_intent": item["payment_intent"],
        "is_closed": item["status"] in ("won", "lost", "warning_closed", "failed"),
        "is_inquiry": item["status"].startswith("warning_"),
        "time": clock(item["created"]),
    }
