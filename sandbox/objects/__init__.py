"""Builders of the objects that Stripe's API returns, complete and as plain data."""

from typing import Any

Json = dict[str, Any]

API_VERSION = "2026-10-28.endive"
