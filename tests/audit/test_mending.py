from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pennyweight.audit.audit import audit
from pennyweight.audit.audit_report import table
from pennyweight.audit.findings import Finding
from pennyweight.audit.mending import mend

ROOT = Path(__file__).parents[2]
KINDS = re.findall(
    r"`([a-z-]+)`", (ROOT / "docs" / "audit.md").read_text("utf-8").split("| finding |")[1].split("\n\n")[0]
)


def finding(name: str, part: str) -> Finding:
    return Finding(name, part, "", np.empty(0, dtype=np.int64))


@pytest.mark.parametrize("name", [name for name in KINDS if not name.endswith("leak")])
def test_every_kind_of_finding_in_the_data_says_what_mends_it(name: str) -> None:
    assert mend(finding(name, "data"))


def test_leaks_are_told_of_the_test_set_and_mended_in_the_data() -> None:
    assert mend(finding("exact-leak", "test")) == ("--fix OUT drops the rows of the data that are also in the test set")
    assert mend(finding("exact-duplicate", "test")) == "audit TEST --fix OUT, as for the data"
    assert mend(finding("unheard-of", "test")) == ""


def test_every_flag_that_is_named_exists() -> None:
    reference = (ROOT / "docs" / "commands.md").read_text("utf-8")
    said = " ".join(mend(finding(name, part)) for name in KINDS for part in ("data", "test"))
    flags = set(re.findall(r"--[\w-]+", said))
    assert len(flags) > 6
    assert [flag for flag in flags if f"{flag} " not in reference] == []


def test_a_finding_shows_the_beginnings_of_its_texts_and_what_mends_it(tmp_path: Path) -> None:
    rows = ["The team won the match by two goals,sport", "Shares fell after the bank's warning,money"]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows, rows[1].replace("Shares", "SHARES")]), "utf-8")
    found = audit(tmp_path / "data.csv")
    (one,) = (one for one in found.findings if one.name == "exact-duplicate")
    assert one.excerpts == (("SHARES fell after the bank's warning", "Shares fell after the bank's warning"),)
    lines = table(found).splitlines()
    place = lines.index("  data: 1 texts that repeat an earlier one (33.33%)")
    assert lines[place + 1 : place + 5] == [
        "      line 4 and data line 3",
        "          SHARES fell after the bank's warning",
        "          Shares fell after the bank's warning",
        "      to fix: --fix OUT keeps the first of each",
    ]


def test_a_long_text_is_cut_and_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(f"text,label\n\x1b[31m{'word ' * 60},a\n\x1b[31m{'word ' * 60},a\n", "utf-8")
    found = audit(tmp_path / "data.csv")
    assert "\x1b" not in table(found)
    assert str(found) == table(found)  # what a notebook shows
    assert found._repr_html_().startswith("<pre ")
    assert max(map(len, table(found).splitlines())) < 110
