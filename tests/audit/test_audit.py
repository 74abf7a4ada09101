"""`pennyweight audit`: every kind of finding with the lines it is on, the folder, the cleaned copy, what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]

BANK = "The central bank held its rate as inflation slowed for a third month in a row."
CUP = "The striker scored twice in the final ten minutes to win the cup for the town."
POLLS = "Voters in the province go to the polls on Sunday after a quiet campaign there."
RAIN = "Rain stopped play on the second day of the test match in Galle, said officials."
ROWS = [
    (BANK, "b"),  # line 2
    (CUP, "s"),
    (BANK.upper().replace(".", "!"), "b"),  # 4: exact
    ("Update: " + CUP.replace("twice", "thrice"), "s"),  # 5: near
    (POLLS, "w"),
    (POLLS, "b"),  # 7: another label
    ("", "w"),  # 8: empty
    ("Yes.", "w"),  # 9: near-empty
    ("The cafÃ© in the old town of the province closed after a fire.", "b"),  # 10: damaged
    ("Shares of AT&amp;T fell &lt;b&gt;sharply&lt;/b&gt; on Monday after results.", "b"),  # 11: markup
    (RAIN, "s"),  # 12: in the test set
]


def write(path: Path, rows: list[tuple[str, str]], header: str = "text,label") -> Path:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(header.split(","))
        writer.writerows(rows)
    return path


@pytest.fixture
def audit(tiny_backbone: Callable[..., Path], command: Command) -> Callable[..., Any]:
    def call(*arguments: object) -> Any:
        return command("audit", *arguments, "--backbone", tiny_backbone("bert"))

    return call


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    test = [("A probe sent back pictures of a small moon and its icy surface.", "w"), (RAIN.lower(), "w")]
    return write(tmp_path / "data.csv", ROWS), write(tmp_path / "test.csv", test)


def lines(answer: dict[str, Any]) -> dict[tuple[str, str], tuple[list[int], list[int | None] | None]]:
    return {
        (one["part"], one["name"]): (one["lines"], one.get("partner_lines")) for one in answer["findings"]
    }  # fmt: skip


def test_every_finding_with_its_lines(audit: Callable[..., Any], files: tuple[Path, Path]) -> None:
    data, test = files
    done = audit(data, "--test", test, "--json")
    assert (done.code, done.err) == (0, "")
    answer = json.loads(done.out)
    found = lines(answer)
    assert found.pop(("data", "rare-class"))[0] == list(range(2, 13))
    found.pop(("test", "rare-class"))
    assert found == {
        ("data", "empty-text"): ([8], None),
        ("data", "near-empty-text"): ([9], None),
        ("data", "encoding-damage"): ([10], None),
        ("data", "markup"): ([11], None),
        ("data", "exact-duplicate"): ([4, 7], [2, 6]),
        ("data", "near-duplicate"): ([5], [3]),
        ("data", "conflicting-labels"): ([6, 7], [7, 6]),
        ("test", "exact-leak"): ([3], [12]),
    }
    part = answer["parts"]["data"]
    assert part["classes"] == {"b": 5, "s": 3, "w": 3}
    assert part["balance"]["ratio"] == 1.667
    assert part["tokens"]["measured_on"] == 11
    assert set(part["tokens"]["truncated"]) == {"64", "128", "256", "512"}
    assert answer["left_out"] == []


def test_the_share_truncated_is_that_of_the_tokenizer(
    audit: Callable[..., Any], files: tuple[Path, Path], tiny_backbone: Callable[..., Path]
) -> None:
    from pennyweight.model.tokenizer import encode, load_tokenizer

    tokens = encode(load_tokenizer(tiny_backbone("bert")), [text for text, _ in ROWS], 20)
    answer = json.loads(audit(files[0], "--max-length", 20, "--json").out)
    assert answer["parts"]["data"]["tokens"]["truncated"]["20"] == pytest.approx(tokens.truncated / 11, abs=1e-6)
    assert tokens.truncated > 3


def test_the_table_names_lines(audit: Callable[..., Any], files: tuple[Path, Path]) -> None:
    done = audit(files[0], "--test", files[1])
    assert done.code == 0
    assert "classes     3: b 5, s 3, w 3" in done.out
    assert "      line 5 and data line 3: similarity" in done.out
    assert "      line 6 and data line 7: w against b" in done.out
    assert "      line 3 and data line 12: w against s" in done.out


def test_the_folder(audit: Callable[..., Any], files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "found"
    assert audit(files[0], "--test", files[1], "--out", out).code == 0
    assert sorted(file.name for file in out.iterdir()) == ["audit.json", "classes.png", "lengths.png", "rows.csv"]
    with (out / "rows.csv").open(encoding="utf-8", newline="") as handle:
        rows = [tuple(row.values()) for row in csv.DictReader(handle)]
    assert ("data", "7", "conflicting-labels", "b against w", "data", "6") in rows
    assert ("test", "3", "exact-leak", "w against s", "data", "12") in rows
    assert json.loads((out / "audit.json").read_text("utf-8"))["parts"]["test"]["rows"] == 2


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_cleaned_copy_and_what_went(
    form: str, audit: Callable[..., Any], files: tuple[Path, Path], tmp_path: Path
) -> None:
    from pennyweight.data.sources import read

    before = files[0].read_bytes()
    out = tmp_path / f"clean.{form}"
    done = audit(files[0], "--test", files[1], "--fix", out)
    assert done.code == 0, done.err
    assert files[0].read_bytes() == before
    table = read(out)
    assert list(zip(table.texts, table.labels or (), strict=True)) == [
        ROWS[0],
        ROWS[1],
        ROWS[7],
        ("The café in the old town of the province closed after a fire.", "b"),
        ("Shares of AT&T fell sharply on Monday after results.", "b"),
    ]
    with (tmp_path / "clean.dropped.csv").open(encoding="utf-8", newline="") as handle:
        rows = [tuple(row.values()) for row in csv.DictReader(handle)]
    assert rows == [
        ("4", "dropped", "exact duplicate", "data", "2"),
        ("5", "dropped", "near-duplicate", "data", "3"),
        ("6", "dropped", "conflicting labels", "data", "7"),
        ("7", "dropped", "conflicting labels", "data", "6"),
        ("8", "dropped", "empty", "", ""),
        ("10", "changed", "markup or encoding", "", ""),
        ("11", "changed", "markup or encoding", "", ""),
        ("12", "dropped", "is also in the test set", "test", "3"),
    ]


def test_a_copy_never_overwrites_the_original(
    audit: Callable[..., Any], files: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "link.csv").symlink_to(files[0])
    for out in (files[0], tmp_path / "link.csv"):
        done = audit(files[0], "--fix", out)
        assert done.code == 2
        assert done.error == f"{out}: the cleaned copy would overwrite the original; give --fix another name"
    done = audit(files[0], "--test", files[1], "--fix", files[1])
    assert "would overwrite the original" in done.error
    done = audit(files[0], "--fix", tmp_path / "out.xlsx")
    assert done.error == (
        f"{tmp_path}/out.xlsx: unknown file format for the cleaned copy; expected a name ending in .csv, .jsonl or "
        ".parquet; received out.xlsx"
    )
    assert files[0].read_text("utf-8").startswith("text,label")


def test_an_unlabelled_file(audit: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text, _ in ROWS), "utf-8")
    done = audit(tmp_path / "texts.jsonl", "--json")
    answer = json.loads(done.out)
    assert set(lines(answer)) >= {("data", "exact-duplicate"), ("data", "near-duplicate"), ("data", "empty-text")}
    assert lines(answer)["data", "exact-duplicate"] == ([3, 6], [1, 5])
    assert answer["parts"]["data"]["labelled"] is False
    assert answer["left_out"] == ["data has no label column: classes, conflicting labels and shortcut features"]
    done = audit(tmp_path / "texts.jsonl", "--suspects")
    assert (done.code, done.out) == (2, "")
    assert done.error.endswith("--suspects needs labels; name the label column with --label-column")


def test_rows_without_a_label_are_found_and_imbalance_told(audit: Callable[..., Any], tmp_path: Path) -> None:
    rows = [(f"{BANK} Number {n * n} of {n}, told by {n + 3}.", "b") for n in range(30)]
    rows += [(f"{CUP} {n}", "s") for n in range(2)] + [(POLLS, "")]
    answer = json.loads(audit(write(tmp_path / "data.csv", rows), "--json").out)
    assert lines(answer)["data", "missing-label"] == ([34], None)
    (told,) = [one for one in answer["findings"] if one["name"] == "imbalance"]
    assert told["title"] == "the largest class (b, 30 rows) is 15.0 times the smallest (s, 2)"
    assert told["level"] == "problem"


def test_bad_input_is_one_line(audit: Callable[..., Any], tmp_path: Path) -> None:
    done = audit(tmp_path / "none.csv")
    assert (done.code, done.error) == (2, f"{tmp_path}/none.csv: no such file")
    (tmp_path / "ragged.csv").write_text("text,label\na b c,x\nd e f,y,z\n", "utf-8")
    done = audit(tmp_path / "ragged.csv")
    assert done.code == 2
    assert done.error.startswith(f"{tmp_path}/ragged.csv:3: the row is ragged")
    done = audit(write(tmp_path / "data.csv", ROWS), "--label-column", "class")
    assert "no column named class" in done.error


def test_one_hot_labels_are_classes_as_in_training(audit: Callable[..., Any], tmp_path: Path) -> None:
    rows = [(BANK, "[1, 0, 0]"), (CUP, "[0, 1, 0]"), (POLLS, "[0, 0, 1]"), (RAIN, "[1, 0, 0]")]
    answer = json.loads(audit(write(tmp_path / "data.csv", rows), "--json").out)
    assert answer["parts"]["data"]["several_labels"] is False
    assert answer["parts"]["data"]["classes"] == {"0": 2, "1": 1, "2": 1}


def test_without_a_tokenizer_the_rest_is_done(command: Command, files: tuple[Path, Path], tmp_path: Path) -> None:
    answer = json.loads(command("audit", files[0], "--backbone", tmp_path / "nowhere", "--json").out)
    assert len(answer["left_out"]) == 1
    assert answer["left_out"][0].startswith("lengths in tokens: no backbone folder")
    assert ("data", "near-duplicate") in lines(answer)


def test_several_labels_a_row(audit: Callable[..., Any], tmp_path: Path) -> None:
    rows = [(BANK, "b|w"), (BANK, "w|b"), (CUP, "s"), (POLLS, "w"), (POLLS.upper(), "w|s"), (RAIN, "")]
    data = write(tmp_path / "data.csv", rows)
    answer = json.loads(audit(data, "--label-delimiter", "|", "--json", "--out", tmp_path / "found").out)
    assert answer["parts"]["data"]["several_labels"] is True
    assert answer["parts"]["data"]["classes"] == {"b": 2, "s": 2, "w": 4}
    found = lines(answer)
    assert found["data", "conflicting-labels"] == ([5, 6], [6, 5])  # the same set in another order is no conflict
    assert found["data", "missing-label"] == ([7], None)
    assert answer["left_out"] == ["data has several labels per row: shortcut features"]
    records = [{"text": text, "label": labels.split("|") if labels else []} for text, labels in rows]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    lists = json.loads(audit(tmp_path / "data.jsonl", "--json").out)
    assert lists["parts"]["data"]["classes"] == answer["parts"]["data"]["classes"]
    written = [(text, repr(labels.split("|")) if labels else "[]") for text, labels in rows]
    as_text = json.loads(audit(write(tmp_path / "text.csv", written), "--json").out)
    assert as_text["parts"]["data"]["classes"] == answer["parts"]["data"]["classes"]
    assert lines(as_text)["data", "conflicting-labels"] == found["data", "conflicting-labels"]
    done = audit(data, "--label-delimiter", "|", "--suspects")
    assert done.error == f"{data}: --suspects needs one label per row; received several"


def test_a_parquet_copy_keeps_types_and_class_names(audit: Callable[..., Any], tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    rows = {"text": [BANK, BANK, CUP, POLLS], "label": [1, 1, 0, 1], "year": [2001, 2002, 2003, 2004]}
    features = Features({"text": Value("string"), "label": ClassLabel(names=["s", "b"]), "year": Value("int32")})
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "data.parquet")
    answer = json.loads(audit(tmp_path / "data.parquet", "--fix", tmp_path / "out.parquet", "--json").out)
    assert answer["parts"]["data"]["classes"] == {"b": 3, "s": 1}
    assert lines(answer)["data", "exact-duplicate"] == ([2], [1])
    assert answer["fixed"]["dropped"] == {"exact duplicate": 1}
    copy = Dataset.from_parquet(str(tmp_path / "out.parquet"), cache_dir=str(tmp_path / "cache"))
    assert copy.features == features
    assert copy["year"][:] == [2001, 2003, 2004]


def test_labels_to_check(audit: Callable[..., Any], news: Path, tmp_path: Path) -> None:
    """Three labels of sixty are turned: they stand at the head of the list."""
    with (news / "train.csv").open(encoding="utf-8", newline="") as handle:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(handle)]
    wrong = [10, 31, 50]
    for row in wrong:
        rows[row] = (rows[row][0], {"Business": "Sports", "Sports": "World", "World": "Business"}[rows[row][1]])
    data = write(tmp_path / "data.csv", rows)
    done = audit(data, "--suspects", "--out", tmp_path / "found")
    assert done.code == 0, done.err
    assert "Labels to check: 3 listed" in done.out
    with (tmp_path / "found" / "suspects.csv").open(encoding="utf-8", newline="") as handle:
        listed = list(csv.DictReader(handle))
    assert {int(row["row"]) for row in listed} == {row + 2 for row in wrong}
    assert all(row["label"] != row["likelier"] for row in listed)


def test_class_names_that_look_alike_are_told_and_merged(audit: Callable[..., Any], tmp_path: Path) -> None:
    names = ["Sci/Tech", "Sci/Tech", "SCI/TECH", "Sci/ Tech", "Sci/\u200bTech", "Sports"]
    source = write(tmp_path / "data.csv", [(f"{text} {number}", name) for number, (text, name) in
                                           enumerate(zip([BANK, CUP, POLLS, RAIN, BANK[::-1], CUP[::-1]], names,
                                                         strict=True))])  # fmt: skip
    answer = json.loads(audit(source, "--json").out)
    found = next(one for one in answer["findings"] if one["name"] == "similar-classes")
    assert (found["lines"], found["classes"]) == (
        [2, 3, 4, 5, 6],
        ["SCI/TECH", "Sci/ Tech", "Sci/Tech", "Sci/\u200bTech"],
    )
    assert "'Sci/Tech' (2 rows)" in found["title"]
    copy = tmp_path / "clean.csv"
    assert audit(source, "--fix", copy).code == 0
    assert [row["label"] for row in csv.DictReader(copy.read_text("utf-8").splitlines())] == names
    copy.unlink()
    audit(source, "--fix", copy, "--merge-labels")
    merged = [row["label"] for row in csv.DictReader(copy.read_text("utf-8").splitlines())]
    assert merged == [*["Sci/Tech"] * 5, "Sports"]
    cells = ["['News']", "['News', 'b']", "['NEWS', 'b']", "['b']"]
    lists = write(tmp_path / "lists.csv", list(zip([BANK, CUP, POLLS, RAIN], cells, strict=True)))
    copy.unlink()
    audit(lists, "--fix", copy, "--merge-labels")
    merged = [row["label"] for row in csv.DictReader(copy.read_text("utf-8").splitlines())]
    assert merged == [*cells[:2], '["News", "b"]', "['b']"]
    refused = audit(source, "--merge-labels")
    assert (refused.code, refused.error) == (
        2, "--merge-labels needs a cleaned copy; name the copy with --fix OUT"
    )  # fmt: skip


def test_texts_that_the_tokenizer_cannot_read_are_a_problem(audit: Callable[..., Any], tmp_path: Path) -> None:
    rows = [
        ("\u0e40\u0e07\u0e34\u0e19 \u0e15\u0e25\u0e32\u0e14", "b"),
        ("\U0001f62d \U0001f44d", "s"),
        (BANK, "b"),
        (CUP, "s"),
    ]
    answer = json.loads(audit(write(tmp_path / "data.csv", rows), "--json").out)
    found = next(one for one in answer["findings"] if one["name"] == "unknown-tokens")
    assert (found["level"], found["lines"]) == ("problem", [2, 3])
    assert answer["parts"]["data"]["tokens"]["unknown"] > 0.05


def test_texts_in_the_cleaned_csv_start_no_formula(audit: Callable[..., Any], tmp_path: Path) -> None:
    formula = "=HYPERLINK(CONCATENATE(A1), 0) said the bank in the town"
    source = write(tmp_path / "data.csv", [(formula, "-1"), (BANK, "+1"), (CUP, "-1")])
    copy = tmp_path / "clean.csv"

    def cells() -> list[tuple[str, str]]:
        return [(row["text"], row["label"]) for row in csv.DictReader(copy.read_text("utf-8").splitlines())]

    assert audit(source, "--fix", copy).code == 0
    assert cells() == [(f"'{formula}", "-1"), (BANK, "+1"), (CUP, "-1")]
    copy.unlink()
    assert audit(source, "--fix", copy, "--no-csv-guard").code == 0
    assert cells()[0] == (formula, "-1")
