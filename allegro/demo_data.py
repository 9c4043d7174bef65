"""A tenant to try Allegro with, made once and then left as it is."""

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils.crypto import salted_hmac

from purchases.models import CreditPackage, Offer, Plan, Product
from tenants.keys import PREFIXES, store_key
from tenants.models import ApiKey, PaymentAccount, Tenant

ACCOUNT_ID = "acct_1DemoWeekly"
# Credits and price in cents.
PACKAGES = [(1, 3_000), (5, 14_000), (10, 25_000), (25, 57_500), (50, 100_000)]


def secret_for(purpose: str) -> str:
    """A secret that a second run can print again though it is stored nowhere."""
    return salted_hmac("allegro.demo", purpose, algorithm="sha256").hexdigest()


def admin_password() -> str:
    return secret_for("admin")[:16]


def publishable_key() -> str:
    return PREFIXES[ApiKey.Kind.PUBLISHABLE] + secret_for("publishable key")


@transaction.atomic
def make(shop: str) -> Tenant:
    """The demo tenant, which sells on the site `shop` (an origin)."""
    users = get_user_model().objects
    if not users.filter(username="admin").exists():
        users.create_superuser("admin", password=admin_password())
    tenant, is_new = Tenant.objects.get_or_create(
        slug="demo",
        defaults={"name": "Demo Weekly", "timezone": "Europe/Paris", "allowed_origins": [shop]},
    )
    if is_new:
        _fill(tenant)
    if shop not in tenant.allowed_origins:
        tenant.allowed_origins.append(shop)
        tenant.save(update_fields=["allowed_origins"])
    store_key(tenant, ApiKey.Kind.PUBLISHABLE, publishable_key())
    return tenant


def _fill(tenant: Tenant) -> None:
    PaymentAccount.objects.create(
        tenant=tenant,
        stripe_account_id=ACCOUNT_ID,
        livemode=False,
        display_name=tenant.name,
        charges_enabled=True,
        payouts_enabled=True,
        details_submitted=True,
    )
    archive = Product.objects.create(tenant=tenant, slug="archive", name="Archive")
    weekly = Product.objects.create(tenant=tenant, slug="weekly", name="Weekly issue")
    offer = Offer.objects.create(tenant=tenant, slug="membership", name="Membership")
    for name, amount, duration, products in (
        ("One month", 1_200, "P1M", [weekly]),
        ("One year", 12_000, "P1Y", [weekly, archive]),
    ):
        plan = Plan.objects.create(
            offer=offer, name=name, amount=amount, currency="eur", duration=duration
        )
        plan.products.set(products)
    for credits_, amount in PACKAGES:
        key = f"{credits_}_credit{'s' if credits_ > 1 else ''}"
        CreditPackage.objects.get_or_create(
            key=key, defaults={"credits": credits_, "amount": amount, "currency": "eur"}
        )
