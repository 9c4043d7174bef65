"""What Prometheus reads, and the alerts that are made of it."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from fulfillment import spool
from fulfillment.models import Reconciliation, RejectedDelivery, StripeEvent, Worker
from purchases.models import NotificationDelivery, NotificationEndpoint, PurchaseEvent

ROOT = Path(__file__).parent.parent
OPERATING = (ROOT / "docs" / "operating.md").read_text()
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "docs" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])


@pytest.fixture
def scrape(client, db):
    """The samples by name and labels, which come sorted: `("…_deliveries", outcome, status)`."""

    def scrape():
        response = client.get(
            "/metrics", headers={"Authorization": "Bearer test-metrics-token-0123456789"}
        )
        assert response["Content-Type"].startswith("text/plain; version=0.0.4")
        families = text_string_to_metric_families(response.text)
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in families
            for sample in family.samples
        }

    return scrape


def event(number, **fields):
    return StripeEvent.objects.create(
        id=f"evt_{number}", payload=b"{}", channel="webhook", **fields
    )


def test_an_empty_deployment_has_figures(scrape):
    figures = scrape()

    assert figures["allegro_database_up",] == 1
    assert figures["allegro_events_unsettled", "failed"] == 0
    assert figures["allegro_webhook_red",] == 0
    assert figures["allegro_worker_seen_timestamp_seconds",] == 0


def test_unsettled_events_are_counted(scrape):
    ago = timezone.now() - timedelta(minutes=7)
    event(1, status="failed", outcome="KeyError", received_at=ago, next_attempt_at=ago)
    event(2, status="held", outcome="amount_mismatch", received_at=ago - timedelta(days=1))
    event(3, status="held", outcome="amount_mismatch")

    figures = scrape()

    assert figures["allegro_events_unsettled", "failed"] == 1
    assert figures["allegro_events_unsettled", "held"] == 2
    assert figures["allegro_events_held", "amount_mismatch"] == 2
    assert 420 <= figures["allegro_event_oldest_due_seconds",] < 450


def test_deliveries_are_those_of_the_last_five_minutes(scrape):
    now = timezone.now()
    for number in range(20):
        start = now - timedelta(minutes=1)
        event(
            number,
            status="done",
            outcome="fulfilled",
            received_at=start,
            settled_at=start + timedelta(milliseconds=100 * number),
        )
    old = now - timedelta(minutes=6)
    event("old", status="done", outcome="fulfilled", received_at=old, settled_at=now)

    figures = scrape()

    assert figures["allegro_webhook_deliveries", "fulfilled", "done"] == 20
    assert figures["allegro_webhook_latency_seconds", "0.95"] == pytest.approx(1.8)
    assert figures["allegro_webhook_latency_seconds", "1.0"] == pytest.approx(1.9)
    assert figures["allegro_webhook_last_accepted_timestamp_seconds",] == pytest.approx(
        (now - timedelta(minutes=1)).timestamp()
    )


def test_rejected_deliveries_turn_it_red(scrape):
    for _ in range(5):
        RejectedDelivery.objects.create(body=b"{}", signature="t=1", reason="no secret")

    figures = scrape()

    assert figures["allegro_webhook_rejected",] == 5
    assert figures["allegro_webhook_red",] == 1


def test_the_spool_is_measured(scrape, spool_folder):
    spool.store(b"12345")
    (spool_folder / "bad").mkdir()
    (spool_folder / "bad" / "x.evt").write_bytes(b"{}")

    figures = scrape()

    assert (figures["allegro_spool_files",], figures["allegro_spool_bytes",]) == (1, 5)
    assert figures["allegro_spool_refused_files",] == 1


def test_a_spool_that_cannot_be_written_is_told(scrape, spool_folder):
    spool_folder.write_text("a file where the folder should be")

    assert scrape()["allegro_spool_writable",] == 0


def test_worker_reconciliation_sweep_and_notifications_are_told(
    scrape, tenant, open_checkout, settings
):
    now = timezone.now()
    Worker.objects.create(name="host:1", seen_at=now)
    Worker.objects.create(name="host:2", seen_at=now - timedelta(minutes=2))
    for number in (1, 2):
        Reconciliation.objects.create(
            account_id=f"acct_{number}",
            livemode=False,
            finished_at=now - timedelta(hours=number),
            events_missing=number,
            missing_total=10 * number,
            error="StripeUnavailable" if number == 2 else "",
        )
    open_checkout("cs_late", sweep_at=now - timedelta(minutes=6))
    open_checkout("cs_soon", sweep_at=now - timedelta(minutes=4))
    endpoint = NotificationEndpoint.objects.create(
        tenant=tenant, url="https://acme.example/hook", secret_encrypted=b""
    )
    told = PurchaseEvent.objects.create(tenant=tenant, type="purchase.completed", data={})
    NotificationDelivery.objects.create(
        endpoint=endpoint, event=told, created_at=now - timedelta(hours=2)
    )

    figures = scrape()

    assert figures["allegro_workers",] == 1
    assert figures["allegro_worker_seen_timestamp_seconds",] == pytest.approx(now.timestamp())
    assert figures["allegro_reconciliation_timestamp_seconds",] == pytest.approx(
        now.timestamp() - 3600
    )
    assert figures["allegro_reconciliation_missing",] == 3
    assert figures["allegro_reconciliation_found_total",] == 30
    assert figures["allegro_reconciliation_errors",] == 1
    assert figures["allegro_checkouts_overdue",] == 1
    assert figures["allegro_notifications_pending",] == 1
    assert 7200 <= figures["allegro_notification_oldest_seconds",] < 7300


def test_a_scrape_costs_few_statements_however_many_events(scrape, django_assert_max_num_queries):
    for number in range(30):
        event(number, status="held", outcome=f"reason_{number}")

    with django_assert_max_num_queries(12):
        scrape()


# --- the alerts


NAMES = re.compile(r"\ballegro_\w+")


@each_rule
def test_an_alert_is_made_of_figures_that_there_are(rule, scrape):
    event(1, status="held", outcome="gave_up")
    event(2, status="done", outcome="fulfilled", settled_at=timezone.now())

    exposed = {name for name, *_ in scrape()}

    named = set(NAMES.findall(rule["expr"]))
    assert named
    assert named <= exposed


@each_rule
def test_an_expression_compares_and_its_brackets_match(rule):
    expression = re.sub(r'"[^"]*"', '""', rule["expr"])
    open_brackets = []
    for character in expression:
        if character in "([{":
            open_brackets.append(")]}"["([{".index(character)])
        elif character in ")]}":
            assert open_brackets.pop() == character

    assert not open_brackets
    assert expression.startswith("absent(") or re.search(r"(==|>|<|>=|<=|!=) *\d", expression)


@each_rule
def test_an_alert_says_what_is_the_matter_and_where_to_read_on(rule):
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook"] == f"docs/operating.md#{rule['alert'].lower()}"
    assert f"\n### {rule['alert']}\n" in OPERATING


def test_each_alert_has_a_name_of_its_own():
    names = [rule["alert"] for rule in RULES]

    assert len(names) == len(set(names))
