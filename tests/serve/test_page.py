"""The page's files, and the page in a browser."""

from __future__ import annotations

from pennyweight.serve.page.static_files import static_files


def test_the_files_have_fixed_addresses_and_media_types() -> None:
    files = static_files()
    assert files["/"].media_type == "text/html; charset=utf-8"
    assert files["/static/style.css"].media_type == "text/css; charset=utf-8"
    assert files["/static/app.js"].media_type == "text/javascript; charset=utf-8"
    assert files["/static/icon.svg"].media_type == "image/svg+xml"
    assert not [address for address in files if ".py" in address or ".html" in address]
