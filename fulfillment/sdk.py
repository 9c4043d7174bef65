"""The browser SDK as it is served: read once, named by its content."""

import hashlib
from pathlib import Path

SOURCE = (Path(__file__).parent / "client.js").read_bytes()
VERSION = hashlib.sha256(SOURCE).hexdigest()[:12]
