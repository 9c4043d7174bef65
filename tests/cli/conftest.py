"""The product and a sandbox between which only Stripe's official CLI carries events."""

import os

import pytest

from tests.cli.stripe_cli import StripeCli
from tests.conftest import ACCOUNT_ID
from tests.sandbox_server import CLIENT_ID, KEY, running_sandbox
from tests.server import running_server

# These come from npm, which not every machine has: `make test-cli` installs and names them.
collect_ignore = [
    test
    for test, tool in {"test_cli.py": "STRIPE_CLI", "test_jose.py": "JOSE"}.items()
    if not os.environ.get(tool)
]


@pytest.fixture
def sandbox():
    with running_sandbox(accounts=[ACCOUNT_ID]) as sandbox:
        yield sandbox


@pytest.fixture
def stripe_cli(sandbox, tmp_path):
    return StripeCli(sandbox.url, tmp_path)


@pytest.fixture
def server(transactional_db, sandbox, stripe_cli, account):
    """The product, set up with the secret that the CLI prints."""
    secret = stripe_cli.run("listen", "--print-secret", "--all-snapshot").strip()
    environ = {
        "STRIPE_API_BASE": sandbox.url,
        "STRIPE_SECRET_KEY": KEY,
        "STRIPE_CONNECT_CLIENT_ID": CLIENT_ID,
        "STRIPE_WEBHOOK_SECRET": secret,
    }
    with running_server(workers=1, env=environ) as server:
        yield server


@pytest.fixture
def webhook(server):
    return f"{server.url}/api/webhooks/stripe"
