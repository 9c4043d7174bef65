"""The operators' pages: what they show, what they let be done, and what they cost."""

import html
import json
import re
from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from fulfillment.models import Checkout, Reconciliation, RejectedDelivery, StripeEvent, Worker
from purchases import amounts, catalog
from purchases.models import (
    Charge,
    CreditEntry,
    CreditPackage,
    Dispute,
    Entitlement,
    NotificationDelivery,
    NotificationEndpoint,
    Offer,
    Plan,
    Product,
    Purchase,
    PurchaseEvent,
    Refund,
)
from tenants.keys import create_key
from tenants.models import (
    ApiKey,
    ConnectAttempt,
    Member,
    MemberSession,
    PaymentAccount,
    SigningKey,
    Tenant,
    TenantUser,
)
from tests.conftest import ACCOUNT_ID, changed

MODELS = [
    model
    for app in ("tenants", "purchases", "fulfillment")
    for model in apps.get_app_config(app).get_models()
]
READ_ONLY = [
    ApiKey, MemberSession, SigningKey, Purchase, Charge, Refund, Dispute, Entitlement, CreditEntry,
    PurchaseEvent, StripeEvent, Checkout, ConnectAttempt, NotificationEndpoint,
    NotificationDelivery, RejectedDelivery, Reconciliation, Worker,
]  # fmt: skip
NEVER_ADDED = [*(model for model in READ_ONLY if model is not ApiKey), Member, Plan]
NEVER_DELETED = [*READ_ONLY, Member, PaymentAccount]
SECRET = "s3cret-token_that-signs-a-buyer-in"


def page_of(target):
    """The address of a row's page, or of the list of a model's rows."""
    name = f"admin:{target._meta.app_label}_{target._meta.model_name}"
    if isinstance(target, type):
        return reverse(f"{name}_changelist")
    return reverse(f"{name}_change", args=[quote(target.pk)])


def every(model):
    return pytest.mark.parametrize("model", model, ids=lambda model: model.__name__)


@pytest.fixture
def furnish(django_user_model, db):
    """Add a tenant with a row of every model; a second call adds another tenant with as many."""

    def furnish(number, name="Name"):
        tenant = Tenant.objects.create(slug=f"tenant-{number}", name=name)
        user = django_user_model.objects.create(username=f"u{number}")
        TenantUser.objects.create(tenant=tenant, user=user, role="admin")
        ConnectAttempt.objects.create(
            tenant=tenant, user=user, state_sha256=f"{number}", expires_at=timezone.now()
        )
        PaymentAccount.objects.create(
            tenant=tenant, stripe_account_id=f"acct_{number}", livemode=False, display_name=name
        )
        create_key(tenant, ApiKey.Kind.SECRET)
        SigningKey.objects.create(kid=f"kid-{number}", private_key_encrypted=b"", public_key="")
        CreditPackage.objects.create(key=f"package-{number}", credits=1, amount=1, currency="eur")
        offer = Offer.objects.create(tenant=tenant, slug="offer", name=name)
        member = Member.objects.create(
            tenant=tenant, email=f"m{number}@example.com", external_id=f"crm-{number}", name=name
        )
        sell(offer, member, f"{number}", name)
        endpoint = NotificationEndpoint.objects.create(
            tenant=tenant,
            url=f"https://tenant-{number}.example/hook",
            secret_encrypted=b"",
            disabled_reason=name[:200],
        )
        NotificationDelivery.objects.create(
            endpoint=endpoint, event=tenant.purchase_events.get(), error=name[:200]
        )
        RejectedDelivery.objects.create(
            body=name.encode(), signature=name, reason=f"{number} {name}"[:255]
        )
        Reconciliation.objects.create(account_id=f"acct_{number}", livemode=False, error=name[:255])
        Worker.objects.create(name=f"host-{number}:17")
        return tenant

    return furnish


def sell(offer, member, key, name="Name"):
    """Add a product and its plan to the offer, and what is left behind when the plan is bought."""
    tenant = offer.tenant
    product = Product.objects.create(tenant=tenant, slug=f"product-{key}", name=name)
    plan = Plan.objects.create(offer=offer, name=name, amount=25000, currency="eur")
    plan.products.add(product)
    sold = {
        "tenant": tenant,
        "member": member,
        "plan": plan,
        "account_id": f"acct_{key}",
        "livemode": False,
    }
    purchase = Purchase.objects.create(
        **sold,
        snapshot=catalog.snapshot_of_plan(plan),
        checkout_session_id=f"cs_{key}",
        payment_intent_id=f"pi_{key}",
        charge_id=f"ch_{key}",
        amount_subtotal=25000,
        amount_total=29750,
        currency="eur",
        payment_status="paid",
        status="paid",
        fulfilled_at=timezone.now(),
    )
    session = MemberSession.objects.create(
        member=member,
        authenticated=True,
        refresh_family=purchase.id,
        expires_at=timezone.now(),
    )
    Checkout.objects.create(
        **sold,
        snapshot=purchase.snapshot,
        stripe_session_id=f"cs_{key}",
        token_sha256=key,
        purchase=purchase,
        member_session=session,
        expires_at=timezone.now(),
    )
    leave_traces(purchase, product, key, name)
    return purchase


def leave_traces(purchase, product, key, name="Name"):
    """Add a charge, a refund, a dispute, an entitlement, a credit, a line of the log, an event."""
    whose = {"tenant": purchase.tenant, "purchase": purchase}
    Charge.objects.create(
        id=f"ch_{key}",
        account_id=purchase.account_id,
        payment_intent_id=purchase.payment_intent_id,
        livemode=False,
        amount=29750,
        currency="eur",
        status="succeeded",
        failure_code=name[:255],
    )
    reversal = {
        "account_id": purchase.account_id,
        "payment_intent_id": purchase.payment_intent_id,
        "amount": 1250,
        "status": name[:32],
    }
    Refund.objects.create(id=f"re_{key}", **reversal)
    Dispute.objects.create(id=f"du_{key}", status_at=timezone.now(), **reversal)
    CreditEntry.objects.create(
        **whose,
        member=purchase.member,
        kind="adjustment",
        amount=7,
        balance_after=7,
        idempotency_key=f"key-{key} {name}"[:255],
    )
    Entitlement.objects.create(
        **whose,
        member=purchase.member,
        product=product,
        starts_at=timezone.now(),
        reason=name[:200],
    )
    PurchaseEvent.objects.create(
        **whose, member=purchase.member, type="purchase.completed", data={"name": name}
    )
    StripeEvent.objects.create(
        **whose,
        id=f"evt_{key}",
        object_id=f"obj_{key}",
        account_id=purchase.account_id,
        type=name[:255],
        error=name,
        payload=json.dumps({"name": name}).encode(),
        channel="webhook",
    )


def queries_of(client, url):
    with CaptureQueriesContext(connection) as queries:
        assert client.get(url).status_code == 200
    return len(queries)


# --- every page


@every(MODELS)
def test_every_model_has_pages(model):
    assert admin.site.is_registered(model)


@every(MODELS)
def test_list_and_detail_pages_open(admin_client, furnish, model):
    furnish(1)

    pages = [admin_client.get(page_of(target)) for target in (model, model.objects.get())]

    assert [page.status_code for page in pages] == [200, 200]


@every(MODELS)
def test_a_list_costs_the_same_whatever_its_length(admin_client, furnish, model):
    furnish(0)
    furnish(1)
    admin_client.get(page_of(model))
    with_two = queries_of(admin_client, page_of(model))

    [furnish(number) for number in range(2, 12)]

    assert model.objects.count() == 12
    assert queries_of(admin_client, page_of(model)) == with_two


@every(MODELS)
def test_a_row_costs_the_same_however_much_hangs_on_it(admin_client, furnish, model):
    tenant = furnish(0)
    offer, member = tenant.offers.get(), tenant.members.get()
    purchase, url = tenant.purchases.get(), page_of(model.objects.get())
    crowd(offer, member, purchase, range(2))
    admin_client.get(url)
    with_few = queries_of(admin_client, url)

    crowd(offer, member, purchase, range(2, 12))

    assert queries_of(admin_client, url) == with_few


def crowd(offer, member, purchase, numbers):
    """Add to the member and the offer a purchase for each number, and to the purchase traces."""
    for number in numbers:
        other = sell(offer, member, f"more-{number}")
        product = other.entitlements.get().product
        leave_traces(purchase, product, f"trace-{number}")


@every(MODELS)
@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "=HYPERLINK('x')&<b>", "<" * 200])
def test_hostile_text_is_shown_as_text(admin_client, furnish, model, name):
    furnish(1, name)

    pages = [admin_client.get(page_of(target)) for target in (model, model.objects.get())]

    assert [name in page.text for page in pages] == [False, False]


@pytest.mark.parametrize("model", [Member, Product, Purchase, StripeEvent])
def test_a_name_is_shown_escaped(admin_client, furnish, model):
    furnish(1, "<script>alert(1)</script>")

    page = admin_client.get(page_of(model.objects.get()))

    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text


# --- finding


FOUND_BY = {
    StripeEvent: "evt_1 obj_1 acct_1 cs_1 pi_1 m1@example.com",
    Checkout: "cs_1 acct_1 m1@example.com {id}",
    Purchase: "cs_1 pi_1 ch_1 acct_1 m1@example.com {id}",
    Charge: "ch_1 pi_1 acct_1",
    Refund: "re_1 pi_1 acct_1",
    Dispute: "du_1 pi_1 acct_1",
    CreditEntry: "cs_1 pi_1 m1@example.com tenant-1 key-1",
    Entitlement: "cs_1 pi_1 m1@example.com {id}",
    PurchaseEvent: "cs_1 pi_1 m1@example.com",
    Member: "m1@example.com crm-1 {id}",
    MemberSession: "m1@example.com crm-1 {id}",
    PaymentAccount: "acct_1 tenant-1",
    Tenant: "acct_1 tenant-1 {id}",
    ApiKey: "tenant-1",
    TenantUser: "u1 tenant-1",
    Product: "product-1 tenant-1",
    Offer: "tenant-1",
    Plan: "tenant-1 {id}",
    CreditPackage: "package-1",
    SigningKey: "kid-1",
    ConnectAttempt: "tenant-1 u1",
    NotificationEndpoint: "tenant-1 {id}",
    NotificationDelivery: "tenant-1 {id}",
    Reconciliation: "acct_1",
    Worker: "host-1",
}


@pytest.mark.parametrize(
    ("model", "word"), [(model, word) for model in FOUND_BY for word in FOUND_BY[model].split()]
)
def test_rows_are_found_by_each_of_their_ids(admin_client, furnish, model, word):
    furnish(1)
    row = model.objects.get()
    furnish(2)

    page = admin_client.get(page_of(model), {"q": word.format(id=row.pk)})

    assert list(page.context["cl"].queryset) == [row]


# --- what may not be done


@every(NEVER_ADDED)
def test_rows_of_the_machine_are_not_added(admin_client, furnish, model):
    response = admin_client.post(page_of(model) + "add/")

    assert response.status_code == 403


@every(READ_ONLY)
def test_rows_of_the_machine_are_not_changed(admin_client, furnish, model):
    furnish(1)

    response = admin_client.post(page_of(model.objects.get()), {"status": "done"})

    assert response.status_code == 403


@every(NEVER_DELETED)
def test_rows_of_the_machine_are_not_deleted(admin_client, furnish, model):
    furnish(1)

    response = admin_client.post(
        page_of(model.objects.get()).replace("change", "delete"), {"post": "yes"}
    )

    assert response.status_code == 403
    assert model.objects.exists()


@every([ApiKey, MemberSession, Checkout, SigningKey])
def test_hashes_and_keys_are_never_shown(admin_client, furnish, model):
    furnish(1)
    ApiKey.objects.update(sha256="hash-of-a-secret")
    MemberSession.objects.update(refresh_token_sha256="hash-of-a-secret")
    Checkout.objects.update(token_sha256="hash-of-a-secret", verifier_sha256="hash-of-a-secret")
    SigningKey.objects.update(private_key_encrypted=b"hash-of-a-secret")

    pages = [admin_client.get(page_of(target)) for target in (model, model.objects.get())]

    assert ["hash-of-a-secret" in page.text for page in pages] == [False, False]


# --- what people edit


def test_a_tenant_and_its_account_are_added(admin_client, db):
    admin_client.post(
        page_of(Tenant) + "add/",
        {
            "slug": "acme",
            "name": "Acme",
            "timezone": "UTC",
            "allowed_origins": "[]",
            "is_active": "on",
        },
    )
    tenant = Tenant.objects.get()

    admin_client.post(
        page_of(PaymentAccount) + "add/",
        {"tenant": tenant.pk, "stripe_account_id": ACCOUNT_ID, "charges_enabled": "on"},
    )

    account = PaymentAccount.objects.get()
    assert (account.tenant, account.stripe_account_id) == (tenant, ACCOUNT_ID)


def test_an_account_can_only_be_renamed(admin_client, account):
    admin_client.post(
        page_of(account),
        {"display_name": "Shop", "stripe_account_id": "acct_else", "livemode": "on"},
    )

    account.refresh_from_db()
    assert account.display_name == "Shop"
    assert (account.stripe_account_id, account.livemode) == (ACCOUNT_ID, False)


def test_a_second_active_account_is_refused_with_a_message(admin_client, account):
    response = admin_client.post(
        page_of(PaymentAccount) + "add/",
        {"tenant": account.tenant_id, "stripe_account_id": "acct_second"},
    )

    assert "paymentaccount_one_active_per_mode" in response.text


def formset(prefix, *, initial=0, rows=()):
    """What a browser posts for an inline."""
    fields = {f"{prefix}-TOTAL_FORMS": len(rows), f"{prefix}-INITIAL_FORMS": initial}
    for number, row in enumerate(rows):
        fields |= {f"{prefix}-{number}-{name}": value for name, value in row.items()}
    return fields


def member_form(member, **fields):
    return {
        "email": member.email,
        "name": member.name,
        **formset("entitlements"),
        **formset("purchases"),
        **fields,
    }


def test_a_members_name_and_address_are_corrected(admin_client, furnish):
    member = furnish(1).members.get()

    admin_client.post(page_of(member), member_form(member, email="new@example.com", name="New"))

    member.refresh_from_db()
    assert (member.email, member.name) == ("new@example.com", "New")


@pytest.mark.parametrize("email", ["M2@example.com", "no address"])
def test_an_impossible_address_is_refused_with_a_message(admin_client, furnish, email):
    member = furnish(1).members.get()
    Member.objects.create(tenant=member.tenant, email="m2@example.com")

    response = admin_client.post(page_of(member), member_form(member, email=email))

    assert "errornote" in response.text


def plan_fields(offer, product):
    plan = {
        "offer": offer.pk,
        "name": "Yearly",
        "products": product.pk,
        "amount": 90000,
        "currency": "eur",
        "duration": "P1Y",
        "credits": 0,
        "is_active": "on",
    }
    return {"slug": offer.slug, "name": offer.name, **formset("plans", rows=[plan])}


def test_a_plan_is_added_at_its_offer(admin_client, tenant):
    offer = Offer.objects.create(tenant=tenant, slug="offer", name="Offer")
    product = Product.objects.create(tenant=tenant, slug="archive", name="Archive")

    admin_client.post(page_of(offer), plan_fields(offer, product))

    assert list(offer.plans.get().products.all()) == [product]


def test_a_plan_has_no_products_of_other_tenants(admin_client, tenant, furnish):
    offer = Offer.objects.create(tenant=tenant, slug="offer", name="Offer")
    foreign = furnish(1).products.get()

    response = admin_client.post(page_of(offer), plan_fields(offer, foreign))

    assert "not one of the available choices" in response.text
    assert not offer.plans.exists()


def test_a_plan_keeps_to_its_tenants_products(admin_client, plan, furnish):
    foreign = furnish(1).products.get()

    response = admin_client.post(
        page_of(plan),
        {"name": "Monthly", "products": foreign.pk, "amount": 1, "currency": "eur", "credits": 0},
    )

    assert "not one of the available choices" in response.text
    assert foreign not in plan.products.all()


def test_a_key_is_revoked(admin_client, furnish):
    furnish(1)
    key = ApiKey.objects.get()

    press(admin_client, "revoke", [key])

    key.refresh_from_db()
    assert key.revoked_at


# --- what the pages say


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, "active"),
        ({"starts_at": timedelta(hours=1)}, "starts later"),
        ({"ends_at": timedelta(hours=1)}, "active"),
        ({"ends_at": timedelta(0)}, "ended"),
        ({"ends_at": timedelta(0), "suspended_at": timedelta(0)}, "suspended"),
        ({"suspended_at": timedelta(0), "revoked_at": timedelta(0)}, "revoked"),
    ],
)
def test_a_member_page_says_why_there_is_access_or_not(admin_client, furnish, fields, state):
    member = furnish(1).members.get()
    now = timezone.now()
    moments = {"starts_at": timedelta(hours=-1), **fields}
    member.entitlements.update(**{name: now + delta for name, delta in moments.items()})

    page = admin_client.get(page_of(member))

    assert f"<p>{state}</p>" in page.text
    assert Entitlement.objects.active().exists() == (state == "active")


@pytest.mark.parametrize(
    "linked",
    [
        StripeEvent, Charge, Refund, Dispute, Checkout, Member, Entitlement, CreditEntry,
        PurchaseEvent,
    ],
)  # fmt: skip
def test_a_purchase_leads_to_all_that_belongs_to_it(admin_client, furnish, linked):
    purchase = furnish(1).purchases.get()

    page = admin_client.get(page_of(purchase))

    assert page_of(linked.objects.get()) in page.text
    assert "297.50 EUR" in page.text


@pytest.mark.parametrize("model", [Charge, Refund, Dispute, CreditEntry, Entitlement])
def test_money_credits_and_access_lead_back_to_the_purchase(admin_client, furnish, model):
    purchase = furnish(1).purchases.get()

    page = admin_client.get(page_of(model.objects.get()))

    assert page_of(purchase) in page.text


@pytest.mark.parametrize("model", [Refund, Dispute])
def test_money_that_went_back_has_the_currency_of_the_purchase(admin_client, furnish, model):
    furnish(1)

    with_purchase = admin_client.get(page_of(model)).text
    Purchase.objects.update(payment_intent_id="pi_other")
    without = admin_client.get(page_of(model)).text

    assert ["12.50 EUR" in page for page in (with_purchase, without)] == [True, False]
    assert "1250" in without


@pytest.mark.parametrize("model", [Member, Tenant])
def test_a_balance_leads_to_the_lines_that_make_it(admin_client, furnish, model):
    tenant = furnish(1)
    own = CreditEntry.objects.create(tenant=tenant, kind="adjustment", amount=3, balance_after=3)
    furnish(2)
    owner = tenant.members.get() if model is Member else tenant

    page = admin_client.get(page_of(owner))

    link, shown = re.search(r'<a href="([^"]*creditentry[^"]*)">(-?\d+)</a>', page.text).groups()
    lines = admin_client.get(html.unescape(link)).context["cl"].queryset
    expected = tenant.members.get().credit_entries.get() if model is Member else own
    assert (int(shown), list(lines)) == (expected.amount, [expected])


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (25000, "eur", "250.00 EUR"),
        (5, "usd", "0.05 USD"),
        (0, "eur", "0.00 EUR"),
        (-1250, "eur", "-12.50 EUR"),
        (999_999_999_999, "eur", "9999999999.99 EUR"),
        (500, "jpy", "500 JPY"),
        (5120, "kwd", "5.120 KWD"),
        (500, "isk", "5.00 ISK"),
    ],
)
def test_amounts_have_the_decimals_of_their_currency(amount, currency, text):
    assert amounts.display(amount, currency) == text


@pytest.mark.parametrize(
    "url",
    [
        f"https://shop.example/?allegro_purchase_token={SECRET}&x=1",
        f"https://shop.example/?allegro_purchase_token%3D{SECRET}%26x%3D1",
        f"https://shop.example/?next=%3Fallegro_purchase_token%253D{SECRET}",
        f"allegro_purchase_token={SECRET}",
    ],
)
@pytest.mark.parametrize(
    "form",
    [
        '{{"success_url": "{}"}}',
        '{{"note": "{{\\"success_url\\": \\"{}\\"}}"}}',
        '{{"success_url": "{}"',
        '{{"success_url": "{}", "success_url": 1}}',
    ],
    ids=["json", "json in json", "cut short", "refused by the parser"],
)
@pytest.mark.parametrize("equals", ["=", "\\u003d"])
def test_the_return_page_token_is_never_shown(admin_client, furnish, url, form, equals):
    furnish(1)
    payload = form.format(url.replace("=", equals))
    StripeEvent.objects.update(payload=payload.encode())

    page = admin_client.get(page_of(StripeEvent.objects.get()))

    assert "allegro_purchase_token=[removed]" in page.text
    assert SECRET not in page.text


@pytest.mark.parametrize("payload", [b"", b"\xff\x00", b'{"a": "\\ud800\\u0000"}', b"[" * 5000])
def test_any_payload_can_be_looked_at(admin_client, furnish, payload):
    furnish(1)
    StripeEvent.objects.update(payload=payload)

    page = admin_client.get(page_of(StripeEvent.objects.get()))

    assert page.status_code == 200


# --- process again


def press(client, action, rows):
    """Tick the rows of a list, choose the action and follow to the page that tells."""
    fields = {"action": action, "_selected_action": [row.pk for row in rows]}
    return client.post(page_of(type(rows[0])), fields, follow=True)


@pytest.fixture
def held(deliver, checkout, paid_event, tenant):
    """The record of a paid checkout that is held because its tenant is disabled."""
    Tenant.objects.update(is_active=False)
    deliver(paid_event)
    record = StripeEvent.objects.get()
    assert (record.status, record.outcome) == ("held", "tenant_inactive")
    return record


def test_process_again_fulfills_what_was_held(admin_client, held):
    Tenant.objects.update(is_active=True)

    page = press(admin_client, "process_again", [held])

    held.refresh_from_db()
    assert (held.status, held.outcome) == ("done", "fulfilled")
    assert Purchase.objects.get().fulfilled_by == "replay"
    assert "1 settled, 0 still held, 0 still failing." in page.text


def test_process_again_tells_of_what_stays_held(admin_client, held):
    page = press(admin_client, "process_again", [held])

    assert "0 settled, 1 still held, 0 still failing." in page.text


def test_process_again_tells_of_what_keeps_failing(admin_client, held):
    Tenant.objects.update(is_active=True, timezone="Atlantis/Capital")

    page = press(admin_client, "process_again", [held])

    assert "0 settled, 0 still held, 1 still failing." in page.text


def test_process_again_leaves_settled_records_alone(admin_client, held):
    Tenant.objects.update(is_active=True)
    press(admin_client, "process_again", [held])

    page = press(admin_client, "process_again", [held])

    assert "1 left alone because settled before." in page.text
    assert Purchase.objects.count() == 1


@pytest.fixture
def operator(client, django_user_model):
    """Somebody who may look at events."""
    operator = django_user_model.objects.create(username="operator", is_staff=True)
    operator.user_permissions.add(Permission.objects.get(codename="view_stripeevent"))
    client.force_login(operator)
    return operator


def test_process_again_needs_its_permission(client, operator, held):
    Tenant.objects.update(is_active=True)

    press(client, "process_again", [held])

    held.refresh_from_db()
    assert held.status == "held"


def test_process_again_is_open_to_whoever_has_its_permission(client, operator, held):
    Tenant.objects.update(is_active=True)
    operator.user_permissions.add(Permission.objects.get(codename="process_stripeevent"))

    press(client, "process_again", [held])

    held.refresh_from_db()
    assert held.status == "done"


# --- a tenant's own people


OF_THE_PLATFORM = [
    TenantUser, SigningKey, CreditPackage, RejectedDelivery, Reconciliation, Worker,
]  # fmt: skip


@pytest.fixture
def tenants_client(client, django_user_model, furnish):
    """Somebody of the first of two tenants who may do everything that one can be permitted."""
    user = django_user_model.objects.create(username="owner", is_staff=True)
    user.user_permissions.set(Permission.objects.all())
    TenantUser.objects.create(user=user, tenant=furnish(1), role="viewer")
    client.force_login(user)
    return client


@every(MODELS)
def test_a_tenants_user_sees_that_tenants_rows_alone(tenants_client, furnish, model):
    own = set() if model in OF_THE_PLATFORM else set(model.objects.all())
    furnish(2)

    page = tenants_client.get(page_of(model))
    statuses = {row: tenants_client.get(page_of(row)).status_code for row in model.objects.all()}

    assert set(page.context["cl"].queryset) == own
    # What a page that is not there answers, too.
    assert statuses == {row: 200 if row in own else 302 for row in statuses}


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (Product, {"slug": "new", "name": "New"}),
        (ApiKey, {"kind": "secret", "nonce": "n" * 43}),
    ],
)
def test_a_tenants_user_adds_nothing_to_another(tenants_client, furnish, model, fields):
    other = furnish(2)
    count = model.objects.count()

    page = tenants_client.post(f"{page_of(model)}add/", {**fields, "tenant": other.pk})

    assert "not one of the available choices" in page.text
    assert model.objects.count() == count


def test_a_tenants_user_replaces_no_key_of_another(tenants_client, furnish):
    theirs = furnish(2).api_keys.get()

    page = tenants_client.post(page_of(theirs).replace("change", "replace"), {"nonce": "n" * 43})

    assert page.status_code == 404


def test_a_tenant_with_users_is_not_deleted(admin_client, tenant, django_user_model):
    user = django_user_model.objects.create(username="owner", is_staff=True)
    TenantUser.objects.create(user=user, tenant=tenant, role="viewer")

    admin_client.post(page_of(tenant).replace("change", "delete"), {"post": "yes"})

    assert TenantUser.objects.exists()


# --- a tenant is enabled again


def enable(client, tenant):
    fields = {"slug": tenant.slug, "name": tenant.name, "timezone": "UTC", "allowed_origins": "[]"}
    return client.post(page_of(tenant), {**fields, "is_active": "on"}, follow=True)


# Resuming waits for the commit, and the message has to reach the page after it.
@pytest.mark.django_db(transaction=True)
def test_enabling_a_tenant_resumes_what_was_held_for_it(admin_client, tenant, held):
    page = enable(admin_client, tenant)

    held.refresh_from_db()
    assert (held.status, held.outcome) == ("done", "fulfilled")
    assert "1 settled, 0 still held, 0 still failing." in page.text


@pytest.mark.django_db(transaction=True)
def test_enabling_a_tenant_leaves_what_is_held_for_another_reason(admin_client, tenant, held):
    StripeEvent.objects.update(outcome="amount_mismatch")

    enable(admin_client, tenant)

    held.refresh_from_db()
    assert held.status == "held"


@pytest.mark.django_db(transaction=True)
def test_enabling_a_tenant_resumes_nothing_of_another(admin_client, tenant, held, other_account):
    Tenant.objects.filter(pk=tenant.pk).update(is_active=True)
    Tenant.objects.filter(pk=other_account.tenant_id).update(is_active=False)

    enable(admin_client, other_account.tenant)

    held.refresh_from_db()
    assert held.status == "held"


@pytest.mark.django_db(transaction=True)
def test_what_was_held_is_resumed_oldest_first(
    admin_client, tenant, deliver, checkout, open_checkout, paid_event
):
    open_checkout("cs_test_second")
    Tenant.objects.update(is_active=False)
    deliver(changed(paid_event, event_id="evt_2", id="cs_test_second", payment_intent="pi_2"))
    deliver(paid_event)

    enable(admin_client, tenant)

    settled = StripeEvent.objects.order_by("settled_at").values_list("id", flat=True)
    assert list(settled) == ["evt_2", paid_event["id"]]
