"""`.ci/audit`: finds fail it, what keeps it from looking does not. pip-audit itself is played by a script."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

AUDIT = Path(__file__).parent.parent / ".ci" / "audit"


def audit(tool: Path) -> tuple[int, str]:
    done = subprocess.run([str(AUDIT)], env=os.environ | {"PIP_AUDIT": str(tool)}, capture_output=True, text=True)
    assert done.stderr == ""
    return done.returncode, done.stdout


def pip_audit(folder: Path, answer: Any) -> Path:
    """A pip-audit that writes `answer`, or, for None, cannot reach its database."""
    tool = folder / "pip-audit"
    text = "" if answer is None else json.dumps({"dependencies": answer})
    tool.write_text(f"""#!/usr/bin/env python3
import sys
if {text!r}:
    open(sys.argv[sys.argv.index("--output") + 1], "w").write({text!r})
sys.exit(1)
""")
    tool.chmod(0o755)
    return tool


FINE = {"name": "a", "version": "1", "vulns": []}
WEAK = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3", "4"]}]}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (None, 0, ["skipped, the database of weaknesses cannot be reached (offline?)"]),
        ([UNKNOWN], 0, ["skipped, the database of weaknesses knows none of the packages (a mirror?)"]),
        ([FINE, UNKNOWN], 0, ["2 packages, 1 of them not looked up, 0 known weaknesses"]),
        ([FINE, WEAK], 1, ["b 2: PYSEC-1, fixed in 3, 4", "2 packages, 0 of them not looked up, 1 known weaknesses"]),
    ],
)
def test_audit(tmp_path: Path, answer: Any, code: int, said: list[str]) -> None:
    lines = [f"audit: {file}: {line}\n" for file in ("requirements.lock", "requirements-docs.txt") for line in said]
    assert audit(pip_audit(tmp_path, answer)) == (code, "".join(lines))


def test_a_weakness_in_one_of_the_files_is_enough(tmp_path: Path) -> None:
    tool = pip_audit(tmp_path, [FINE, WEAK])
    tool.write_text(tool.read_text("utf-8").replace("import sys\n", """import sys
if "requirements-docs.txt" in sys.argv:
    assert "--no-deps" in sys.argv
    sys.exit()
""", 1), "utf-8")  # fmt: skip
    code, said = audit(tool)
    assert code == 1
    assert said.splitlines()[-1].startswith("audit: requirements-docs.txt: skipped, ")


def test_not_installed(tmp_path: Path) -> None:
    said = "audit: skipped, pip-audit is not installed (make audit installs it)\n"
    assert audit(tmp_path / "missing") == (0, said)
