"""Which head a training begins with: the published one, its own, or a new one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from starting import begun, equal, table_of
from torch import nn

from zoo.errors import UserError
from zoo.training import train
from zoo.weights import from_published
from zoo_text.weights import BERT


def test_a_run_s_weights_keep_their_head_for_the_same_classes_only(texts: Path, tmp_path: Path) -> None:
    first = begun("text-micro", texts, None, tmp_path / "first", train__lr=1e-3, train__steps=12)
    again = begun("text-micro", texts, first.folder, tmp_path / "again")
    assert equal(again.load_model(), first.load_model().state_dict(), "embed", "core", "head")
    before, after = first.report(), again.report()
    assert before is not None
    assert after is not None
    assert before.metrics == after.metrics
    others = begun(
        "text-micro", table_of(tmp_path / "more.csv", "fruit", "animal", "tool"), first.folder, tmp_path / "others"
    )
    assert equal(others.load_model(), first.load_model().state_dict(), "embed", "core")
    assert others.spec.head["num_classes"] == 3
    stored = [run.checkpoint().metadata()["info"] for run in (first, others)]
    assert stored[0]["tokenizer"] == stored[1]["tokenizer"]
    assert stored[1]["classes"] == ["animal", "fruit", "tool"]


def test_the_command_may_ask_for_another_head(bert: Path, texts: Path, tmp_path: Path) -> None:
    run = begun("text-micro", texts, bert, tmp_path / "run", head__pool="mean", head__pooler=None)
    assert (run.spec.head["pool"], run.spec.head["pooler"]) == ("mean", None)
    with pytest.raises(UserError, match=r"--set embed.num_types=1 contradicts the weights, which have 2; leave it"):
        begun("text-micro", texts, bert, tmp_path / "other", embed__num_types=1)
    with pytest.raises(UserError, match=r"--set core.norm_eps=0.1 contradicts the weights"):
        begun("text-micro", texts, bert, tmp_path / "other", core__norm_eps=0.1)
    assert not (tmp_path / "other").exists()


def test_a_publication_for_sentences_says_how_it_pools(bert: Path, texts: Path, tmp_path: Path) -> None:
    (bert / "1_Pooling").mkdir()
    (bert / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    run = begun("text-micro", texts, bert, tmp_path / "run")
    assert (run.spec.head["pool"], run.spec.head["pooler"]) == ("mean", None)


def test_a_classifier_s_own_head_is_kept_for_its_classes(bert: Path, texts: Path, tmp_path: Path) -> None:
    names = {"id2label": {0: "fruit", 1: "tool"}, "label2id": {"fruit": 0, "tool": 1}}
    whole = transformers.AutoModelForSequenceClassification.from_pretrained(bert, **names)
    whole.save_pretrained(bert)
    model = begun("text-micro", texts, bert, tmp_path / "same").load_model()
    assert torch.equal(model.head.classifier.weight, whole.classifier.weight)
    others = begun("text-micro", table_of(tmp_path / "b.csv", "animal", "tool"), bert, tmp_path / "others")
    assert not torch.equal(others.load_model().head.classifier.weight, whole.classifier.weight)
    report = others.report()
    assert report is not None
    assert f"weights: {bert} (bert); new: head.classifier; theirs: classes fruit, tool" in report.notes


@pytest.mark.parametrize(("names", "order"), [(["tool", "fruit"], [1, 0]), (["Fruit", "TOOL"], [0, 1])], ids=str)
def test_the_same_classes_in_another_order_or_in_capitals_keep_the_head(
    names: list[str], order: list[int], bert: Path, texts: Path, tmp_path: Path
) -> None:
    whole = transformers.AutoModelForSequenceClassification.from_pretrained(bert, id2label=dict(enumerate(names)))
    whole.save_pretrained(bert)
    run = begun("text-micro", texts, bert, tmp_path / "run")
    assert run.checkpoint().metadata()["info"]["classes"] == ["fruit", "tool"]
    model = run.load_model()
    assert torch.equal(model.head.classifier.weight, whole.classifier.weight[order])
    assert torch.equal(model.head.classifier.bias, whole.classifier.bias[order])


def test_pretraining_goes_on_from_a_published_head(bert: Path, texts: Path, tmp_path: Path) -> None:
    whole = transformers.BertForMaskedLM.from_pretrained(bert)
    nn.init.normal_(whole.cls.predictions.bias)
    whole.save_pretrained(bert)
    run = begun("text-micro", texts, bert, tmp_path / "run", task="masked-lm")
    model = run.load_model()
    assert torch.equal(model.head.bias, whole.cls.predictions.bias)
    assert torch.equal(model.head.dense.weight, whole.cls.predictions.transform.dense.weight)
    tuned = begun("text-micro", texts, bert, tmp_path / "tuned").load_model()  # what a classifier has no use for
    assert equal(tuned, model.state_dict(), "embed", "core")
    transformers.BertModel.from_pretrained(bert).save_pretrained(bert)
    bare = begun("text-micro", texts, bert, tmp_path / "bare", task="masked-lm")
    assert equal(bare.load_model(), model.state_dict(), "embed", "core")
    assert not bare.load_model().head.bias.any()


def test_a_linear_probe_trains_the_head_alone(bert: Path, texts: Path, tmp_path: Path) -> None:
    probe: dict[str, Any] = {"train__freeze": ["embed", "core", "head.pooler"], "train__lr": 1e-2, "train__steps": 4}
    run = begun("text-micro", texts, bert, tmp_path / "run", **probe, train__save_every=2)
    model = run.load_model()
    wanted = from_published(model, load_file(bert / "model.safetensors"), BERT.table(run.spec)).tensors
    assert equal(model, wanted, "embed", "core", "head.pooler")
    assert float(model.head.classifier.weight.detach().abs().max()) > 0
    shutil.rmtree(run.checkpoint("newest").folder)
    (run.folder / "report.json").unlink()
    again = train("text-micro", out=run.folder, resume=True, show_progress=False).load_model()
    assert equal(again, model.state_dict(), "head")
    with pytest.raises(UserError, match=r"train.freeze: the model has no 'cors'"):
        begun("text-micro", texts, bert, tmp_path / "other", train__freeze=["cors"])
    assert not (tmp_path / "other").exists()


def test_why_a_head_is_new_is_told_where_its_classes_have_no_names(bert: Path, texts: Path, tmp_path: Path) -> None:
    transformers.AutoModelForSequenceClassification.from_pretrained(bert).save_pretrained(bert)
    report = begun("text-micro", texts, bert, tmp_path / "run").report()
    assert report is not None
    assert f"weights: {bert} (bert); new: head.classifier; what their head predicts has no names" in report.notes


def test_what_is_left_out_is_told_by_its_outermost_modules(texts: Path, tmp_path: Path) -> None:
    masked = begun("text-micro", texts, None, tmp_path / "masked", task="masked-lm").folder
    report = begun("text-micro", texts, masked, tmp_path / "run").report()
    assert report is not None
    (told,) = [note for note in report.notes if "left out" in note]
    assert told.endswith("; left out: head")


@pytest.mark.parametrize("lora", [{}, {"train__lora__rank": 2}], ids=["whole", "adapters"])
def test_a_new_head_that_lets_nothing_through_is_not_left_frozen(
    lora: dict[str, Any], bert: Path, texts: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"train.freeze: head.classifier.weight is new, all zeros, and frozen"):
        begun("text-micro", texts, bert, tmp_path / "run", train__freeze=["head"], **lora)
    assert not (tmp_path / "run").exists()
    classifier = transformers.AutoModelForSequenceClassification.from_pretrained(bert, id2label={0: "fruit", 1: "tool"})
    classifier.save_pretrained(bert)
    saving = {"train__steps": 2, "train__save_every": 1}
    run = begun("text-micro", texts, bert, tmp_path / "run", train__freeze=["head"], **lora | saving)
    shutil.rmtree(run.checkpoint("newest").folder)
    (run.folder / "report.json").unlink()
    assert train("text-micro", out=run.folder, resume=True, show_progress=False).report() is not None
