"""What is sold."""

import uuid

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from purchases import periods
from tenants.models import Tenant

# Stripe's own bound: amounts have at most twelve digits.
MAX_AMOUNT = 999_999_999_999
MINOR_UNITS = "In minor units: 1250 is 12.50 EUR."


def validate_currency(code: str) -> None:
    if not (len(code) == 3 and code.isascii() and code.islower() and code.isalpha()):
        raise ValidationError("Write the three-letter ISO 4217 code in lower case, such as eur.")


def validate_duration(duration: str) -> None:
    try:
        periods.parse(duration)
    except ValueError as error:
        raise ValidationError(str(error)) from error


def amount_in_range(name: str, constraint: str) -> models.CheckConstraint:
    return models.CheckConstraint(
        condition=Q(**{f"{name}__gte": 0, f"{name}__lte": MAX_AMOUNT}), name=constraint
    )


class Product(models.Model):
    """Something a member may have access to."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="products")
    slug = models.SlugField()
    name = models.CharField(max_length=200)

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "slug"], name="product_slug_per_tenant")
        ]

    def __str__(self) -> str:
        return self.name


class Offer(models.Model):
    """A set of plans to choose one from."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="offers")
    slug = models.SlugField()
    name = models.CharField(max_length=200)

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "slug"], name="offer_slug_per_tenant")
        ]

    def __str__(self) -> str:
        return self.name


class Plan(models.Model):
    """What one payment buys: the products, for how long, at what price."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    offer = models.ForeignKey(Offer, models.PROTECT, related_name="plans")
    name = models.CharField(max_length=200)
    products = models.ManyToManyField(Product, related_name="plans")
    amount = models.PositiveBigIntegerField(help_text=f"{MINOR_UNITS} 0 is free.")
    currency = models.CharField(max_length=3, validators=[validate_currency])
    duration = models.CharField(
        max_length=20,
        blank=True,
        validators=[validate_duration],
        help_text="ISO 8601: P1M, P1Y, P30D. Blank: for good.",
    )
    credits = models.PositiveIntegerField(default=0)
    is_active = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            amount_in_range("amount", "plan_amount"),
            models.CheckConstraint(
                condition=Q(currency__regex=r"^[a-z]{3}$"), name="plan_currency"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class CreditPackage(models.Model):
    """A number of credits that tenants buy from the platform."""

    key = models.SlugField(primary_key=True, help_text="Such as 10_credits.")
    credits = models.PositiveIntegerField()
    amount = models.PositiveBigIntegerField(help_text=MINOR_UNITS)
    currency = models.CharField(max_length=3, validators=[validate_currency])
    is_active = models.BooleanField(default=True)

    class Meta:
        ordering = ["credits"]
        constraints = [
            amount_in_range("amount", "creditpackage_amount"),
            models.CheckConstraint(
                condition=Q(currency__regex=r"^[a-z]{3}$"), name="creditpackage_currency"
            ),
            models.CheckConstraint(condition=Q(credits__gt=0), name="creditpackage_credits"),
        ]

    def __str__(self) -> str:
        return self.key
