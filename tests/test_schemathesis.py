"""Schemathesis tests the JSON API against its served description, for every role and for generated input.

An admin, who may access everything, runs every phase. Other roles run the phases that depend on the role. With
SCHEMATHESIS_EXAMPLES=20 all roles run all phases with that many examples, on PostgreSQL and Redis too. That is slow and
needs `-o faulthandler_timeout=0`.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from consumers import KEY, ROOT
from installation import Installation

from admin.auth.identity import ROLES

EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "")
ALL = "examples,coverage,fuzzing,stateful"

#: Operations that would stop the workers, the queues or the tested token, or wait for a run.
LEFT_OUT = r"^workers\.(stop|restart|quiet)$|^queues\.(pause|purge)$|^tasks\.pause$|^tokens\.revoke$|\.cleanup$"


@pytest.fixture(params=["embedded", *(["servers"] if EXAMPLES else [])])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    servers = {"DATABASE_URL": "fresh_postgresql", "REDIS_URL": "redis_url"} if request.param == "servers" else {}
    urls = {name: request.getfixturevalue(fixture) for name, fixture in servers.items()}
    installed = Installation(tmp_path, SECRET_KEY=KEY, API_RATE="100000/s", **urls)
    for command in (("migrate",), ("demo",), ("run-task", "get_cleanup_statistics"), ("views", "save", *VIEW)):
        assert installed.flask(*command).returncode == 0
    with installed.consumer("light"), installed.web():
        yield installed


ROLES_TRIED = (*reversed(ROLES), "anonymous")
VIEW = ("--name", "bad", "--search", "state:failed", "--shared")


def test_api_conforms_to_its_spec_for_every_role(installation: Installation) -> None:
    tokens = {role: installation.bearer(role) for role in ROLES}
    described = installation.folder / "openapi.json"
    described.write_text(installation.ask("GET", "/api/openapi.json", tokens["viewer"]).text)
    with ThreadPoolExecutor(2) as pool:
        tried = {
            role: pool.submit(run_schemathesis, installation, described, role, tokens.get(role, {}))
            for role in ROLES_TRIED
        }
    for role, done in tried.items():
        result = done.result()
        assert result.returncode == 0, f"as {role}:\n{result.stdout[-6000:]}{result.stderr[-2000:]}"
        assert "No checks were performed" not in result.stdout
    assert "Traceback" not in (installation.folder / "web.log").read_text()


def run_schemathesis(
    installation: Installation, described: Path, role: str, headers: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    phases = ALL if EXAMPLES or role == "admin" else "examples,fuzzing,stateful"
    sent = [word for name, value in headers.items() for word in ("--header", f"{name}: {value}")]
    command = [
        str(Path(sys.executable).parent / "st"),
        *("--config-file", str(ROOT / "tests" / "schemathesis.toml"), "run", str(described)),
        *("--url", f"http://127.0.0.1:{installation.port}", "--checks", "all"),
        *("--max-examples", EXAMPLES or "1", "--phases", phases),
        *("--exclude-operation-id-regex", LEFT_OUT, *sent),
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "SCHEMATHESIS_HOOKS": "api_hooks"}
    return subprocess.run(command, cwd=installation.folder, env=environment, capture_output=True, text=True)
