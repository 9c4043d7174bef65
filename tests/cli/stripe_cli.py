"""Stripe's official CLI as a real process that talks to a sandbox and to nobody else."""

import os
import re
import shlex
import subprocess
from contextlib import contextmanager
from pathlib import Path

from tests.sandbox_server import KEY
from tests.waiting import wait_until

DOCUMENT = Path(__file__).parents[2] / "docs" / "developing.md"
TIMEOUT = 20
SECRET = re.compile(r"whsec_\w+")


class StripeCli:
    """The program that the variable STRIPE_CLI names; `home` takes what it writes."""

    def __init__(self, api_base, home):
        self._program = os.environ["STRIPE_CLI"]
        self._options = ["--api-key", KEY, "--api-base", api_base]
        self._output = home / "listen.txt"
        # It asks the internet for a newer version of itself; the closed port answers for that.
        nobody = "http://127.0.0.1:1"
        self._environ = {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
            "HTTP_PROXY": nobody,
            "HTTPS_PROXY": nobody,
            "STRIPE_CLI_TELEMETRY_OPTOUT": "1",
        }

    def run(self, *arguments):
        """What a command prints; it has to succeed."""
        done = subprocess.run(
            self._command(arguments),
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def listening(self, *arguments):
        """Run `stripe listen` for as long as the block does; gives the secret it prints."""
        with self._output.open("w") as output:
            process = subprocess.Popen(
                self._command(arguments),
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(lambda: process.poll() is not None or "Ready!" in self.output())
            assert process.poll() is None, self.output()
            yield SECRET.search(self.output())[0]
        finally:
            process.terminate()
            process.wait(TIMEOUT)

    def output(self):
        """What the last `stripe listen` printed."""
        return self._output.read_text()

    def _command(self, arguments):
        return [self._program, *arguments, *self._options]


def documented(command, replacements):
    """The arguments of a command as the document for developers prints it.

    `replacements` are the values for what the document can only name.
    """
    text = DOCUMENT.read_text().replace("\\\n", " ")
    lines = (" ".join(line.split()) for line in text.splitlines())
    line = next(line for line in lines if line.startswith(f"{command} "))
    for placeholder, value in replacements.items():
        assert placeholder in line
        line = line.replace(placeholder, value)
    return shlex.split(line)[1:]
