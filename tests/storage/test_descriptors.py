from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pennyweight.storage.descriptors import sent_to


def test_what_is_written_goes_elsewhere_until_the_block_ends(tmp_path: Path) -> None:
    with (tmp_path / "one").open("wb") as one, (tmp_path / "other").open("wb") as other:
        with suppress(KeyError), sent_to(one.fileno(), other.fileno()):
            os.write(one.fileno(), b"within")
            raise KeyError
        os.write(one.fileno(), b"after")
    assert (tmp_path / "one").read_bytes() == b"after"
    assert (tmp_path / "other").read_bytes() == b"within"
