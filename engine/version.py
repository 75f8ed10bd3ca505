"""Version of the code and name of the host, for messages and heartbeats."""

import os
import socket
import subprocess
from functools import cache

from config import ROOT


@cache
def code_version() -> str:
    """Return `DEWEY_VERSION` if a build sets it, else the commit of the checkout, else `unknown`."""
    if version := os.environ.get("DEWEY_VERSION"):
        return version
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


@cache
def host_name() -> str:
    return socket.gethostname()
