"""What every benchmark does from the command line: a fresh database, and one line of counts."""

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from django.db import connection


def run(bench: Callable[..., Any], parser: argparse.ArgumentParser) -> int:
    """Run it with the parser's arguments and a seed; returns 1 if a promise was broken, else 0."""
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))  # noqa: S311
    chosen = parser.parse_args()
    started = time.monotonic()
    with fresh_database():
        report = bench(**vars(chosen))
    counts = ", ".join(f"{name} {value}" for name, value in asdict(report).items())
    took = f"{time.monotonic() - started:.0f} s on {connection.vendor}, seed {chosen.seed}"
    sys.stdout.write(f"{counts} ({took})\n")
    return 0 if report.is_good() else 1


@contextmanager
def fresh_database() -> Iterator[None]:
    name = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        yield
    finally:
        connection.creation.destroy_test_db(name, verbosity=0)
