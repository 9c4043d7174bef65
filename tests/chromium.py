"""Where Chromium is on this machine. `python -m tests.chromium` prints it, or what to install."""

import os
import shutil
import subprocess
import sys

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
NONE_FOUND = (
    "No Chromium that runs was found. Install Debian's package chromium, or run "
    "`python -m playwright install --with-deps chromium`, or set CHROMIUM to the path of one."
)


def find_chromium(playwright):
    """Return the first Chromium that starts, or None; the one that CHROMIUM names comes first."""
    named = [os.environ.get("CHROMIUM", ""), *NAMES]
    paths = [shutil.which(name) for name in named if name]
    for path in (*paths, playwright.chromium.executable_path):
        if path and _starts(path):
            return path
    return None


def _starts(path):
    # Ubuntu's package is a script that only names another way to install it.
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0


if __name__ == "__main__":
    with sync_playwright() as playwright:
        found = find_chromium(playwright)
    print(found) if found else sys.exit(NONE_FOUND)  # noqa: T201
