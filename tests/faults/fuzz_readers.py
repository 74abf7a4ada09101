"""Coverage-guided fuzzing of the file readers: `python fuzz_readers.py -max_total_time=30 [corpus]` (needs atheris).

The first byte chooses a reader, the rest is its file. Anything but a value or one of our own one-line errors is a find.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pennyweight"]):
    from pennyweight.data.sources import read
    from pennyweight.errors import PennyweightError
    from pennyweight.recipe import loading as recipe
    from pennyweight.storage.checksums import unseal

warnings.simplefilter("ignore")
FOLDER = Path(tempfile.mkdtemp(prefix="pennyweight-fuzz-"))
ENDINGS = ("csv", "tsv", "jsonl", "json", "pkl", "parquet", "arrow", "csv.gz", "yaml", "sealed")


def one_input(content: bytes) -> None:
    ending = ENDINGS[content[0] % len(ENDINGS)] if content else "csv"
    path = FOLDER / f"data.{ending}"
    path.write_bytes(content[1:])
    try:
        if ending == "yaml":
            recipe.load(path)
        elif ending == "sealed":
            unseal(content[1:].decode("latin-1"))
        else:
            read(path, labelled=None)
    except PennyweightError as error:
        if "\n" in str(error):
            raise AssertionError("more than one line") from error
    except ValueError:
        if ending != "sealed":
            raise


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
