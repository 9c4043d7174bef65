"""What Stripe says of a connected account: may it charge, is it paid out, what is missing."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q
from django.utils.timezone import now

from tenants.models import PaymentAccount

# What Stripe asks for and why it stopped an account are named by paths: `company.tax_id`.
PATH = re.compile(r"[\w.\-]{1,200}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountFacts:
    """The part of Stripe's Account object that we keep; `requirements` are those due by now."""

    display_name: str
    charges_enabled: bool
    payouts_enabled: bool
    details_submitted: bool
    requirements: list[str]
    disabled_reason: str

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> "AccountFacts":
        """Raises `ValueError` where a field has a type or a value that Stripe never sends."""
        asked = _part(data, "requirements")
        due = [*_paths(asked, "past_due"), *_paths(asked, "currently_due")]
        return cls(
            display_name=_name(data),
            charges_enabled=_flag(data, "charges_enabled"),
            payouts_enabled=_flag(data, "payouts_enabled"),
            details_submitted=_flag(data, "details_submitted"),
            requirements=list(dict.fromkeys(due)),
            disabled_reason=_path(asked.get("disabled_reason") or ""),
        )


def store_facts(account: PaymentAccount, facts: AccountFacts, *, said_at: datetime) -> bool:
    """Keep the facts, which held at `said_at` (UTC), unless we have newer ones; whether kept.

    An operator may have given the account another name, which stays.
    """
    columns = asdict(facts)
    if account.display_name:
        del columns["display_name"]
    not_newer = Q(facts_at=None) | Q(facts_at__lte=said_at)
    rows = PaymentAccount.objects.filter(not_newer, pk=account.pk)
    return bool(rows.update(facts_at=said_at, **columns))


def whole_second() -> datetime:
    """Now, as coarse as the times of Stripe's events, so that one of this second is no older."""
    return now().replace(microsecond=0)


def _name(data: Mapping[str, Any]) -> str:
    dashboard = _part(_part(data, "settings"), "dashboard")
    name = dashboard.get("display_name") or _part(data, "business_profile").get("name") or ""
    if not isinstance(name, str):
        raise ValueError("the account's name is no text")  # noqa: TRY004
    # Neither NUL nor lone surrogates, which a database refuses, are printable.
    return "".join(filter(str.isprintable, name))[:200]


def _flag(data: Mapping[str, Any], key: str) -> bool:
    value = data.get(key)
    if not isinstance(value, bool):
        raise ValueError(f"{key} is neither true nor false")  # noqa: TRY004
    return value


def _part(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = data.get(key) or {}
    if not isinstance(part, dict):
        raise ValueError(f"{key} is no object")  # noqa: TRY004
    return part


def _paths(data: Mapping[str, Any], key: str) -> list[str]:
    paths = data.get(key) or []
    if not isinstance(paths, list):
        raise ValueError(f"{key} is no list")  # noqa: TRY004
    return [_path(path) for path in paths]


def _path(value: object) -> str:
    if value == "":
        return ""
    if not isinstance(value, str) or not PATH.fullmatch(value):
        raise ValueError("a requirement is no path")
    return value
