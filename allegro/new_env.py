"""Print .env.example filled in for trying Allegro on one machine, with secrets of its own.

`make demo` keeps the output as .env. The Stripe keys are made up: nothing here reaches Stripe.
"""

import secrets
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent.parent / ".env.example"


def values() -> dict[str, str]:
    return {
        "SECRET_KEY": secrets.token_urlsafe(50),
        "DEBUG": "true",
        "STRIPE_CONNECT_CLIENT_ID": "ca_test_demo",
        "STRIPE_SECRET_KEY": "sk_test_demo",
        "STRIPE_API_BASE": "http://127.0.0.1:8001",
        "NOTIFICATIONS_ALLOW_PRIVATE": "true",
        "STRIPE_PUBLISHABLE_KEY": "pk_test_demo",
        "STRIPE_WEBHOOK_SECRET": f"whsec_test_{secrets.token_hex(16)}",
    }


def filled_in(example: str) -> str:
    lines = example.splitlines()
    for name, value in values().items():
        lines = [f"{name}={value}" if line.startswith(f"{name}=") else line for line in lines]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(filled_in(EXAMPLE.read_text()))
