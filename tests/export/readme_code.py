"""The code in an export's README, run by itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BLOCK = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(name + " is not for this test")

sys.meta_path.insert(0, Refuse())
"""


def code_of(folder: Path) -> str:
    """The one block of Python in README.md, this-folder replaced by the folder."""
    (code,) = re.findall(r"^```python\n(.*?)^```", (folder / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return code.replace("this-folder", str(folder))


def printed(folder: Path, *blocked: str, more: str = "") -> list[Any]:
    """What the code prints in a process of its own that cannot import `blocked`: one literal a line."""
    code = BLOCK.format(blocked=set(blocked)) + code_of(folder) + "\n" + more
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.fail(done.stderr)
    return [ast.literal_eval(line) for line in done.stdout.splitlines()]
