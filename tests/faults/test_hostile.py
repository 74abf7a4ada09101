"""Files made to run code or to fill the memory: nothing runs, and each is refused in one line under a fixed cap.

The readers' own tests hold many more makes of pickles, archives and tables; here each kind comes in by the front door.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Ask = Callable[..., dict[str, Any]]
CAP = 512  # MiB beyond what the libraries take
GIGABYTE = 1 << 30


class Payload:
    """Unpickled by a careless reader, it runs a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def gzipped(path: Path, head: bytes, block: bytes, tail: bytes = b"") -> str:
    """A gigabyte in a megabyte."""
    with gzip.open(path, "wb", compresslevel=9) as handle:
        handle.write(head)
        for _ in range(GIGABYTE // len(block)):
            handle.write(block)
        handle.write(tail)
    assert path.stat().st_size < 8 << 20
    return str(path)


Made = tuple[str, dict[str, Any], str]


def pickled(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    (folder / "data.pkl").write_bytes(pickle.dumps(Payload(marker)))
    return "train", toy | {"data": str(folder / "data.pkl"), "out": folder / "run"}, "the pickle is refused"


def pickled_by_another_name(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    (folder / "data.csv").write_bytes(pickle.dumps(Payload(marker), protocol=0))
    return "train", toy | {"data": str(folder / "data.csv"), "out": folder / "run"}, "data.csv"


def tagged_recipe(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    (folder / "r.yaml").write_text(f"name: !!python/object/apply:os.system ['touch {marker}']\n")
    return "read_recipe", {"path": str(folder / "r.yaml")}, "not valid YAML"


def tagged_recipe_in_a_classifier(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    copied = resealed(
        clean, folder, {"recipe.yaml": f"name: !!python/object/apply:os.system ['touch {marker}']\n".encode()}
    )
    return "load", {"folder": copied, "texts": ["x"]}, "not a plain YAML file"


LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


def laughing_recipe(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    (folder / "r.yaml").write_text(LAUGHS + "train: {epochs: *a11}\ndata: *a11\n")
    return "read_recipe", {"path": str(folder / "r.yaml")}, "r.yaml"


def laughing_recipe_in_a_classifier(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    copied = resealed(clean, folder, {"recipe.yaml": (LAUGHS + "train: {epochs: *a11}\n").encode()})
    return "load", {"folder": copied, "texts": ["x"]}, "a recipe must not use YAML aliases"


def one_long_text(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    path = gzipped(folder / "data.jsonl.gz", b'{"label": "a", "text": "', b"x" * (1 << 20), b'"}\n')
    return "read_data", {"path": path}, "data.jsonl.gz"


def many_rows(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    path = gzipped(folder / "data.csv.gz", b"text,label\n", b"hello,a\n" * (1 << 17))
    return "read_data", {"path": path}, "looks like a decompression bomb"


def one_array(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    path = gzipped(folder / "data.json.gz", b"[", b'{"text":"x","label":"a"},' * 40_000, b"{}]")
    return "read_data", {"path": path}, "looks like a decompression bomb"


def empty_lines(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    return "read_data", {"path": gzipped(folder / "data.tsv.gz", b"", b"\n" * (1 << 20))}, "data.tsv.gz"


def folded_table(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    """A gigabyte of one text, by a dictionary."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array(["x" * 1100]))
    pq.write_table(pa.table({"text": rows, "label": ["a"] * 1_000_000}), folder / "data.parquet", compression="zstd")
    assert (folder / "data.parquet").stat().st_size < 1 << 20
    return "read_data", {"path": str(folder / "data.parquet")}, "data.parquet"


def nested_json(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    (folder / "data.jsonl").write_text('{"text": ' + "[" * 1_000_000 + "\n")
    return "read_data", {"path": str(folder / "data.jsonl")}, "data.jsonl"


def scripted_folder(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    data = folder / "corpus"
    data.mkdir()
    (data / "corpus.py").write_text(f"open({str(marker)!r}, 'w')\n")
    (data / "dataset_infos.json").write_text("{}")
    return "train", toy | {"data": str(data), "out": folder / "run"}, "corpus"


def backbone_with_code(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    backbone = Path(shutil.copytree(toy["backbone"], folder / "backbone"))
    (backbone / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    config = json.loads((backbone / "config.json").read_text())
    (backbone / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    return "train", toy | {"backbone": str(backbone), "out": folder / "run"}, "needs to run its own code (auto_map)"


def backbone_of_pickles(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    backbone = Path(shutil.copytree(toy["backbone"], folder / "backbone"))
    (backbone / "model.safetensors").unlink()
    (backbone / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(marker)))
    return "train", toy | {"backbone": str(backbone), "out": folder / "run"}, "no weights in safetensors format"


def tokenizer_with_code(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    config = json.loads((clean / "tokenizer" / "tokenizer_config.json").read_text())
    config |= {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}, "tokenizer_class": "Tokenizer"}
    copied = resealed(
        clean,
        folder,
        {
            "tokenizer/tokenizer_config.json": json.dumps(config).encode(),
            "tokenizer/evil.py": f"open({str(marker)!r}, 'w')\n".encode(),
        },
    )
    return "load", {"folder": copied, "texts": ["x"]}, "the tokenizer needs to run its own code"


def unsigned_file_in_the_tokenizer(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    copied = Path(shutil.copytree(clean, folder / "made"))
    (copied / "tokenizer" / "added_tokens.json").write_text('{"bank": 7}')
    return "load", {"folder": copied, "texts": ["x"]}, "a file that the manifest does not list"


def pickled_head(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    copied = resealed(clean, folder, {"head.safetensors": pickle.dumps(Payload(marker))})
    return "load", {"folder": copied, "texts": ["x"]}, "head.safetensors"


def boastful_header(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    copied = resealed(clean, folder, {"head.safetensors": struct.pack("<Q", 1 << 60) + b"{" * 64})
    return "load", {"folder": copied, "texts": ["x"]}, "a header of 1,152,921,504,606,846,976 bytes"


def boastful_tensor(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    size = 1 << 40
    header = json.dumps({"out.weight": {"dtype": "F32", "shape": [size], "data_offsets": [0, 4 * size]}}).encode()
    copied = resealed(clean, folder, {"head.safetensors": struct.pack("<Q", len(header)) + header})
    return "load", {"folder": copied, "texts": ["x"]}, "not a readable safetensors file"


def boastful_plan(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    plan = json.loads((clean / "plan.json").read_text())
    plan["adapter"]["r"] = 10**9
    copied = resealed(clean, folder, {"plan.json": json.dumps(plan).encode()})
    return "load", {"folder": copied, "texts": ["x"]}, "differs from the plan"


def link_out_of_the_folder(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    copied = Path(shutil.copytree(clean, folder / "made"))
    (folder / "outside").write_bytes((copied / "plan.json").read_bytes())
    (copied / "plan.json").unlink()
    (copied / "plan.json").symlink_to(folder / "outside")
    return "load", {"folder": copied, "texts": ["x"]}, "not a regular file of the folder (links are not followed)"


def path_out_of_the_folder(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    (folder / "outside").write_bytes(b"secret")
    return "load", {"folder": resealed(clean, folder, {"../outside": b"secret"}), "texts": ["x"]}, "not in the folder"


def absolute_path(folder: Path, marker: Path, toy: Any, clean: Path) -> Made:
    name = str(folder / "outside")
    return "load", {"folder": resealed(clean, folder, {name: b"secret"}), "texts": ["x"]}, "not in the folder"


def resealed(clean: Path, folder: Path, files: dict[str, bytes]) -> Path:
    """A copy with some files replaced, its checksums and its seal in order."""
    from pennyweight.artifact.layout import MANIFEST
    from pennyweight.artifact.manifest import manifest_text

    made = Path(shutil.copytree(clean, folder / "made"))
    for name, content in files.items():
        (made / name).write_bytes(content)
    facts = json.loads((made / MANIFEST).read_text())
    names = sorted({*facts.pop("sha256"), *files})
    facts.pop("seal")
    (made / MANIFEST).write_text(manifest_text(facts, made, names))
    return made


QUICK = (
    pickled, tagged_recipe, tagged_recipe_in_a_classifier, laughing_recipe, laughing_recipe_in_a_classifier,
    nested_json, scripted_folder, backbone_with_code, backbone_of_pickles, tokenizer_with_code, pickled_head,
    unsigned_file_in_the_tokenizer, pickled_by_another_name, boastful_header, boastful_tensor, boastful_plan,
    link_out_of_the_folder, path_out_of_the_folder, absolute_path,
)  # fmt: skip
BOMBS = (one_long_text, many_rows, one_array, empty_lines, folded_table)
seen: dict[str, int] = {"refused": 0, "ran": 0}


def check(make: Callable[..., Made], ask: Ask, toy: Any, clean: Path, folder: Path) -> None:
    marker = folder / "it ran".replace(" ", "-")
    do, arguments, problem = make(folder, marker, toy, clean)
    answer = ask(do, memory=CAP, **arguments)
    seen["ran"] += marker.exists()
    assert not marker.exists()
    assert answer["code"] == 2, answer
    assert problem in answer["error"]
    assert "\n" not in answer["error"]
    assert len(answer["error"]) < 1500
    assert "Traceback" not in answer["stderr"]
    seen["refused"] += 1


@pytest.mark.parametrize("make", QUICK, ids=lambda make: make.__name__)
def test_it_is_refused_and_does_not_run(make: Any, ask: Ask, toy: Any, clean: Path, tmp_path: Path) -> None:
    check(make, ask, toy, clean, tmp_path)


@pytest.mark.faults
def test_everything_under_one_cap(ask: Ask, toy: Any, clean: Path, tmp_path: Path, figure: Any) -> None:
    seen.update(refused=0, ran=0)
    for make in (*QUICK, *BOMBS):
        folder = tmp_path / make.__name__
        folder.mkdir()
        check(make, ask, toy, clean, folder)
    count = len(QUICK) + len(BOMBS)
    figure(f"{count} hostile inputs under a cap of {CAP} MiB: {seen['refused']} of {count} refused, {seen['ran']} ran")


def test_the_payload_would_run(tmp_path: Path) -> None:
    """Else the tests above would prove nothing."""
    pickle.loads(pickle.dumps(Payload(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()
