"""`manage.py doctor`: what is configured, held against what is there.

Each check yields findings and mends nothing; each finding that is not ok says what mends it.
"""

from collections.abc import Iterator

from django.db import Error

from fulfillment import health
from fulfillment.doctor import deliveries, deployment, storage, stripe_side
from fulfillment.doctor.findings import Finding, ok, problem
from fulfillment.doctor.self_test import self_test

SETTINGS = (
    deployment.system_checks,
    deployment.address,
    deployment.proxies,
    deployment.monitoring,
    stripe_side.keys,
)
DATABASE = (
    storage.database_settings,
    storage.clock,
    storage.feed,
    deployment.signing_keys,
    deployment.worker,
    deliveries.webhook_secrets,
    stripe_side.accounts,
    deliveries.tenants,
)
STRIPE = (stripe_side.webhook_endpoints,)


def examine(*, with_self_test: bool = True) -> Iterator[Finding]:
    """Check all, the foundations first. Without the database only what needs none is checked."""
    for check in (*SETTINGS, storage.spool_folder):
        yield from check()
    if reasons := health.database_reasons():
        yield from (problem("database", reason) for reason in reasons)
        return
    yield ok("database", "It answers, and all migrations are applied.")
    try:
        for check in (*DATABASE, *STRIPE):
            yield from check()
        if with_self_test:
            yield from self_test()
    except Error as error:
        yield problem("database", f"It failed meanwhile ({type(error).__name__}).", "Run again.")
