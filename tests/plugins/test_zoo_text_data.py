"""Where texts come from, what is recognised, and what is refused."""

import json
from collections import Counter
from pathlib import Path

import pytest

from zoo.contract import Source
from zoo.data.places import locate
from zoo.data.splits import split
from zoo.errors import UserError
from zoo.specs import DataSpec
from zoo_text.data import Texts, lexicographer_file
from zoo_text.task import read_source


def table(folder: Path, content: str, name: str = "reviews.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content)
    return folder / name


def source(path: Path, **options: str) -> Source:
    return read_source(DataSpec.model_validate({"name": str(path), **options}))


def rows(source: Source, split: str = "train") -> list[tuple[str, str, object]]:
    part = source.splits[split]
    assert isinstance(part, Texts)
    return list(zip(part.ids, part.texts, part.targets, strict=True))


def test_a_table_says_which_columns_it_takes(tmp_path: Path) -> None:
    found = source(table(tmp_path, "id,Review,Sentiment\n7,fine film,good\n8,no,bad\n"))
    assert found.info == {"classes": ["bad", "good"], "multi_label": False}
    assert rows(found) == [("reviews.csv:2", "fine film", 1), ("reviews.csv:3", "no", 0)]
    assert list(found.notes) == ["'reviews.csv': texts are of column 'Review', labels of column 'Sentiment'"]


def test_classes_that_are_numbers_are_sorted_as_such(tmp_path: Path) -> None:
    found = source(table(tmp_path, "text,stars\na,10\nb,2\nc,-1\n"), label_column="stars")
    assert found.info["classes"] == ["-1", "2", "10"]


def test_a_column_names_the_splits(tmp_path: Path) -> None:
    found = source(table(tmp_path, "text,label,split\na,x,train\nb,y,valid\nc,x,TEST\nd,y,train\n"))
    assert {name: len(part) for name, part in found.splits.items()} == {"train": 2, "validation": 1, "test": 1}
    with pytest.raises(UserError, match="the split 'extra' is none of"):
        source(table(tmp_path, "text,label,split\na,x,extra\n"))


def test_a_folder_holds_a_table_for_each_split(tmp_path: Path) -> None:
    table(tmp_path, "text,label\na,x\nb,y\n", "train.csv")
    table(tmp_path, '{"text": "c", "label": "x"}\n', "test.jsonl")
    found = source(tmp_path)
    assert {name: len(part) for name, part in found.splits.items()} == {"train": 2, "test": 1}
    table(tmp_path, "text,label\nc,x\n", "test.csv")
    with pytest.raises(UserError, match=r"has both 'test.csv' and 'test.jsonl' for one split"):
        source(tmp_path)


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    for label, text in (("ham", "see you at noon"), ("spam", "win\n now")):
        table(tmp_path / label, text, "1.txt")
    (tmp_path / "ham" / "2.txt").write_bytes(b"caf\xe9")
    found = source(tmp_path)
    assert found.info == {"classes": ["ham", "spam"], "multi_label": False}
    assert rows(found) == [("ham/1.txt", "see you at noon", 0), ("spam/1.txt", "win\n now", 1)]
    ((name, why),) = found.problems.items()
    assert name == "ham/2.txt"
    assert "is not UTF-8: byte 0xe9 in line 1" in why


def test_several_labels_by_separator_or_as_lists(tmp_path: Path) -> None:
    separated = source(table(tmp_path, "text,tags\na,x|y\nb,\nc,y\n"), label_separator="|")
    listed = '{"text": "a", "tags": ["x", "y"]}\n{"text": "b", "tags": []}\n{"text": "c", "tags": ["y"]}\n'
    for found in (separated, source(table(tmp_path, listed, "a.jsonl"))):
        assert found.info == {"classes": ["x", "y"], "multi_label": True}
        assert [target for *_, target in rows(found)] == [[0, 1], [], [1]]


def test_rows_that_cannot_be_used_stop_or_are_left_out(tmp_path: Path) -> None:
    lines = [{"text": f"text {i}", "label": "xy"[i % 2]} for i in range(20)]
    lines += [{"text": 5, "label": "x"}, {"text": "\ud83d", "label": "x"}, {"text": " ", "label": "x"}]
    lines += [{"text": "a", "label": None}, {"text": "a", "label": {"q": 1}}]
    found = source(table(tmp_path, "\n".join(map(json.dumps, lines)), "a.jsonl"))
    assert found.info["classes"] == ["x", "y"]
    assert dict(found.problems) == {
        "a.jsonl:21": "the text is no string, but int",
        "a.jsonl:22": "the text is no Unicode: it holds half a character, or bytes that are no UTF-8",
        "a.jsonl:23": "the text is empty",
        "a.jsonl:24": "it has no label",
        "a.jsonl:25": "a label is no name, but a list or an object",
    }
    with pytest.raises(UserError, match=r"5 items of .* cannot be used:\n  a.jsonl:21: .*\n(?s:.*)on_error=skip"):
        split(found, DataSpec(name="a.jsonl"))
    train, validation, test, notes = split(found, DataSpec(name="a.jsonl", on_error="skip"))
    assert len(train) + len(validation) + len(test) == 20
    assert notes[1].startswith("left out: 5 items that cannot be used: a.jsonl:21 (the text is no string, but int); ")


def test_labels_of_several_that_are_no_names_are_passed_over(tmp_path: Path) -> None:
    found = source(
        table(tmp_path, '{"text": "a", "label": ["x", "", null]}\n{"text": "b", "label": ["--1"]}\n', "a.jsonl")
    )
    assert found.info["classes"] == ["--1", "x"]


def test_texts_and_labels_are_two_columns(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'text' cannot be both the texts and the labels"):
        source(table(tmp_path, "text,label\na,x\n"), text_column="text", label_column="text")


def test_labels_that_differ_by_case_are_told(tmp_path: Path) -> None:
    found = source(table(tmp_path, "text,label\na,Good\nb,good\nc,bad\n"))
    assert found.info["classes"] == ["Good", "bad", "good"]
    assert "differ by case only are different classes: 'Good' (1), 'good' (1)" in found.notes[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text\nhello\n", "has a single column, 'text'\nclassification needs a column of texts and one of labels"),
        (
            "I liked it,good\nI did not,bad\n",
            "none of its columns is called .*\n.*'I liked it', 'good'\n.*the first line must",
        ),
        ("text,other,more\na,b,c\n", "none of its columns is called label"),
    ],
)
def test_tables_that_are_not_understood(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        source(table(tmp_path, content))


def test_no_such_place() -> None:
    with pytest.raises(UserError, match="unknown dataset or place 'movie-review'; did you mean 'movie-reviews'"):
        read_source(DataSpec(name="movie-review"))


def test_hugging_face_datasets_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for name, labels in (("train", ["pos", "neg", "pos"]), ("test", ["neg", None]), ("extra", ["pos"])):
        lines = [json.dumps({"sentence": f"{name} {i}", "label": label}) for i, label in enumerate(labels)]
        table(tmp_path / "set", "\n".join(lines), f"{name}.jsonl")
    found = read_source(DataSpec(name=f"hf:{tmp_path / 'set'}"))
    assert found.info["classes"] == ["neg", "pos"]
    assert rows(found)[0] == ("train-0", "train 0", 1)
    assert rows(found, "test") == [("test-0", "test 0", 0)]
    assert dict(found.problems) == {"test-1": "it has no label"}
    with pytest.raises(UserError, match=r"cannot load 'hf:.*nowhere'"):
        read_source(DataSpec(name=f"hf:{tmp_path / 'nowhere'}"))


def test_wordnet_definitions() -> None:
    found = read_source(DataSpec(name="wordnet-definitions"))
    counts = Counter(found.info["classes"][target] for *_, target in rows(found))
    assert counts["artifact"] == 7858
    assert counts["plant"] == 4330
    assert counts["animal"] == 3955
    assert counts["person"] == 2844
    assert counts["food"] == 1851
    assert sum(counts.values()) == 21844
    assert lexicographer_file("n00001740") == "Tops"
    assert lexicographer_file("n15299225") == "time"


@pytest.mark.skipif(locate("movie-reviews") is None, reason="the dataset is not on this machine")
def test_movie_reviews() -> None:
    found = read_source(DataSpec(name="movie-reviews"))
    assert len(found.splits["train"]) == 10605
    assert rows(found)[2] == ("review-3", "Effective but too tepid biopic", 0)
