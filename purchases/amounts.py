"""Amounts as people read them. Everywhere else they are integers in minor units."""

from decimal import Decimal

# ISO 4217 gives these other than two decimals, and Stripe's amounts follow it, except that ISK
# and UGX keep two and MGA has none (docs.stripe.com/currencies, "Special cases").
NO_DECIMALS = frozenset(
    "bif clp djf gnf jpy kmf krw mga pyg rwf uyi vnd vuv xaf xof xpf".split()  # noqa: SIM905
)
THREE_DECIMALS = frozenset(["bhd", "iqd", "jod", "kwd", "lyd", "omr", "tnd"])


def display(amount: int, currency: str) -> str:
    """The amount in major units with its currency: `display(25000, "eur")` is `250.00 EUR`."""
    return f"{Decimal(amount).scaleb(-_decimals(currency.lower())):f} {currency.upper()}"


def _decimals(currency: str) -> int:
    if currency in NO_DECIMALS:
        return 0
    return 3 if currency in THREE_DECIMALS else 2
