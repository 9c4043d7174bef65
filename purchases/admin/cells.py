"""How values look on the operators' pages."""

import json
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from purchases import amounts
from tenants.admin_scope import ScopedAdmin


def preformatted(text: str) -> SafeString:
    """The text with its line breaks and indents, escaped."""
    return format_html("<pre>{}</pre>", text)


def as_json(value: Any) -> SafeString:
    return preformatted(json.dumps(value, indent=2, ensure_ascii=False))


def link_to(row: Any) -> SafeString:
    """A link to the row's own page, named as the row is."""
    name = f"admin:{row._meta.app_label}_{row._meta.model_name}_change"
    return format_html('<a href="{}">{}</a>', reverse(name, args=[quote(row.pk)]), row)


def shortened(identifier: str) -> str:
    """As much of an id as tells rows apart and leaves a list room for its other columns."""
    return Truncator(identifier).chars(30)


class PricedAdmin(ScopedAdmin):
    """Shows `amount` and `currency` as one price."""

    @admin.display(ordering="amount")
    def price(self, row: Any) -> str:
        return amounts.display(row.amount, row.currency)
