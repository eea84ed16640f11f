"""Masked language modelling: what is hidden, what data it reads, and that what is learnt so is what is fine-tuned."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import zoo
from zoo.contract import Item, Record
from zoo.data.seeding import item_rng
from zoo.errors import UserError
from zoo.metrics import likelihood
from zoo.registry import open_registry
from zoo.specs import RunSpec
from zoo.training import train
from zoo_text import tokenizer as tokenizers
from zoo_text.masked import MaskedLanguageModelling

WORDS = ("apple", "plum", "pear", "hammer", "saw", "drill")
TEXTS = [f"{one} and {other} {i}" for one in WORDS for other in WORDS for i in range(3)]


def spec_of(**settings: Any) -> RunSpec:
    asked = {key.replace("__", "."): value for key, value in settings.items()}
    return open_registry().resolve("text-micro", task="masked-lm", settings=asked).spec


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n\n".join(TEXTS))
    return path


def task_of(**settings: Any) -> MaskedLanguageModelling:
    tokenizer = tokenizers.learn("wordpiece", TEXTS, max_vocab_size=300, lowercase=True)
    spec = spec_of(embed__vocab_size=tokenizers.size(tokenizer), **settings)
    return MaskedLanguageModelling(spec, {"tokenizer": tokenizer.to_str()})


def told(text: str, name: str = "one") -> Item:
    return Item(name, text, target=text)


# ---------------------------------------------------------------- what is hidden


def test_a_share_of_the_tokens_is_hidden_and_is_the_target() -> None:
    task = task_of()
    text = " ".join(TEXTS[:20])
    encoded = np.array(task.tokenizer.encode(text).ids)
    fates: Counter[str] = Counter()
    for epoch in range(200):
        sample = task.transform(told(text), item_rng(0, epoch, "one"))
        masked, tokens = sample["masked"], sample["tokens"]
        assert len(masked) == round(0.15 * (len(encoded) - 2))
        assert len(set(masked)) == len(masked)
        assert not {0, len(encoded) - 1} & set(masked)  # special ones stay
        assert np.array_equal(sample["target"], encoded[masked])
        others = np.setdiff1d(np.arange(len(encoded)), masked)
        assert np.array_equal(tokens[others], encoded[others])
        for token, target in zip(tokens[masked], sample["target"], strict=True):
            fates["mask" if token == task.mask else "same" if token == target else "other"] += 1
    shares = {fate: count / sum(fates.values()) for fate, count in fates.items()}
    assert shares == pytest.approx({"mask": 0.8, "same": 0.1, "other": 0.1}, abs=0.03)


def test_what_is_hidden_is_fixed_for_evaluation_and_drawn_anew_in_each_epoch() -> None:
    task = task_of()
    item = told(" ".join(TEXTS[:9]))
    one, other = (task.transform(item, None) for _ in range(2))
    assert np.array_equal(one["tokens"], other["tokens"])
    drawn = {tuple(task.transform(item, item_rng(0, epoch, item.id))["masked"]) for epoch in range(5)}
    assert len(drawn) == 5


def test_a_mask_token_that_stands_in_a_text_is_a_token_like_others() -> None:
    task = task_of()
    text = f"{TEXTS[0]} [MASK] {TEXTS[1]}"
    sample = task.transform(told(text), None)
    encoded = np.array(task.tokenizer.encode(text).ids)
    assert np.array_equal(sample["target"], encoded[sample["masked"]])
    assert set(sample["target"]) != {task.mask}
    assert np.array_equal(task.transform(Item("asked", text), None)["masked"], np.flatnonzero(encoded == task.mask))


def test_a_short_text_has_a_hidden_token_and_an_empty_one_none() -> None:
    task = task_of()
    assert len(task.transform(told("plum"), None)["masked"]) == 1
    with pytest.raises(UserError, match="the tokenizer makes nothing of the text"):
        task.transform(told(" "), None)


def test_only_masked_tokens_are_scored_each_in_its_text() -> None:
    task = task_of()
    model = task.build(task.spec).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    items = [told(text, text) for text in (TEXTS[0], " ".join(TEXTS[3:9]), TEXTS[50])]
    batch = task.collate([task.transform(item, None) for item in items], [item.id for item in items])
    logits = model(batch.inputs).logits
    assert len(logits) == sum(len(each["masked"]) for each in batch.columns) == len(batch.targets)
    x, layout, _ = model.embed(**batch.inputs)
    table = model.embed.table.weight
    hidden = torch.nn.functional.gelu(model.head.dense(model.core(x, layout)[batch.inputs["masked"]]))
    expected = model.head.norm(hidden) @ table.T + model.head.bias
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


def test_perplexity_is_of_all_hidden_tokens_together() -> None:
    records = [
        Record("a", [1, 2], [1, 3], columns={"log_likelihood": np.log(0.5) + np.log(0.1)}),
        Record("b", [4], [4], columns={"log_likelihood": np.log(0.2)}),
    ]
    measures = likelihood(records)
    found = {name: statistic(np.ones(2)) for name, statistic in measures.statistics.items()}
    assert found["perplexity"] == pytest.approx((0.5 * 0.1 * 0.2) ** (-1 / 3))
    assert found["token_accuracy"] == pytest.approx(2 / 3)
    assert measures.statistics["perplexity"](np.array([0, 2])) == pytest.approx(5)
    assert not measures.higher_is_better


# ---------------------------------------------------------------- its data


def test_lines_files_and_columns_are_texts(texts: Path, tmp_path: Path) -> None:
    def read(place: Path, **settings: Any) -> set[str]:
        asked = {key.replace("__", "."): value for key, value in settings.items()}
        spec = open_registry().resolve("text-micro", task="masked-lm", data=str(place), settings=asked).spec
        splits = MaskedLanguageModelling.datasets(spec)
        parts = (splits.train, splits.validation, splits.test)
        return {part[i].inputs for part in parts for i in range(len(part))}

    assert read(texts) == set(TEXTS)
    (tmp_path / "files" / "deep").mkdir(parents=True)
    for i, text in enumerate(TEXTS):
        (tmp_path / "files" / ("deep" if i % 2 else ".") / f"{i}.txt").write_text(text)
    assert read(tmp_path / "files") == set(TEXTS)
    (tmp_path / "alone.csv").write_text("\n".join(["anything", *TEXTS]))
    assert read(tmp_path / "alone.csv") == set(TEXTS)
    (tmp_path / "more.csv").write_text("\n".join(["said,by", *(f"{text},me" for text in TEXTS)]))
    assert read(tmp_path / "more.csv", data__text_column="said") == set(TEXTS)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "train.csv").write_text("\n".join(["text", *TEXTS[:60]]))
    (tmp_path / "tables" / "test.csv").write_text("\n".join(["text", *TEXTS[60:]]))
    assert read(tmp_path / "tables") == set(TEXTS)
    for split in ("train", "test"):
        (tmp_path / "split" / split).mkdir(parents=True)
        (tmp_path / "split" / split / "a.txt").write_text(f"of {split}\n\nalso of {split}")
    spec = open_registry().resolve("text-micro", task="masked-lm", data=str(tmp_path / "split")).spec
    assert set(MaskedLanguageModelling.datasets(spec).test.ids) == {"test/a.txt:1", "test/a.txt:3"}


def test_sets_of_the_hub_need_no_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    loaded = {
        "train": datasets.Dataset.from_dict({"text": TEXTS[:90]}),
        "test": datasets.Dataset.from_dict({"text": TEXTS[90:]}),
        "extra": datasets.Dataset.from_dict({"text": ["no"]}),
    }
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: loaded)
    spec = open_registry().resolve("text-micro", task="masked-lm", data="hf:someone/texts").spec
    splits = MaskedLanguageModelling.datasets(spec)
    assert {splits.test[i].inputs for i in range(len(splits.test))} == set(TEXTS[90:])
    assert "splits of other names are left out: extra" in splits.notes


def test_what_holds_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.txt").write_text("\n  \n")
    for name, message in (
        ("empty", "holds no file of a known kind"),
        ("blank.txt", "empty"),
        ("more.csv", "data.text_column"),
    ):
        if name == "more.csv":
            (tmp_path / name).write_text("said,by\nyes,me\n")
        with pytest.raises(UserError, match=message):
            train("text-micro", task="masked-lm", data=str(tmp_path / name), out=tmp_path / "run")
    with pytest.raises(UserError, match="the data holds no texts\nname a dataset of texts"):
        train("text-micro", task="masked-lm", data="digits", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- as a user has it


def test_pretrain_then_fine_tune_is_two_commands(texts: Path, tmp_path: Path) -> None:
    steps = {"train.steps": 40, "train.eval_every": 40, "train.lr": 3e-3}
    first = train(
        "text-micro", task="masked-lm", data=str(texts), settings=steps, out=tmp_path / "first", show_progress=False
    )
    report = first.report()
    assert report is not None
    assert report.metrics["perplexity"].value < 40  # 45 or so tokens
    labelled = tmp_path / "labelled.csv"
    labelled.write_text("\n".join(["text,label", *(f"{text},{text.split()[0]}" for text in TEXTS)]))
    still = {"train.steps": 1, "train.lr": 1e-300, "train.weight_decay": 0.0}
    tuned = train(
        "text-micro",
        data=str(labelled),
        weights=first.folder,
        settings=still,
        out=tmp_path / "tuned",
        show_progress=False,
    )
    before, after = first.load_model().state_dict(), tuned.load_model().state_dict()
    assert all(torch.equal(before[name], after[name]) for name in after if not name.startswith("head."))
    infos = [run.checkpoint().metadata()["info"] for run in (first, tuned)]
    assert infos[0]["tokenizer"] == infos[1]["tokenizer"]
    again = train(
        "text-micro",
        task="masked-lm",
        data=str(texts),
        weights=first.folder,
        settings=still,
        out=tmp_path / "again",
        show_progress=False,
    )
    assert again.report().metrics == report.metrics  # pyright: ignore[reportOptionalMemberAccess]  # its head too


def test_a_run_is_evaluated_on_labelled_data_too(texts: Path, tmp_path: Path) -> None:
    run = train(
        "text-micro",
        task="masked-lm",
        data=str(texts),
        settings={"train.steps": 2},
        out=tmp_path / "r",
        show_progress=False,
    )
    labelled = tmp_path / "labelled.csv"
    labelled.write_text("\n".join(["text,label", *(f"{text},{text.split()[0]}" for text in TEXTS)]))
    assert zoo.evaluate(run, data=str(labelled), split="test").metrics["perplexity"].value > 1
    assert open_registry().place("wordnet-definitions", "masked-lm") == "wordnet-definitions"
    with pytest.raises(UserError, match="'digits' is for image-classification, not for masked-lm"):
        open_registry().place("digits", "masked-lm")


def test_gaps_are_filled(texts: Path, tmp_path: Path) -> None:
    steps = {"train.steps": 3, "train.eval_every": 3}
    run = train(
        "text-micro", task="masked-lm", data=str(texts), settings=steps, out=tmp_path / "run", show_progress=False
    )
    answers = list(zoo.predict(run, ["apple and [MASK]", "[MASK] and [MASK] 1", "apple"], top_k=2))
    assert [bool(answer.error) for answer in answers] == [False, False, True]
    assert "[MASK]" not in answers[0].values["filled"]
    assert answers[0].values["filled"].startswith("apple and")
    assert [len(answer.values["likeliest"].split("; ")) for answer in answers[:2]] == [1, 2]
    assert [each.count(",") for each in answers[1].values["likeliest"].split("; ")] == [1, 1]
    assert "the text has no [MASK]" in str(answers[2].error)


def test_a_recipe_may_be_of_another_task() -> None:
    known = open_registry()
    resolved = known.resolve("text-micro", recipe="masked-definitions")
    assert (resolved.spec.task, resolved.spec.data.name) == ("masked-lm", "wordnet-definitions")
    assert resolved.recipe == known.resolve("text-micro", task="masked-lm").recipe == "text-micro/masked-definitions"
    assert known.resolve("text-micro").recipe == "text-micro/wordnet-definitions"
    without = known.resolve("text-base", task="masked-lm")  # whose pooler and recipe say nothing of it
    assert (without.recipe, without.spec.data.name) == (None, "wordnet-definitions")
    assert without.spec.embed["num_types"] == 2
    with pytest.raises(UserError, match="unknown key 'pool'"):
        known.resolve("text-micro", task="masked-lm", settings={"head.pool": "cls"})


def test_what_cannot_be_is_refused(texts: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a masked token is told from what follows too"):
        MaskedLanguageModelling.datasets(spec_of(core__causal=True))
    with pytest.raises(UserError, match="together 1 at most"):
        MaskedLanguageModelling.datasets(spec_of(augment__random=0.6, augment__unchanged=0.6))
    tokenizer = tokenizers.learn("wordpiece", TEXTS, max_vocab_size=300, lowercase=True)
    without = tokenizer.to_str().replace("[MASK]", "[OTHER]")
    (tmp_path / "tokenizer.json").write_text(without)
    with pytest.raises(UserError, match=r"the tokenizer has no mask token\nname another"):
        train(
            "text-micro",
            task="masked-lm",
            data=str(texts),
            settings={"embed.tokenizer": str(tmp_path / "tokenizer.json")},
            out=tmp_path / "run",
            show_progress=False,
        )
    assert not (tmp_path / "run").exists()
