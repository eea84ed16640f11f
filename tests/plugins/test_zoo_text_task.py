"""Text classification from a table to predictions: by the code that trains pictures."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models

import zoo.testing
from zoo.contract import Item
from zoo.errors import UserError
from zoo.evaluator import evaluate
from zoo.predictor import predict
from zoo.registry import open_registry
from zoo.run import Run
from zoo.specs import RunSpec
from zoo.training import train
from zoo_text import tokenizer as tokenizers
from zoo_text.task import TextClassification

FRUITS, TOOLS = ("apple", "pear", "cherry", "plum"), ("hammer", "saw", "drill", "chisel")


def write_table(path: Path, num_rows: int = 120, *, several: bool = False) -> Path:
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(num_rows):
            kinds = [bool(rng.integers(2)), bool(rng.integers(2))] if several else [i % 2 == 0, i % 2 == 1]
            words = [f"number{i}", *rng.choice(["the", "a", "of", "and"], rng.integers(2, 9))]
            words += [str(rng.choice(names)) for names, given in zip((FRUITS, TOOLS), kinds, strict=True) if given]
            labels = [label for label, given in zip(("fruit", "tool"), kinds, strict=True) if given]
            writer.writerow([" ".join(map(str, rng.permutation(words))), "|".join(labels)])
    return path


def spec_of(**settings: Any) -> RunSpec:
    return (
        open_registry().resolve("text-micro", settings={f"{k.replace('__', '.')}": v for k, v in settings.items()}).spec
    )


@pytest.mark.parametrize("check", zoo.testing.checks("text"), ids=str)
def test_conformance(check: zoo.testing.Check) -> None:
    check()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("text")
    table = write_table(folder / "things.csv")
    settings = {"train.lr": 2e-3, "train.batch_length": 256, "embed.max_vocab_size": 400}
    return train(
        "text-micro",
        data=str(table),
        steps=60,
        settings=settings,
        device="cpu",
        out=folder / "run",
        show_progress=False,
    )


def test_a_table_is_learnt_and_the_share_of_real_tokens_logged(trained: Run) -> None:
    report = trained.report()
    assert report is not None
    assert report.metrics["accuracy"].value > 0.9  # half of each kind
    shares = [row["real_tokens"] for row in trained.metrics() if row["split"] == "train"]
    assert all(0.8 < share <= 1 for share in shares)
    assert any("texts are of column 'text'" in note for note in report.notes)


def test_texts_files_and_tables_are_predicted(trained: Run, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("the plum\nof a tree")
    (tmp_path / "rows.csv").write_text("text,id\nan apple and a pear,1\n,2\nthe saw,3\n")
    sources = ["a hammer and the drill", str(tmp_path / "one.txt"), str(tmp_path / "rows.csv"), "missing.txt", ""]
    answers = predict(trained, sources, top_k=2)
    assert [answer.values.get("label") for answer in answers] == ["tool", "fruit", "fruit", None, "tool", None, None]
    assert answers[0].values["probability"] + answers[0].values["probability_2"] == pytest.approx(1, abs=1e-5)
    with pytest.raises(UserError, match="top_k must be at least 1, got 0"):
        predict(trained, sources, top_k=0)
    assert answers[2].input == f"{tmp_path / 'rows.csv'}:2"
    assert answers[3].error == "the text is empty"
    assert "there is no file" in (answers[5].error or "")


def test_the_run_stores_its_tokenizer(trained: Run) -> None:
    info = trained.checkpoint().metadata()["info"]
    stored = Tokenizer.from_str(info["tokenizer"])
    assert stored.get_vocab_size() == trained.spec.embed["vocab_size"]
    assert "apple" in stored.get_vocab()
    assert stored.encode("apples").tokens == ["[CLS]", "apple", "##s", "[SEP]"]


def test_only_training_texts_teach_the_tokenizer(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    taught: list[str] = []
    real = tokenizers.learn
    monkeypatch.setattr(
        tokenizers, "learn", lambda kind, texts, **options: taught.extend(texts) or real(kind, texts, **options)
    )
    splits = TextClassification.datasets(trained.spec)
    assert sorted(taught) == sorted(splits.train[i].inputs for i in range(len(splits.train)))
    assert splits.info["tokenizer"] == trained.checkpoint().metadata()["info"]["tokenizer"]  # learning repeats itself
    taught.clear()
    TextClassification.datasets(trained.spec, splits.info)
    assert taught == []


def test_other_data_is_evaluated_in_the_model_s_class_order(trained: Run, tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("sentence,label\nthe saw,tool\na chisel,tool\nand a drill,tool\n")
    assert evaluate(trained, tmp_path / "more.csv", "all").metrics["accuracy"].value == 1
    (tmp_path / "more.csv").write_text("sentence,label\nthe saw,tool\n,tool\nand a drill,tool\n")
    with pytest.raises(UserError, match=r"more\.csv:3: the text is empty"):
        evaluate(trained, tmp_path / "more.csv", "all")
    (tmp_path / "more.csv").write_text("sentence,label\nthe saw,toll\na chisel,tool\nand a drill,tool\n")
    with pytest.raises(UserError, match="classes that the model does not know: toll"):
        evaluate(trained, tmp_path / "more.csv", "all")
    (tmp_path / "more.jsonl").write_text('{"text": "a pear", "label": ["fruit", "tool"]}\n' * 3)
    with pytest.raises(UserError, match=r"texts of .* have several labels each, but the model gives one"):
        evaluate(trained, tmp_path / "more.jsonl", "all")


def test_class_folders_are_learnt_and_evaluated(tmp_path: Path) -> None:
    for label, words in (("fruit", FRUITS), ("tool", TOOLS)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(30):
            (tmp_path / "data" / label / f"{i}.txt").write_text(f"number{i} of the {words[i % 4]}")
    settings = {"core.depth": 1, "train.lr": 2e-3, "embed.max_vocab_size": 400}
    run = train(
        "text-micro",
        data=str(tmp_path / "data"),
        steps=30,
        settings=settings,
        device="cpu",
        out=tmp_path / "run",
        show_progress=False,
    )
    assert evaluate(run, tmp_path / "data", "all").metrics["accuracy"].value > 0.9


def test_other_tables_may_have_other_columns(trained: Run, tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("tweet,mood\nthe saw,tool\na chisel,tool\nand a drill,tool\n")
    with pytest.raises(UserError, match=r"data.label_column=NAME"):
        evaluate(trained, tmp_path / "more.csv", "all")
    columns = {"data.text_column": "tweet", "data.label_column": "mood"}
    assert evaluate(trained, tmp_path / "more.csv", "all", settings=columns).n == 3
    with pytest.raises(UserError, match="the run has it already"):
        evaluate(trained, tmp_path / "more.csv", "all", settings={"train.lr": 1})
    with pytest.raises(UserError, match="dataset 'digits' is for image-classification, not for text-classification"):
        evaluate(trained, "digits")


def test_what_is_no_text_is_answered_by_its_error(trained: Run, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "rows.jsonl").write_text('{"text": "a plum"}\n{"text": 5}\n{"text": "\\ud83d"}\n')
    (tmp_path / "folder" / "note.md").write_text("the hammer")
    answers = predict(trained, ["caf\udce9", str(tmp_path / "folder")])
    assert [answer.values.get("label") for answer in answers] == [None, "tool", "fruit", None, None]
    assert [answer.error for answer in answers][3:] == [
        "the text is no string, but int",
        "the text is no Unicode: it holds half a character, or bytes that are no UTF-8",
    ]


def test_texts_with_several_labels(tmp_path: Path) -> None:
    table = write_table(tmp_path / "things.csv", 200, several=True)
    settings = {"train.lr": 3e-3, "data.label_separator": "|", "embed.max_vocab_size": 400}
    run = train(
        "text-micro",
        data=str(table),
        steps=200,
        settings=settings,
        device="cpu",
        out=tmp_path / "run",
        show_progress=False,
    )
    report = run.report()
    assert report is not None
    assert report.primary == "f1_micro"
    assert report.metrics["f1_micro"].value > 0.9
    assert run.spec.head["multi_label"] is True
    both, none = predict(run, ["a pear and a saw", "the number7 of"])
    assert both.values["labels"] == "fruit|tool"
    assert none.values["labels"] == ""


# ---------------------------------------------------------------- tokenizers

WHOLE = "Ünïcødé 漢字 🦓 naïve Ω\u200d"


@pytest.mark.parametrize("lowercase", [False, True])
def test_bytes_keep_unicode_whole(lowercase: bool) -> None:
    tokenizer = tokenizers.learn("bpe", ["some words"], max_vocab_size=300, lowercase=lowercase)
    expected = WHOLE.lower() if lowercase else WHOLE
    assert tokenizer.decode(tokenizer.encode(WHOLE).ids) == expected


def test_pieces_keep_accents_and_characters_that_were_seen() -> None:
    tokenizer = tokenizers.learn("wordpiece", [WHOLE] * 3, max_vocab_size=300, lowercase=False)
    pieces = tokenizer.encode("naïve 漢 🦓").tokens
    assert tokenizers.UNKNOWN not in pieces
    assert pieces[0] == tokenizers.CLASS
    assert pieces[-1] == tokenizers.SEPARATOR


def test_an_unseen_han_character_hides_itself_only() -> None:
    tokenizer = tokenizers.learn("wordpiece", ["今天天气不错"] * 3, max_vocab_size=300, lowercase=False)
    assert tokenizer.encode("今天公园").tokens == ["[CLS]", "今", "天", "[UNK]", "[UNK]", "[SEP]"]


def test_ids_may_have_gaps() -> None:
    vocabulary = {"[UNK]": 0, "a": 5000}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    assert tokenizers.size(tokenizer) == 5001


def test_a_given_tokenizer_is_used(tmp_path: Path) -> None:
    given = tokenizers.learn("bpe", ["given words only"] * 3, max_vocab_size=300, lowercase=True)
    given.save(str(tmp_path / "tokenizer.json"))
    splits = TextClassification.datasets(spec_of(embed__tokenizer=str(tmp_path / "tokenizer.json")))
    assert splits.settings["embed.vocab_size"] == given.get_vocab_size()
    with pytest.raises(UserError, match="'wordpeace' is neither wordpiece nor bpe, nor a file"):
        TextClassification.datasets(spec_of(embed__tokenizer="wordpeace"))
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(UserError, match=r"broken.json' is no tokenizer.json"):
        TextClassification.datasets(spec_of(embed__tokenizer=str(tmp_path / "broken.json")))


# ---------------------------------------------------------------- samples


@pytest.fixture(scope="module")
def info() -> Mapping[str, Any]:
    tokenizer = tokenizers.learn("wordpiece", ["one two three four"] * 3, max_vocab_size=300, lowercase=True)
    return {"classes": ["a", "b"], "multi_label": False, "tokenizer": tokenizer.to_str()}


def test_a_long_text_loses_its_end(info: Mapping[str, Any]) -> None:
    task = TextClassification(spec_of(embed__max_tokens=4), info)
    tokens = task.transform(Item("x", "one two three four"), None)["tokens"]
    assert [task.tokenizer.id_to_token(each) for each in tokens] == ["[CLS]", "one", "two", "[SEP]"]


@pytest.mark.parametrize("augmentation", ["drop", "mask"])
def test_augmentation_leaves_special_tokens_and_some_text(info: Mapping[str, Any], augmentation: str) -> None:
    task = TextClassification(spec_of(**{"augment__drop": 0.0, f"augment__{augmentation}": 0.9}), info)
    for seed in range(20):
        tokens = task.transform(Item("x", "one two three"), np.random.default_rng(seed))["tokens"]
        pieces = [task.tokenizer.id_to_token(each) for each in tokens]
        assert pieces[0] == "[CLS]"
        assert pieces[-1] == "[SEP]"
        assert len(pieces) == 5 if augmentation == "mask" else 3 <= len(pieces) <= 5


# ---------------------------------------------------------------- checking


def test_what_check_finds(tmp_path: Path) -> None:
    lines = ["text,label,split"]
    lines += [f"good film number {i},positive,train\nbad film number {i},negative,train" for i in range(30)]
    lines += ["a fine one,postive,train", "a fine two,Positive,train", " ,negative,train", "lost \ufffd,negative,train"]
    lines += ["cafÃ© noir,negative,train", "good film number 3,positive,test", "Bad film - number 4!,negative,test"]
    lines += [
        "it\u0092s bad,negative,train",
        "it\u00e2\u0080\u0099s good,negative,train",
        "5 \u00e2\u201a\u00ac,negative,train",
    ]
    lines += [f"{'long ' * 200},negative,train", "good film number 5,negative,train", "so so,positive|negative,train"]
    (tmp_path / "reviews.csv").write_text("\n".join(lines))
    found = TextClassification.check(
        spec_of().model_copy(update={"data": spec_of().data.model_copy(update={"name": str(tmp_path / "reviews.csv")})})
    )
    kinds = {(finding.kind, finding.severity) for finding in found}
    assert kinds >= {
        ("unusable", "error"), ("label case", "error"), ("label typo", "warning"), ("encoding", "warning"),
        ("mislabelled", "error"), ("leak", "warning"), ("over-long", "warning"), ("tiny class", "warning"),
    }  # fmt: skip
    typo = next(finding for finding in found if finding.kind == "label typo")
    assert typo.message == "'postive' (1) may be a typing error of 'positive' (31)"
    several = next(finding for finding in found if finding.kind == "several labels")
    assert several.message == (
        "1 label such as 'positive|negative' may be several; those of a table are parted by "
        '--set "data.label_separator=|"; leave it where each is one'
    )
    named = {finding.kind: list(finding.items) for finding in found}
    assert named["unusable"] == ["reviews.csv:64"]
    assert named["over-long"] == ["reviews.csv:72"]
    encoding = [list(finding.items) for finding in found if finding.kind == "encoding"]
    assert encoding == [["reviews.csv:65"], ["reviews.csv:66", "reviews.csv:70", "reviews.csv:71"], ["reviews.csv:69"]]
    leaks = [item for finding in found if finding.kind == "leak" for item in finding.items]
    assert {"reviews.csv:67", "reviews.csv:68"} <= set(leaks)


@pytest.mark.parametrize("labels", [("Paris", "Paris, France"), ("yes", "yes, but"), ("red|", "red")])
def test_labels_that_look_like_one_are_left_alone(labels: tuple[str, ...], tmp_path: Path) -> None:
    rows = [f'text number {i},"{label}"' for i in range(20) for label in labels]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]))
    spec = open_registry().resolve("text-micro", data=str(tmp_path / "a.csv")).spec
    assert not any("may be several" in note for note in TextClassification.datasets(spec).notes)


def test_training_tells_labels_that_look_like_several(tmp_path: Path) -> None:
    rows = [f"text number {i},{label}" for i in range(20) for label in ("red", "blue", "red;blue")]
    path = tmp_path / "colours.csv"
    path.write_text("\n".join(["text,label", *rows]))
    spec = open_registry().resolve("text-micro", data=str(path)).spec
    splits = TextClassification.datasets(spec)
    (note,) = [note for note in splits.notes if "may be several" in note]
    assert note.startswith("1 label such as 'red;blue'")
    again = TextClassification.datasets(spec, splits.info)
    assert not any("may be several" in note for note in again.notes)
