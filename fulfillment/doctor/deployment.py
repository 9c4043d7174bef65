"""The settings, and the processes that ought to run."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import run_checks

from fulfillment import figures
from fulfillment.doctor.findings import Finding, Level, ok, problem, warning
from tenants.signing import is_readable, published_keys

LOOPBACK = ("localhost", "127.0.0.1", "::1")
MIN_TOKEN_LENGTH = 16


def system_checks() -> Iterator[Finding]:
    messages = [message for message in run_checks() if not message.is_silenced()]
    for message in messages:
        level = Level.PROBLEM if message.is_serious() else Level.WARNING
        yield Finding(level, "settings", f"{message.msg} ({message.id})", message.hint or "")
    if not messages:
        yield ok("settings", "All system checks pass; the webhook secrets may be real ones.")


def address() -> Iterator[Finding]:
    url = urlsplit(settings.ALLEGRO_URL)
    remedy = "Set ALLEGRO_URL to the public https:// address."
    if url.scheme == "https":
        yield ok("address", f"{settings.ALLEGRO_URL} is https.")
    elif settings.STRIPE_LIVEMODE:
        yield problem("address", "ALLEGRO_URL is not https, and the Stripe key is live.", remedy)
    elif url.hostname in LOOPBACK:
        yield ok("address", f"{settings.ALLEGRO_URL} is for this machine alone.")
    else:
        yield warning("address", "ALLEGRO_URL is not https.", remedy)


def proxies() -> Iterator[Finding]:
    hops = settings.REST_FRAMEWORK["NUM_PROXIES"]
    if hops or not settings.IS_HTTPS:
        yield ok("rate limits", f"They are per address, {hops} proxies away (PROXY_HOPS).")
        return
    yield warning(
        "rate limits",
        "ALLEGRO_URL is https, so a proxy stands in front, but PROXY_HOPS is 0: all callers "
        "count as one, and soon they are all turned away.",
        "Set PROXY_HOPS to how many proxies in front add to X-Forwarded-For.",
    )


def monitoring() -> Iterator[Finding]:
    if len(settings.METRICS_TOKEN) >= MIN_TOKEN_LENGTH:
        yield ok("monitoring", "/metrics and /health/webhooks ask for METRICS_TOKEN.")
        return
    yield warning(
        "monitoring",
        "METRICS_TOKEN is too short to be safe."
        if settings.METRICS_TOKEN
        else "METRICS_TOKEN is not set, so /metrics and /health/webhooks answer nobody.",
        "Set METRICS_TOKEN to 16 or more random characters, here and in Prometheus.",
    )


def signing_keys() -> Iterator[Finding]:
    keys = list(published_keys())
    unreadable = [key.kid for key in keys if not is_readable(key)]
    if unreadable:
        yield problem(
            "member tokens",
            f"SECRET_KEY does not decrypt the signing keys {', '.join(unreadable)}.",
            "Add the former value of SECRET_KEY to SECRET_KEY_FALLBACKS.",
        )
    elif keys:
        yield ok("member tokens", f"SECRET_KEY decrypts all signing keys ({len(keys)}).")
    else:
        yield ok("member tokens", "The first token will make the first signing key.")


def worker() -> Iterator[Finding]:
    background = figures.background()
    if background.workers:
        yield ok("worker", f"{background.workers} seen within the last minute.")
        return
    seen = background.worker_seen
    yield problem(
        "worker",
        f"None was seen since {seen:%Y-%m-%d %H:%M:%S} UTC." if seen else "None ever ran.",
        "Keep `manage.py worker` running: it retries, sweeps, reconciles and notifies.",
    )
