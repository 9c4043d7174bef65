"""`manage.py doctor`: it finds what is wrong, says what mends it, and leaves all as it is."""

import json
import os
import tempfile
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from fulfillment import spool
from fulfillment.handlers import HANDLERS
from fulfillment.models import RejectedDelivery, StripeEvent, Worker
from fulfillment.signatures import fingerprint
from tenants import signing
from tenants.models import Tenant
from tests.sandbox_server import CLIENT_ID, KEY, running_sandbox
from tests.server import free_port, running_server
from tests.stripe_stand_in import stripe_stand_in

URL = "https://allegro.example"
SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture(autouse=True)
def stripe(settings):
    """Stripe as it should be: one endpoint, ours."""
    settings.ALLEGRO_URL, settings.IS_HTTPS = URL, True
    with stripe_stand_in() as stripe:
        settings.STRIPE_API_BASE = stripe.url
        stripe.endpoints = [endpoint()]
        yield stripe


def endpoint(**fields):
    return {
        "id": "we_1",
        "object": "webhook_endpoint",
        "url": f"{URL}/api/webhooks/stripe",
        "status": "enabled",
        "enabled_events": ["*"],
        "api_version": "2026-10-28.endive",
        "application": "ca_test",
        **fields,
    }


@pytest.fixture
def doctor(db):
    """What it finds as `(level, text)`, by what was looked at; with the exit it makes of it."""

    def doctor(about=None, *arguments):
        output = StringIO()
        try:
            call_command("doctor", "--json", *(arguments or ["--no-self-test"]), stdout=output)
            has_failed = False
        except CommandError:
            has_failed = True
        findings = json.loads(output.getvalue())
        assert has_failed == any(finding["level"] == "problem" for finding in findings)
        return [
            (finding["level"], f"{finding['message']} {finding['remedy']}")
            for finding in findings
            if finding["about"] == about
        ]

    return doctor


def levels(findings):
    return [level for level, _ in findings]


# --- the command


def test_a_deployment_in_order_has_no_problem(tenant, account, deliver, paid_event, settings, db):
    Worker.objects.create(name="host:1")
    deliver(paid_event)
    output = StringIO()

    call_command("doctor", "--no-self-test", stdout=output)

    assert "problem" not in output.getvalue()
    assert "Secret 1 last matched a delivery" in output.getvalue()


def test_a_problem_is_printed_with_its_remedy_and_is_an_error(db):
    output = StringIO()

    with pytest.raises(CommandError, match="1 problems"):
        call_command("doctor", "--no-self-test", stdout=output)

    assert "problem  worker: None ever ran." in output.getvalue()
    assert "Keep `manage.py worker` running" in output.getvalue()


def test_no_secret_is_shown(doctor, settings):
    output = StringIO()
    with pytest.raises(CommandError):
        call_command("doctor", stdout=output)

    secrets = [settings.STRIPE_WEBHOOK_SECRET, settings.STRIPE_SECRET_KEY, settings.SECRET_KEY]
    assert not [secret for secret in secrets if secret in output.getvalue()]


# --- settings


def test_a_missing_secret_is_a_problem_and_not_a_refusal(doctor, settings):
    settings.STRIPE_WEBHOOK_SECRET = ""

    ((level, text),) = doctor("settings")

    assert level == "problem"
    assert "STRIPE_WEBHOOK_SECRET is not set" in text


@pytest.mark.parametrize(
    ("url", "is_live", "level"),
    [
        (URL, True, "ok"),
        ("http://allegro.example", True, "problem"),
        ("http://allegro.example", False, "warning"),
        ("http://localhost:8000", False, "ok"),
    ],
)
def test_the_address_is_https_where_it_counts(doctor, settings, url, is_live, level):
    settings.ALLEGRO_URL, settings.STRIPE_LIVEMODE = url, is_live

    assert levels(doctor("address")) == [level]


@pytest.mark.parametrize(
    ("hops", "is_https", "level"), [(0, True, "warning"), (1, True, "ok"), (0, False, "ok")]
)
def test_behind_a_proxy_the_callers_are_told_apart(doctor, settings, hops, is_https, level):
    settings.IS_HTTPS = is_https
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": hops}

    ((found, text),) = doctor("rate limits")

    assert found == level
    assert ("Set PROXY_HOPS" in text) == (level == "warning")


@pytest.mark.parametrize("token", ["", "short"])
def test_monitoring_needs_a_token(doctor, settings, token):
    settings.METRICS_TOKEN = token

    ((level, text),) = doctor("monitoring")

    assert level == "warning"
    assert "Set METRICS_TOKEN" in text


def test_keys_of_two_modes_are_found(doctor, settings):
    settings.STRIPE_PUBLISHABLE_KEY = "pk_live_allegro0000000000000000"

    assert levels(doctor("Stripe keys")) == ["problem"]


def test_accounts_of_the_other_mode_alone_are_found(doctor, account, settings):
    account.livemode = True
    account.save()

    ((level, text),) = doctor("Stripe accounts")

    assert level == "problem"
    assert "other mode" in text


def test_a_replaced_secret_key_is_found(doctor, settings):
    signing.create_signing_key()
    settings.SECRET_KEY = "another-secret-key-that-decrypts-nothing-0123456789"

    ((level, text),) = doctor("member tokens")

    assert level == "problem"
    assert "SECRET_KEY_FALLBACKS" in text


# --- what is stored where


@pytest.mark.django_db(transaction=True)
def test_a_database_that_may_lose_what_it_confirmed_is_found(doctor):
    weaken, restore = {
        "sqlite": ("PRAGMA synchronous = OFF", "PRAGMA synchronous = FULL"),
        "postgresql": ("SET synchronous_commit = off", "SET synchronous_commit = on"),
    }[connection.vendor]
    good = doctor("database")
    with connection.cursor() as cursor:
        cursor.execute(weaken)
        weak = doctor("database")
        cursor.execute(restore)

    assert levels(good) == ["ok", "ok"]
    assert levels(weak) == ["ok", "problem"]
    assert "synchronous" in weak[1][1]


def test_migrations_to_run_are_found(doctor):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'tenants'")

    ((level, text),) = doctor("database")

    assert level == "problem"
    assert "manage.py migrate" in text


def test_a_spool_that_others_can_read_is_found(doctor, spool_folder):
    spool_folder.mkdir(mode=0o755)

    findings = doctor("spool")

    assert ("problem", True) in [(level, "chmod 700" in text) for level, text in findings]


def test_a_spool_that_cannot_be_written_is_found(doctor, spool_folder):
    spool_folder.write_text("a file where the folder should be")

    ((level, text),) = doctor("spool")

    assert level == "problem"
    assert "WEBHOOK_SPOOL_DIR" in text


@pytest.mark.parametrize(
    ("responses", "level"), [("always_200", "problem"), ("store_or_503", "warning")]
)
def test_a_spool_in_memory_is_found(doctor, settings, responses, level):
    settings.STRIPE_WEBHOOK_RESPONSES = responses
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
        settings.WEBHOOK_SPOOL_DIR = f"{folder}/spool"

        findings = doctor("spool")

    assert levels(findings) == [level]
    assert "in memory" in findings[0][1]


def test_what_waits_in_the_spool_is_found(doctor, spool_folder):
    spool.store(b"{}")
    (spool_folder / "bad").mkdir()
    (spool_folder / "bad" / "x.evt").write_bytes(b"{}")

    texts = " ".join(text for _, text in doctor("spool"))

    assert "1 events wait" in texts
    assert "refused 1 events" in texts


@pytest.mark.parametrize(("ago", "level"), [(30, "ok"), (90, "problem")])
def test_a_worker_that_is_silent_for_a_minute_is_missed(doctor, ago, level):
    Worker.objects.create(name="host:1", seen_at=timezone.now() - timedelta(seconds=ago))

    assert levels(doctor("worker")) == [level]


# --- Stripe


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({"status": "disabled"}, "problem", "disabled"),
        ({"url": "https://elsewhere.example/hook"}, "problem", "no endpoint"),
        ({"enabled_events": ["charge.refunded"]}, "problem", "checkout.session.completed"),
        (
            {"enabled_events": [kind for kind in HANDLERS if kind != "refund.created"]},
            "warning",
            "does not get refund.created.",
        ),
        ({"api_version": "2019-12-03"}, "warning", "2019-12-03"),
        ({"application": None}, "warning", "does not say"),
    ],
)
def test_an_endpoint_that_is_set_up_otherwise_is_found(stripe, doctor, change, level, words):
    stripe.endpoints = [endpoint(**change)]

    level_found, text = min(doctor("webhook endpoint"), key=lambda finding: finding[0] == "ok")

    assert level_found == level
    assert words in text


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"url": f"{URL}/api/webhooks/stripe/"},
        {"enabled_events": list(HANDLERS)},
        {"api_version": None},
    ],
)
def test_an_endpoint_that_will_do_is_no_finding(stripe, doctor, change):
    stripe.endpoints = [endpoint(**change)]

    assert levels(doctor("webhook endpoint")) == ["ok"]


def test_an_event_of_an_account_proves_that_the_endpoint_gets_them(
    stripe, doctor, deliver, paid_event
):
    stripe.endpoints = [endpoint(application=None)]
    deliver(paid_event)

    ((level, text),) = doctor("webhook endpoint")

    assert level == "ok"
    assert "have arrived" in text


@pytest.mark.parametrize(("status", "words"), [(401, "refuses"), (403, "refuses"), (500, "asked")])
def test_a_stripe_that_says_no_is_a_finding(stripe, doctor, status, words):
    stripe.status = status

    ((level, text),) = doctor("Stripe")

    assert level == "problem"
    assert words in text


def test_a_stripe_that_is_not_there_is_a_finding(doctor, settings):
    settings.STRIPE_API_BASE = f"http://127.0.0.1:{free_port()}"

    ((level, text),) = doctor("Stripe")

    assert level == "problem"
    assert "APIConnectionError" in text


def test_the_sandbox_is_asked_like_stripe(doctor, settings):
    settings.STRIPE_SECRET_KEY, settings.STRIPE_CONNECT_CLIENT_ID = KEY, CLIENT_ID
    with running_sandbox(f"{settings.ALLEGRO_URL}/api/webhooks/stripe") as sandbox:
        settings.STRIPE_API_BASE = sandbox.url

        assert levels(doctor("webhook endpoint")) == ["ok"]
        assert levels(doctor("clock")) == ["ok", "ok"]


# --- deliveries


def test_a_secret_that_never_matched_is_told_from_one_that_did(
    doctor, deliver, paid_event, settings
):
    old, new = settings.STRIPE_WEBHOOK_SECRET, "whsec_test_of_the_new_endpoint_00"
    settings.STRIPE_WEBHOOK_SECRET = f"{new},{old}"
    deliver(paid_event, secret=old)

    first, second = doctor("webhook secrets")

    assert first[0] == "warning"
    assert "Secret 1 has matched no delivery" in first[1]
    assert second[0] == "ok"
    assert "Secret 2 last matched" in second[1]


def test_deliveries_that_match_no_secret_are_a_problem(doctor, deliver, paid_event):
    for _ in range(5):
        deliver(paid_event, secret="whsec_test_of_another_endpoint_000")

    level, text = doctor("webhook secrets")[0]

    assert level == "problem"
    assert "manage.py reverify" in text


def test_some_that_match_none_beside_others_are_a_warning(doctor, deliver, paid_event):
    deliver(paid_event, secret="whsec_test_of_another_endpoint_000")
    deliver(paid_event)

    assert levels(doctor("webhook secrets")) == ["warning", "ok"]


# --- tenants


def test_a_tenant_without_an_account_is_found(doctor, tenant):
    ((level, text),) = doctor("tenant acme")

    assert level == "warning"
    assert "No Stripe account" in text


def test_an_account_that_may_not_charge_is_found(doctor, account):
    account.charges_enabled, account.disabled_reason = False, "requirements.past_due"
    account.save()

    level, text = doctor("tenant acme")[0]

    assert level == "warning"
    assert "requirements.past_due" in text


def opened(open_checkout, minutes, **fields):
    open_checkout(f"cs_{minutes}", created_at=timezone.now() - timedelta(minutes=minutes), **fields)


@pytest.mark.parametrize(("minutes", "level"), [(10, "ok"), (20, "warning"), (25 * 60, "ok")])
def test_a_checkout_of_which_nothing_is_heard_is_found(doctor, open_checkout, minutes, level):
    opened(open_checkout, minutes)

    assert levels(doctor("tenant acme")) == [level]


def test_one_that_was_paid_and_of_which_nothing_was_heard_is_a_problem(doctor, open_checkout):
    opened(open_checkout, 20, status="complete")

    ((level, text),) = doctor("tenant acme")

    assert level == "problem"
    assert "connected accounts" in text


@pytest.mark.parametrize(("minutes", "level"), [(30, "warning"), (10, "ok")])
def test_an_event_of_the_account_since_then_ends_the_silence(
    doctor, open_checkout, account, minutes, level
):
    opened(open_checkout, 20)
    StripeEvent.objects.create(
        id="evt_1",
        payload=b"{}",
        channel="webhook",
        account_id=account.stripe_account_id,
        received_at=timezone.now() - timedelta(minutes=minutes),
    )

    assert levels(doctor("tenant acme")) == [level]


def test_a_disabled_tenant_is_not_looked_at(doctor, tenant):
    Tenant.objects.update(is_active=False)

    assert doctor("tenant acme") == []


# --- the self-test


@pytest.fixture
def live(transactional_db, settings, tmp_path):
    """Run a server with other settings than ours where given, at the address that we know."""

    def live(**environ):
        environ = {"WEBHOOK_SPOOL_DIR": os.fspath(tmp_path / "its-spool"), **environ}
        return running_server(workers=1, env=environ)

    return live


def examined(doctor, server, settings):
    settings.ALLEGRO_URL = server.url
    ((level, text),) = doctor("self-test", "--json")
    return level, text


def test_an_event_goes_round_the_whole_system(live, doctor, settings):
    with live() as server:
        level, text = examined(doctor, server, settings)

    record = StripeEvent.objects.get()
    assert (level, record.type, record.outcome) == ("ok", "allegro.self_test", "unhandled_type")
    assert server.url in text
    # It shows nothing about Stripe's own secret.
    assert levels(doctor("webhook secrets")) == ["warning"]
    assert record.signed_by == fingerprint(settings.STRIPE_WEBHOOK_SECRET)


def test_a_server_with_another_secret_is_found(live, doctor, settings):
    with live(STRIPE_WEBHOOK_SECRET="whsec_test_of_another_endpoint_000") as server:
        level, text = examined(doctor, server, settings)

    assert level == "problem"
    assert "STRIPE_WEBHOOK_SECRET" in text
    assert RejectedDelivery.objects.count() == 1


def test_a_server_with_another_database_is_found(live, doctor, settings, tmp_path):
    with live(DATABASE_URL=f"sqlite:///{tmp_path}/another.sqlite3") as server:
        level, text = examined(doctor, server, settings)

    assert level == "problem"
    assert "DATABASE_URL" in text


def test_a_server_of_the_other_mode_is_found(live, doctor, settings):
    with live(STRIPE_SECRET_KEY="sk_live_allegro0000000000000000") as server:
        level, text = examined(doctor, server, settings)

    assert level == "problem"
    assert "other_mode" in text


def test_no_server_is_a_finding(doctor, settings):
    settings.ALLEGRO_URL = f"http://127.0.0.1:{free_port()}"

    ((level, text),) = doctor("self-test", "--json")

    assert level == "problem"
    assert "ConnectionRefusedError" in text
    assert "--no-self-test" in text


@pytest.mark.parametrize("status", [301, 404, 503])
def test_another_answer_is_a_finding(stripe, doctor, settings, status):
    settings.ALLEGRO_URL, stripe.status = stripe.url, status

    ((level, text),) = doctor("self-test", "--json")

    assert level == "problem"
    assert f"answers {status}" in text
