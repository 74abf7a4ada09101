"""Requests made from the server's /openapi.json, by schemathesis as a program of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .server_process import TOKEN, ServerProcess

CONFIG = """
headers = {{ Authorization = "Bearer {token}" }}
request-timeout = 60
warnings = false
{parameters}
[generation]
deterministic = {deterministic}
database = "none"
[checks.positive_data_acceptance]
# Right by the schema and yet not to be computed: a name that is not served, a pair for a classifier of texts, a label
# that it does not have, too many characters.
expected-statuses = ["2xx", "401", "403", "404", "413", "415", "422", "429", "503", "504"]
[checks.negative_data_rejection]
# More texts than may be are too much rather than wrong.
expected-statuses = ["400", "401", "403", "404", "405", "413", "415", "422", "429", "503"]
[checks.not_a_server_error]
# Only 500 would be a fault; 503 and 504 must be described where they come.
expected-statuses = ["2xx", "3xx", "4xx", "503", "504"]
"""


def try_requests(
    server: ServerProcess, folder: Path, *flags: object, name: str | None = None, deterministic: bool = True
) -> str:
    """Send requests that fit the description and some that do not; returns what schemathesis found, empty for nothing.

    Args:
        folder: for the settings.
        name: of a classifier, for every request; else names are made up.
        deterministic: whether the same requests are sent each time.
    """
    if name is not None:
        flags = (*flags, "--exclude-path-regex", "/unload$")  # it would be gone
    parameters = "" if name is None else f'parameters = {{ "path.name" = "{name}" }}'
    settings = folder / "schemathesis.toml"
    settings.write_text(
        CONFIG.format(token=TOKEN, parameters=parameters, deterministic=str(deterministic).lower()), "utf-8"
    )
    (folder / "openapi.json").write_bytes(server.get("/openapi.json").body)
    program = "from schemathesis.cli import schemathesis; schemathesis()"
    done = subprocess.run(
        [
            sys.executable, "-c", program, "--config-file", settings, "run", folder / "openapi.json",
            "--url", f"http://127.0.0.1:{server.port}", "--no-color", *map(str, flags),
        ],
        capture_output=True, text=True, timeout=3_600, cwd=folder,
    )  # fmt: skip
    return "" if done.returncode == 0 else done.stdout + done.stderr
