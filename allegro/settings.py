"""Settings: everything that differs between deployments comes from the environment.

`.env` in the project folder is read first and never overrides a variable that is already set.
"""

import os
from pathlib import Path
from typing import Any

import dj_database_url
from csp import constants as csp
from django.core.exceptions import ImproperlyConfigured
from dotenv import load_dotenv

from allegro import logs

BASE_DIR = Path(__file__).resolve().parent.parent
load_dotenv(BASE_DIR / ".env")


def required(name: str) -> str:
    if value := os.environ.get(name, "").strip():
        return value
    raise ImproperlyConfigured(f"Set {name}; .env.example says what it is.")


def flag(name: str, *, default: bool) -> bool:
    value = os.environ.get(name) or str(default)
    if value.lower() not in ("true", "false"):
        raise ImproperlyConfigured(f"{name} is {value!r}; write true or false.")
    return value.lower() == "true"


def words(name: str) -> list[str]:
    return [word for word in (part.strip() for part in os.environ.get(name, "").split(",")) if word]


def whole_number(name: str) -> int:
    value = os.environ.get(name) or "0"
    if not value.isdecimal():
        raise ImproperlyConfigured(f"{name} is {value!r}; write a whole number.")
    return int(value)


def one_of(name: str, *choices: str) -> str:
    value = os.environ.get(name) or choices[0]
    if value not in choices:
        raise ImproperlyConfigured(f"{name} is {value!r}; write one of {', '.join(choices)}.")
    return value


SECRET_KEY = required("SECRET_KEY")
# Signing keys stay readable, and sessions valid, while SECRET_KEY is being replaced.
SECRET_KEY_FALLBACKS = words("SECRET_KEY_FALLBACKS")
DEBUG = flag("DEBUG", default=False)
ALLOWED_HOSTS = words("ALLOWED_HOSTS")
ALLEGRO_URL = required("ALLEGRO_URL").rstrip("/")
if not ALLEGRO_URL.startswith(("https://", "http://")):
    raise ImproperlyConfigured(f"ALLEGRO_URL is {ALLEGRO_URL!r}; write https:// and the host.")

# Stripe Connect. Stripe shows a webhook secret only once the endpoint exists, so its absence is
# a system check (fulfillment/checks.py), not a crash here.
STRIPE_CONNECT_CLIENT_ID = required("STRIPE_CONNECT_CLIENT_ID")
STRIPE_SECRET_KEY = required("STRIPE_SECRET_KEY")
STRIPE_PUBLISHABLE_KEY = required("STRIPE_PUBLISHABLE_KEY")
# One, or several separated by commas: signatures.configured_secrets() reads them.
STRIPE_WEBHOOK_SECRET = os.environ.get("STRIPE_WEBHOOK_SECRET", "")
STRIPE_WEBHOOK_RESPONSES = one_of(
    "STRIPE_WEBHOOK_RESPONSES", "always_200", "store_or_503", "strict"
)
STRIPE_API_VERSION = "2026-10-28.endive"
STRIPE_LIVEMODE = STRIPE_SECRET_KEY.startswith(("sk_live_", "rk_live_"))
STRIPE_API_BASE = os.environ.get("STRIPE_API_BASE", "")
# On a disk that outlives a deployment: what is here may be nowhere else.
WEBHOOK_SPOOL_DIR = os.environ.get("WEBHOOK_SPOOL_DIR") or str(BASE_DIR / "var" / "spool")
# What monitoring shows as `Authorization: Bearer …`; without it, monitoring is shut out.
METRICS_TOKEN = os.environ.get("METRICS_TOKEN", "")
if STRIPE_API_BASE and STRIPE_LIVEMODE:
    raise ImproperlyConfigured(
        "STRIPE_API_BASE sends Stripe calls to a stand-in; unset it or use a test key."
    )
# Notifications go where tenants say; in production never into our own network.
NOTIFICATIONS_ALLOW_PRIVATE = flag("NOTIFICATIONS_ALLOW_PRIVATE", default=False)
if NOTIFICATIONS_ALLOW_PRIVATE and STRIPE_LIVEMODE:
    raise ImproperlyConfigured(
        "NOTIFICATIONS_ALLOW_PRIVATE lets tenants reach your own network; unset it or use a "
        "test key."
    )

INSTALLED_APPS = [
    "allegro",
    "fulfillment",
    "purchases",
    "tenants",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "corsheaders",
    "csp",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
if not STRIPE_LIVEMODE:
    # For `manage.py simulate`.
    INSTALLED_APPS.append("sandbox")

MIDDLEWARE = [
    "allegro.middleware.RequestId",
    "corsheaders.middleware.CorsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "allegro.urls"
WSGI_APPLICATION = "allegro.wsgi.application"
# A redirect counts as a failed delivery at Stripe; the webhook answers both spellings itself.
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def database(url: str) -> dict[str, Any]:
    """The connection settings under which a committed row survives a power cut."""
    # The address itself stays unsaid: it may hold a password.
    refusal = ImproperlyConfigured(
        "DATABASE_URL is no address of a database we know; write "
        "postgres://user:password@host:5432/name, or leave it empty for SQLite."
    )
    try:
        parsed = dj_database_url.parse(url, conn_max_age=300, conn_health_checks=True)
    except ValueError:
        raise refusal from None
    config: dict[str, Any] = dict(parsed)
    if config["ENGINE"] not in ("django.db.backends.sqlite3", "django.db.backends.postgresql"):
        raise refusal
    options = config.setdefault("OPTIONS", {})
    if config["ENGINE"] == "django.db.backends.sqlite3":
        config["ENGINE"] = "allegro.sqlite3"
        # IMMEDIATE: a transaction that reads first and writes later otherwise fails at once
        # with "database is locked", whatever the timeout.
        options |= {
            "transaction_mode": "IMMEDIATE",
            "timeout": 5,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        }
    else:
        options["options"] = f"{options.pop('options', '')} -c synchronous_commit=on".strip()
        options["connect_timeout"] = 2
    return config


DATABASES = {
    "default": database(os.environ.get("DATABASE_URL") or f"sqlite:///{BASE_DIR / 'db.sqlite3'}")
}
if DATABASES["default"]["ENGINE"].endswith("postgresql"):
    # Wakes and schedules the worker; on SQLite a loop does (fulfillment/worker.py).
    INSTALLED_APPS.append("procrastinate.contrib.django")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

REST_FRAMEWORK: dict[str, Any] = {
    # Closed unless a view says otherwise: DRF's own defaults are open.
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": ["tenants.authentication.HasCredential"],
    "DEFAULT_PARSER_CLASSES": ["fulfillment.parsing.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PAGINATION_CLASS": "allegro.api.Pagination",
    "EXCEPTION_HANDLER": "allegro.api.exception_handler",
    "DEFAULT_SCHEMA_CLASS": "allegro.openapi.ApiSchema",
    # API callers are tenants and members, never Django users.
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_THROTTLE_CLASSES": ["tenants.throttling.ClientThrottle"],
    # Of one client. A page that waits for a payment asks every two seconds.
    "DEFAULT_THROTTLE_RATES": {
        "checkout": "30/min",
        "exchange": "90/min",
        "refresh": "30/min",
        "server": "1000/hour",
    },
    # How many proxies in front write X-Forwarded-For; nothing further left in it is believed.
    "NUM_PROXIES": whole_number("PROXY_HOPS"),
}

# /api/schema and /api/docs; allegro/openapi.py has the rest.
SPECTACULAR_SETTINGS = {
    "TITLE": "Allegro",
    "VERSION": "1",
    "DESCRIPTION": "Members, what they bought and what they may see.",
    "SERVERS": [{"url": ALLEGRO_URL}],
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api",
    "SORT_OPERATION_PARAMETERS": False,
    "ENUM_NAME_OVERRIDES": {
        "PurchaseStatus": "purchases.models.Purchase.Status",
        "PaymentStatus": "purchases.models.Purchase.PaymentStatus",
        "Channel": "purchases.models.Purchase.Channel",
        "CreditEntryKind": "purchases.models.CreditEntry.Kind",
        "PurchaseEventType": "purchases.models.PurchaseEvent.Type",
    },
}

# Browsers may call these from other sites; fulfillment/cors.py says from which.
CORS_URLS_REGEX = r"^/api/(checkout|purchases|entitlements|credits|members)(/|$)"
CORS_ALLOW_HEADERS = ["authorization", "content-type", "allegro-member"]
CORS_EXPOSE_HEADERS = ["X-Request-Id", "Retry-After"]

# For every page, the admin as well: nothing from elsewhere, no script in the page itself.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [csp.NONE],
        "script-src": [csp.SELF],
        "style-src": [csp.SELF],
        "img-src": [csp.SELF, "data:"],
        "connect-src": [csp.SELF],
        "form-action": [csp.SELF],
        "base-uri": [csp.NONE],
        "frame-ancestors": [csp.NONE],
    }
}

# In the database, so that all processes count together.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "allegro_cache",
        # Above this many, counts of clients that are still limited make room for new ones. Each
        # call counts the rows, so there is no room for everybody either.
        "OPTIONS": {"MAX_ENTRIES": 10_000},
    }
}

USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False
FORMAT_MODULE_PATH = ["allegro.formats"]

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
# The admin's own files are served without a collectstatic step.
WHITENOISE_USE_FINDERS = True

IS_HTTPS = ALLEGRO_URL.startswith("https://")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if IS_HTTPS else None
SECURE_SSL_REDIRECT = IS_HTTPS
# Stripe does not follow redirects, and monitoring asks the server itself, behind the proxy.
SECURE_REDIRECT_EXEMPT = [r"^api/webhooks/", r"^health/", r"^metrics"]
SECURE_HSTS_SECONDS = 31_536_000 if IS_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = IS_HTTPS
SECURE_HSTS_PRELOAD = IS_HTTPS
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_HTTPS
X_FRAME_OPTIONS = "DENY"

LOGGING = logs.configure()
