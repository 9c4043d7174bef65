"""The tools that the other tests stand on: the compiled requirements, the two launchers."""

import os
import signal
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from packaging.requirements import Requirement

from tests.server import request, running_server
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME = PROJECT["project"]["dependencies"]
DEVELOPMENT = PROJECT["dependency-groups"]["dev"]


def compiled(name):
    """Return the pinned requirements of a compiled file, by package."""
    lines = (ROOT / name).read_text().splitlines()
    pins = [Requirement(line.rstrip(" \\")) for line in lines if line[:1].isalnum()]
    return {pin.name: pin for pin in pins}


def version(pin):
    return str(pin.specifier).removeprefix("==")


@pytest.mark.parametrize("wanted", RUNTIME)
def test_requirements_hold_every_dependency(wanted):
    wanted = Requirement(wanted)

    pin = compiled("requirements.txt")[wanted.name]

    assert version(pin) in wanted.specifier


@pytest.mark.parametrize("wanted", RUNTIME + DEVELOPMENT)
def test_development_requirements_hold_every_dependency(wanted):
    wanted = Requirement(wanted)

    pin = compiled("requirements-dev.txt")[wanted.name]

    assert version(pin) in wanted.specifier


def test_development_requirements_pin_what_production_runs():
    runtime = compiled("requirements.txt").items()

    assert runtime <= compiled("requirements-dev.txt").items()


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_hashed_and_name_no_registry(name):
    text = (ROOT / name).read_text()
    lines = text.splitlines()

    assert "://" not in text
    assert all(
        following.startswith("    --hash=sha256:")
        for line, following in pairwise(lines)
        if line[:1].isalnum()
    )


@pytest.fixture
def on_postgres(monkeypatch):
    """Run Python code under the launcher, which starts a server of its own."""
    monkeypatch.delenv("DATABASE_URL")

    def start(code, **options):
        command = [sys.executable, "-m", "tests.postgres", sys.executable, "-c", code]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **options)

    return start


REPORT_SERVER = """
import os, psycopg
connection = psycopg.connect(os.environ["DATABASE_URL"])
pid = open(connection.execute("SHOW data_directory").fetchone()[0] + "/postmaster.pid").readline()
print(os.environ["DATABASE_URL"], pid.strip(), flush=True)
"""


def has_ended(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_the_status_of_the_command_is_the_launchers(on_postgres):
    process = on_postgres("raise SystemExit(7)")

    process.communicate()

    assert process.returncode == 7


def test_the_server_outlives_neither_its_command_nor_a_kill(on_postgres):
    process = on_postgres(REPORT_SERVER + "input()", stdin=subprocess.PIPE)
    url, pid = process.stdout.readline().split()
    psycopg.connect(url).close()

    process.send_signal(signal.SIGKILL)
    process.communicate()

    wait_until(lambda: has_ended(int(pid)))
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_a_postgres_that_is_given_is_used(on_postgres, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgres://elsewhere.invalid/allegro")
    process = on_postgres("import os; print(os.environ['DATABASE_URL'])")

    output, _ = process.communicate()

    assert output == "postgres://elsewhere.invalid/allegro\n"


def test_a_killed_server_comes_back_on_its_port(transactional_db):
    with running_server(workers=1) as server:
        server.kill()
        with pytest.raises(ConnectionError):
            request("GET", f"{server.url}/.well-known/openid-configuration")

        server.restart()

        assert request("GET", f"{server.url}/.well-known/openid-configuration").status == 200
