"""Who sells and who buys."""

import uuid
import zoneinfo

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.timezone import now

from tenants.inserting import insert_statement
from tenants.origins import validate_origins


def validate_timezone(name: str) -> None:
    if name not in zoneinfo.available_timezones():
        raise ValidationError(f"{name!r} is no IANA time zone; write one such as Europe/Paris.")


class Tenant(models.Model):
    """A publisher who sells access to its own members."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=200)
    timezone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[validate_timezone],
        help_text="IANA name; plans measured in months end on this zone's calendar.",
    )
    allowed_origins = models.JSONField(
        default=list,
        blank=True,
        validators=[validate_origins],
        help_text='Sites that may sell, as exact origins: ["https://shop.example"].',
    )
    default_return_url = models.URLField(blank=True)
    is_active = models.BooleanField(
        default=True, help_text="Payments of a disabled tenant are held until it is enabled again."
    )
    created_at = models.DateTimeField(default=now, editable=False)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        return zoneinfo.ZoneInfo(self.timezone)

    @property
    def active_account(self) -> "PaymentAccount | None":
        """The account on which it sells, in the mode of our Stripe key."""
        return self.payment_accounts.filter(
            livemode=settings.STRIPE_LIVEMODE, disconnected_at=None
        ).first()


class PaymentAccount(models.Model):
    """A Stripe account that a tenant connected, in one mode.

    A disconnected account keeps its row: refunds and disputes of what it sold still arrive.
    """

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="payment_accounts")
    stripe_account_id = models.CharField(max_length=255)
    livemode = models.BooleanField()
    display_name = models.CharField(max_length=200, blank=True)
    charges_enabled = models.BooleanField(default=False)
    payouts_enabled = models.BooleanField(default=False)
    details_submitted = models.BooleanField(default=False)
    requirements = models.JSONField(
        default=list, blank=True, help_text="What Stripe still asks of the account's owner."
    )
    disabled_reason = models.CharField(
        max_length=200, blank=True, help_text="Why Stripe stopped the account, in its words."
    )
    facts_at = models.DateTimeField(
        null=True, blank=True, help_text="As of when Stripe told all this; blank: it has not yet."
    )
    connected_at = models.DateTimeField(default=now)
    disconnected_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["stripe_account_id"]
        constraints = [
            models.UniqueConstraint(
                fields=["stripe_account_id", "livemode"], name="paymentaccount_account_per_mode"
            ),
            models.UniqueConstraint(
                fields=["tenant", "livemode"],
                condition=Q(disconnected_at__isnull=True),
                name="paymentaccount_one_active_per_mode",
            ),
            models.CheckConstraint(
                condition=Q(stripe_account_id__startswith="acct_"),
                name="paymentaccount_stripe_account_id",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.stripe_account_id} ({'live' if self.livemode else 'test'})"


class ConnectAttempt(models.Model):
    """An operator on the way to Stripe to connect a tenant's account, and back, once.

    The `state` that travels with them is random; only its hash is kept, bound to the operator's
    browser session. RFC 6749 §10.12.
    """

    state_sha256 = models.CharField(max_length=64, unique=True)
    session_sha256 = models.CharField(max_length=64)
    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="connect_attempts")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    created_at = models.DateTimeField(default=now)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.tenant} at {self.created_at:%Y-%m-%d %H:%M:%S}"


class ApiKey(models.Model):
    """A tenant's key. Only its hash is kept; `keys.create_key` shows the key itself once."""

    class Kind(models.TextChoices):
        PUBLISHABLE = "publishable"
        SECRET = "secret"  # noqa: S105  (the name of a kind)

    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="api_keys")
    kind = models.CharField(max_length=11, choices=Kind)
    prefix = models.CharField(max_length=12)
    sha256 = models.CharField(max_length=64, unique=True)
    name = models.CharField(max_length=100, blank=True, help_text="Where it is used.")
    created_at = models.DateTimeField(default=now)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "API key"
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=["publishable", "secret"]), name="apikey_kind"
            )
        ]

    def __str__(self) -> str:
        return f"{self.prefix}…"


class MemberQuerySet(models.QuerySet["Member"]):
    def with_email(self, email: str) -> "MemberQuerySet":
        """Those with that e-mail in any case, as the unique constraint compares them."""
        return self.alias(folded=Lower("email")).filter(folded=Lower(models.Value(email)))

    def find_or_add(self, tenant: Tenant, *, email: str, name: str) -> tuple["Member", bool]:
        """The tenant's member with that e-mail in any case, and whether this call added it.

        One statement, safe however many run at once. The update writes nothing new; without it
        PostgreSQL returns no row for a member that is there already.
        """
        added = Member(tenant=tenant, email=email, name=name)
        insert, values = insert_statement(added)
        member = self.raw(
            f"{insert} ON CONFLICT (tenant_id, LOWER(email)) "
            "DO UPDATE SET email = tenants_member.email RETURNING *",
            values,
        )[0]
        member.tenant = tenant
        return member, member.id == added.id


class Member(models.Model):
    """Somebody who buys from one tenant. The same person at two tenants is two members."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="members")
    # Null where unknown, so that the unique constraints below leave those alone.
    email = models.EmailField(null=True, blank=True)  # noqa: DJ001
    name = models.CharField(max_length=200, blank=True)
    external_id = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001
    created_at = models.DateTimeField(default=now, editable=False)
    disabled_at = models.DateTimeField(
        null=True, blank=True, help_text="From then on every token of the member is refused."
    )

    objects = MemberQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint("tenant", Lower("email"), name="member_email_per_tenant"),
            models.UniqueConstraint(
                fields=["tenant", "external_id"], name="member_external_id_per_tenant"
            ),
            models.CheckConstraint(
                condition=Q(email__isnull=False) | Q(external_id__isnull=False),
                name="member_can_be_found_again",
            ),
        ]

    def __str__(self) -> str:
        return self.email or self.external_id or str(self.id)


class MemberSession(models.Model):
    """A member's sign-in in one browser, kept alive by a refresh token.

    A session that proved nothing about who the buyer is (`authenticated` false) shows only what
    the purchase named by `purchase_id` granted.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    member = models.ForeignKey(Member, models.CASCADE, related_name="sessions")
    authenticated = models.BooleanField()
    # Not a foreign key: purchases are a layer above this one.
    purchase_id = models.UUIDField(null=True, editable=False)
    # Half of each refresh token names the family, so that one used before is recognized.
    refresh_family = models.UUIDField(unique=True, editable=False)
    refresh_token_sha256 = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(default=now)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(authenticated=True) | Q(purchase_id__isnull=False),
                name="membersession_unproven_is_limited",
            )
        ]

    def __str__(self) -> str:
        return str(self.id)


class SigningKey(models.Model):
    """An RSA key that signs member tokens; the private half is encrypted with SECRET_KEY."""

    kid = models.CharField(max_length=64, primary_key=True)
    private_key_encrypted = models.BinaryField(editable=False)
    public_key = models.TextField(editable=False)
    active_from = models.DateTimeField(default=now)
    retired_at = models.DateTimeField(
        null=True, blank=True, help_text="From then on its signatures are refused."
    )

    class Meta:
        ordering = ["-active_from"]

    def __str__(self) -> str:
        return self.kid


class TenantUser(models.Model):
    """What a Django user may do for a tenant."""

    class Role(models.TextChoices):
        ADMIN = "admin"
        MEMBER = "member"
        VIEWER = "viewer"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="tenant_users")
    # Protected: who lost their last tenant would be taken for the platform's own.
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="users")
    role = models.CharField(max_length=6, choices=Role)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "tenant"], name="tenantuser_once_per_tenant"),
            models.CheckConstraint(
                condition=Q(role__in=["admin", "member", "viewer"]), name="tenantuser_role"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.role} of {self.tenant})"
