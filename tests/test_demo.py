"""`make demo` and `manage.py simulate`, in a scratch copy of the project, as a newcomer runs it."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from django.core.management import CommandError, call_command

from tests.server import free_port, request
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent
TIMEOUT = 120
OURS = re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)


def environ():
    """The caller's environment without what the tests set, which would win over `.env`."""
    not_ours = {*OURS, "DJANGO_SETTINGS_MODULE", "WEBHOOK_SPOOL_DIR", "METRICS_TOKEN"}
    return {name: value for name, value in os.environ.items() if name not in not_ours}


def run(folder, *command):
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environ(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


class Demo:
    """A running `manage.py demo` on ports of its own."""

    def __init__(self, folder):
        self.web, self.sandbox, self.shop = (free_port() for _ in range(3))
        self._log = folder / f"demo-{self.web}.log"
        command = ["manage.py", "demo", "--port", str(self.web)]
        command += ["--sandbox-port", str(self.sandbox), "--shop-port", str(self.shop)]
        with self._log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=folder,
                env=environ(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def ports(self):
        return self.web, self.sandbox, self.shop

    def printed(self):
        return self._log.read_text()

    def wait_until_it_serves(self):
        wait_until(self.has_ended_or_serves, timeout=TIMEOUT)
        assert self.process.poll() is None, self.printed()

    def has_ended_or_serves(self):
        return self.process.poll() is not None or all(map(answers, self.ports))

    def end(self, by):
        """Tell the parent alone, and return its exit status once none of it answers any more."""
        self.process.send_signal(by)
        status = self.process.wait(TIMEOUT)
        wait_until(lambda: not any(answers(port) for port in self.ports), timeout=TIMEOUT)
        wait_until(lambda: not is_group_alive(self.process.pid), timeout=TIMEOUT)
        return status


def answers(port):
    try:
        return request("GET", f"http://127.0.0.1:{port}/").status > 0
    except OSError:
        return False


def is_group_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def running_demo(folder):
    demo = Demo(folder)
    try:
        demo.wait_until_it_serves()
        yield demo
    finally:
        if is_group_alive(demo.process.pid):
            os.killpg(demo.process.pid, signal.SIGKILL)
        demo.process.wait()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tracked files, as a clone has them, with an `.env` of their own."""
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / ".env").write_text(run(folder, "-m", "allegro.new_env").stdout)
    return folder


@pytest.fixture(scope="module")
def demo(folder):
    with running_demo(folder) as demo:
        yield demo
        # Tried here, since another demo would take as long to start as the other tests take.
        assert demo.end(signal.SIGTERM) == 0


def variables(text):
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


# --- the .env


def test_a_new_env_has_every_variable_of_the_example_and_secrets_of_its_own():
    first, second = (run(ROOT, "-m", "allegro.new_env").stdout for _ in range(2))

    example = variables((ROOT / ".env.example").read_text())
    assert list(variables(first)) == list(example)
    assert variables(first)["SECRET_KEY"] != variables(second)["SECRET_KEY"]
    assert len(variables(first)["SECRET_KEY"]) >= 50
    secrets = [variables(text)["STRIPE_WEBHOOK_SECRET"] for text in (first, second)]
    assert secrets[0] != secrets[1]
    assert all(secret.startswith("whsec_test_") for secret in secrets)


def test_a_new_env_explains_each_variable_as_the_example_does():
    made = run(ROOT, "-m", "allegro.new_env").stdout

    comments = re.findall(r"^#.*$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert re.findall(r"^#.*$", made, re.MULTILINE) == comments


# --- the demo


def url_after(label, text):
    return re.search(rf"^  {label} +(\S+)", text, re.MULTILINE)[1]


def password(text):
    return re.search(r"user admin, password (\S+)", text)[1]


def purchases(folder):
    with closing(sqlite3.connect(folder / "db.sqlite3")) as database:
        return database.execute("SELECT count(*) FROM purchases_purchase").fetchone()[0]


def test_the_demo_serves_what_it_prints(folder, demo):
    printed = demo.printed()

    secret = variables((folder / ".env").read_text())["STRIPE_WEBHOOK_SECRET"]
    assert url_after("Shop", printed) == f"http://localhost:{demo.shop}/"
    assert url_after("Admin", printed) == f"http://localhost:{demo.web}/admin/"
    assert url_after("Stripe", printed) == f"http://localhost:{demo.sandbox}/"
    assert url_after("Webhook", printed) == f"http://localhost:{demo.web}/api/webhooks/stripe"
    assert url_after("Webhook secret", printed) == secret
    assert b"Demo Weekly" in request("GET", f"http://127.0.0.1:{demo.shop}/").body
    assert b"Log in" in request("GET", f"http://127.0.0.1:{demo.web}/admin/login/").body


def test_the_command_that_the_demo_prints_makes_a_purchase(folder, demo):
    before = purchases(folder)
    printed = re.search(r"^ +\S+ (manage\.py simulate .*)$", demo.printed(), re.MULTILINE)[1]

    finished = run(folder, *printed.split())

    assert "done: fulfilled" in finished.stdout
    assert purchases(folder) == before + 1


def test_an_operator_connects_an_account_of_the_demo(demo):
    login = f"http://localhost:{demo.web}/admin/login/"
    operator = requests.Session()
    operator.get(login)
    fields = {"username": "admin", "password": password(demo.printed())}
    token = operator.cookies["csrftoken"]
    operator.post(login, {**fields, "csrfmiddlewaretoken": token}, headers={"Referer": login})

    asked = operator.get(f"http://localhost:{demo.web}/connect/stripe/demo/start")
    decision = {"account": "acct_1DemoWeekly", "decision": "allow"}
    address = urlsplit(asked.url)
    page = operator.post(
        f"{address.scheme}://{address.netloc}{address.path}",
        {**dict(parse_qsl(address.query)), **decision},
    )

    assert address.port == demo.sandbox
    assert urlsplit(page.url).port == demo.web
    assert "<h1>Connected</h1>" in page.text
    operator.close()


def test_a_second_run_keeps_the_data_and_ctrl_c_ends_all_of_it(folder, demo):
    before = purchases(folder)

    with running_demo(folder) as second:
        assert password(second.printed()) == password(demo.printed())
        assert purchases(folder) == before
        assert second.end(signal.SIGINT) == 0


def test_a_demo_that_is_killed_outright_leaves_nothing_behind(folder):
    with running_demo(folder) as second:
        second.end(signal.SIGKILL)


@pytest.mark.parametrize("option", ["port", "sandbox-port", "shop-port"])
def test_a_port_in_use_is_named_with_what_to_do(option):
    ports = {name: free_port() for name in ("port", "sandbox-port", "shop-port")}

    with (
        socket.create_server(("127.0.0.1", ports[option])),
        pytest.raises(CommandError, match=f"Port {ports[option]} is in use") as refusal,
    ):
        call_command("demo", *(f"--{name}={port}" for name, port in ports.items()))

    assert f"demo --{option} {ports[option] + 10}" in str(refusal.value)


def test_a_live_key_starts_no_demo(settings):
    settings.STRIPE_LIVEMODE = True

    with pytest.raises(CommandError, match="no place for a demo"):
        call_command("demo")


def test_the_token_of_a_simulation_is_the_buyers(folder, demo):
    shop = request("GET", f"http://127.0.0.1:{demo.shop}/").body.decode()
    key = re.search(r'data-key="(\w+)"', shop)[1]
    url = f"http://127.0.0.1:{demo.web}/api/webhooks/stripe"
    command = ["manage.py", "simulate", "checkout", "--tenant", "demo", "--url", url]
    token = run(folder, *command, "--email", "new@example.com").stdout.split()[-1]

    answer = request(
        "POST",
        f"http://127.0.0.1:{demo.web}/api/purchases/exchange",
        json.dumps({"token": token}),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )

    assert json.loads(answer.body)["member"]["email"] == "new@example.com"
