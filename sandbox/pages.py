"""HTML from the templates, and how amounts and times read on them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from django.template import Context, Engine

TEMPLATES = Path(__file__).parent / "templates"
ENGINE = Engine(dirs=[str(TEMPLATES)])
NO_DECIMALS = (
    *("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga"),
    *("pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf"),
)
# No form-action: browsers apply it to the redirect as well, which leads to the seller's site.
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; frame-ancestors 'none'"
)


def render(template: str, /, *, status: int = 200, **values: Any) -> web.Response:
    """A page that loads nothing from elsewhere and runs no script."""
    # Without localization, templates need no settings of Django.
    context = Context(values, use_l10n=False, use_tz=False)
    return web.Response(
        text=ENGINE.get_template(template).render(context),
        status=status,
        content_type="text/html",
        headers={
            "Content-Security-Policy": POLICY,
            "Cache-Control": "no-store",
            # Not no-referrer: browsers would then hide the Origin of our own forms.
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
        },
    )


def money(amount: int, currency: str) -> str:
    """An amount in minor units as people read it, such as `12.50 EUR`."""
    if currency in NO_DECIMALS:
        return f"{amount:,} {currency.upper()}"
    return f"{amount // 100:,}.{amount % 100:02d} {currency.upper()}"


def clock(seconds: float) -> str:
    """A time of day, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")


async def style(request: web.Request) -> web.StreamResponse:
    """The one style sheet."""
    return web.FileResponse(TEMPLATES / "style.css", headers={"Cache-Control": "no-cache"})


routes = [web.get("/_sandbox/style.css", style)]
