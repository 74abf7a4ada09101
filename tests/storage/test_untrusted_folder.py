"""Reading folders that somebody else may have made."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pennyweight.storage.untrusted_folder import open_folder, read_inside


@pytest.mark.parametrize(
    ("name", "number"),
    [("link", errno.ELOOP), ("loop", errno.ELOOP), ("pipe", errno.EINVAL), ("folder", errno.EINVAL),
     ("linked/file", errno.ENOTDIR), ("large", errno.EFBIG), ("gone", errno.ENOENT), ("n" * 5000, errno.ENAMETOOLONG)],
)  # fmt: skip
def test_only_regular_files_are_read_and_no_link_is_followed(tmp_path: Path, name: str, number: int) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("here")
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "file")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "linked").symlink_to("folder")
    (tmp_path / "large").write_bytes(bytes(11))
    os.mkfifo(tmp_path / "pipe")
    with open_folder(tmp_path) as root:
        assert read_inside(root, "folder/file", 10) == b"here"
        with pytest.raises(OSError) as caught:  # noqa: PT011 (the number is compared)
            read_inside(root, name, 10)
    assert caught.value.errno == number
