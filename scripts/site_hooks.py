"""What mkdocs does beside its configuration: pages from outside docs/, and links between both.

README is the first page; CHANGELOG, CONTRIBUTING, SECURITY, the benchmarks' results and the examples are pages, too.
Links to files that are no pages (a script, a folder) become plain text, because a site has no such file.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
# The page's place in the site: where it stands in the repository.
OUTSIDE = {
    "index.md": "README.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "benchmarks/results.md": "benchmarks/results.md",
    "examples/README.md": "examples/README.md",
}
PLACES = {source: place for place, source in OUTSIDE.items()}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside docs/."""
    for place, source in OUTSIDE.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Rewrite each link of a page from where it stands in the repository to where it stands in the site."""
    here = page.file.src_uri
    source = OUTSIDE.get(here, f"docs/{here}")

    def rewritten(link: re.Match[str]) -> str:
        picture, words, target = link.groups()
        path, hash_, anchor = target.partition("#")
        if not path or "://" in path:
            return link[0]
        place = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        place = PLACES.get(place, place.removeprefix("docs/"))
        if files.get_file_from_path(place) is None:
            return words
        return f"{picture}[{words}]({posixpath.relpath(place, posixpath.dirname(here) or '.')}{hash_}{anchor})"

    parts = re.split(r"(^```.*?^```)", markdown, flags=re.DOTALL | re.MULTILINE)  # code has no links
    return "".join(part if part.startswith("```") else LINK.sub(rewritten, part) for part in parts)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Name the theme's search dialog for screen readers."""
    dialog = 'data-md-component="search" role="dialog"'
    return output.replace(dialog, f'{dialog} aria-label="Search"')
