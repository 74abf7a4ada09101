"""A picture of a pennyweight command in a terminal, as SVG: `python scripts/terminal_picture.py OUT COMMAND...`.

The command runs as it is; what it prints is drawn, 80 columns wide, the lines before `--from TEXT` left out:

    python scripts/terminal_picture.py --from "measured on test" docs/demo.svg demo
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

WIDTH = 80


def main() -> None:
    """Run the command and draw what it prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--from", dest="first", default="", help="leave out the lines before the one with this text")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    words = [sys.executable, "-m", "pennyweight", *options.command]
    printed = subprocess.run(words, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    lines = printed.splitlines()
    begin = next((number for number, line in enumerate(lines) if options.first in line), 0)
    console = Console(record=True, width=WIDTH, file=open("/dev/null", "w"), force_terminal=True)  # noqa: SIM115
    console.print(Text(f"$ pennyweight {' '.join(options.command)}", style="bold"))
    for line in lines[begin:]:
        console.print(Text(line, style="green" if "█" in line else ""), overflow="fold")
    # Without the fonts that rich's own form fetches from elsewhere.
    form = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace("Fira Code, ", "")
    picture = console.export_svg(title="pennyweight", theme=MONOKAI, code_format=form, unique_id="pennyweight")
    options.out.write_text(picture, "utf-8")


if __name__ == "__main__":
    main()
