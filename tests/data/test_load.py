from pathlib import Path

from pennyweight.data.load import load
from pennyweight.recipe.loading import load as recipe


def test_remarks_on_sources_come_with_the_data(tmp_path: Path) -> None:
    rows = [f"A text that is long enough, number {number},{'xy'[number % 2]}" for number in range(20)]
    rows = [f'"{row[:-2]}",{row[-1]}' for row in rows]
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("\n".join(rows), "utf-8")
    test.write_text("text,label\n\n" + "\n".join(rows), "utf-8")
    data = load(recipe("default", train=str(train), test=str(test)).data)
    assert data.notes == (
        f"{train}: read without a header: the first row looks like data",
        f"{test}: 1 blank line was skipped: 2",
    )
    assert len(data.train) + len(data.validation) == 20


def test_the_order_of_the_labels_does_not_change_what_is_held_out(tmp_path: Path) -> None:
    train = tmp_path / "train.csv"
    names = ("art", "money", "sport")
    rows = [f"A text that is long enough; number {number},{names[number % 7 % 3]}" for number in range(60)]
    train.write_text("text,label\n" + "\n".join(rows), "utf-8")
    held = [load(recipe("default", train=str(train), label_names=order).data).validation.texts
            for order in (None, list(names), ["sport", "art", "money"])]  # fmt: skip
    assert held[0] == held[1] == held[2]
    columns = [[f"A text that is long enough; number {number}", number % 2, number % 3 // 2, number % 5 // 4]
               for number in range(60)]  # fmt: skip
    train.write_text("text,art,money,sport\n" + "\n".join(",".join(map(str, row)) for row in columns), "utf-8")
    held = [load(recipe("default", train=str(train), label_columns=list(order), allow_unlabelled=True).data)
            .validation.texts for order in (names, names[::-1])]  # fmt: skip
    assert held[0] == held[1]


def test_labels_without_a_training_text_are_named(tmp_path: Path) -> None:
    train = tmp_path / "train.csv"
    rows = [f"A text that is long enough; number {number},{number % 2},{1 - number % 2},0" for number in range(20)]
    train.write_text("text,sport,money,opera\n" + "\n".join(rows), "utf-8")
    columns = ["sport", "money", "opera"]
    found = load(recipe("default", train=str(train), label_columns=columns).data)
    assert found.notes == ("labels: 1 label without a training text, of which nothing is learnt: opera",)
    train.write_text("text,label\n" + "\n".join(row[:-4] for row in rows), "utf-8")
    given = load(recipe("default", train=str(train), label_names=["no", "yes", "opera"]).data)
    assert "labels: 1 class without a training text, of which nothing is learnt: opera" in given.notes


def test_of_many_labels_twelve_are_named(tmp_path: Path) -> None:
    train = tmp_path / "train.csv"
    rows = [f"A text that is long enough; number {number},label {number % 20:02}" for number in range(80)]
    train.write_text("text,label\n" + "\n".join(rows), "utf-8")
    said = str(load(recipe("default", train=str(train)).data))
    assert ", 20 labels: label 00, label 01, " in said
    assert said.endswith("label 11 and 8 more")
