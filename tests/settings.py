"""The product's own settings over an environment that no developer's `.env` can reach."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

FOLDER = Path(tempfile.mkdtemp(prefix="allegro-tests-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)

os.environ |= {
    "SECRET_KEY": "test-secret-key-that-protects-nothing-at-all-0123456789",
    "SECRET_KEY_FALLBACKS": "",
    "DEBUG": "false",
    "ALLOWED_HOSTS": "*",
    "ALLEGRO_URL": "http://testserver",
    "STRIPE_CONNECT_CLIENT_ID": "ca_test_allegro00000000000000000000",
    "STRIPE_SECRET_KEY": "sk_test_allegro0000000000000000",
    "STRIPE_PUBLISHABLE_KEY": "pk_test_allegro0000000000000000",
    "STRIPE_WEBHOOK_SECRET": "whsec_test_allegro0000000000000000",
    "STRIPE_API_BASE": "",
    "NOTIFICATIONS_ALLOW_PRIVATE": "false",
    "METRICS_TOKEN": "test-metrics-token-0123456789",
    "WEBHOOK_SPOOL_DIR": str(FOLDER / "spool"),
}
# These two choose what the suite runs against, so the caller may set them.
os.environ.setdefault("STRIPE_WEBHOOK_RESPONSES", "always_200")
os.environ["DATABASE_URL"] = os.environ.get("DATABASE_URL") or f"sqlite:///{FOLDER}/db.sqlite3"

from allegro.settings import *  # noqa: E402

if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # The default, a database in memory, fails with "table is locked" under threads.
    DATABASES["default"]["TEST"] = {"NAME": str(FOLDER / "test.sqlite3")}

# WhiteNoise warns of a folder that is not there, and here a warning is an error.
STATIC_ROOT = FOLDER / "static"
STATIC_ROOT.mkdir()

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
