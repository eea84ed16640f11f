"""Causal language modelling: what is told from what, how texts are continued, and what a run of it is good for."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from typer.testing import CliRunner

import zoo
from zoo.cli import app
from zoo.contract import Item, Record
from zoo.errors import UserError
from zoo.metrics import likelihood
from zoo.registry import open_registry
from zoo.run import Run
from zoo.specs import RunSpec
from zoo.training import train
from zoo_text import tokenizer as tokenizers
from zoo_text.causal import CausalLanguageModelling
from zoo_text.generate import drawing

WORDS = ("apple", "plum", "pear", "hammer", "saw", "drill")
TEXTS = [f"{one} and {other} {i}" for one in WORDS for other in WORDS for i in range(3)]


def spec_of(**settings: Any) -> RunSpec:
    asked = {key.replace("__", "."): value for key, value in settings.items()}
    return open_registry().resolve("text-micro", task="causal-lm", settings=asked).spec


def task_of(tokenizer: Tokenizer | None = None, **settings: Any) -> Any:
    tokenizer = tokenizer or tokenizers.learn("wordpiece", TEXTS, max_vocab_size=300, lowercase=True)
    spec = spec_of(embed__vocab_size=tokenizers.size(tokenizer), **settings)
    bounds = tokenizers.bounds(tokenizer)
    return CausalLanguageModelling(
        spec, {"tokenizer": tokenizer.to_str(), "begin": bounds.begin, "ends": list(bounds.ends)}
    )


def told(text: str, name: str = "one") -> Item:
    return Item(name, text, target=text)


def of_bytes(*special: str) -> Tokenizer:
    """A tokenizer of single bytes, as GPT-2's is, with these tokens besides."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(special))
    return made


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n\n".join(TEXTS))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("causal")
    (folder / "texts.txt").write_text("\n".join(TEXTS))
    steps = {"train.steps": 100, "train.eval_every": 100, "train.lr": 3e-3, "core.causal": True}
    return train(
        "text-micro",
        task="causal-lm",
        data=str(folder / "texts.txt"),
        settings=steps,
        out=folder / "run",
        show_progress=False,
    )


# ---------------------------------------------------------------- what is told from what


def test_each_token_is_told_from_those_before_it_the_end_too() -> None:
    task = task_of()
    ids = task.tokenizer.encode(TEXTS[0]).ids  # between [CLS] and [SEP]
    sample = task.transform(told(TEXTS[0]), None)
    assert sample["tokens"].tolist() == ids[:-1]
    assert sample["target"].tolist() == ids[1:]
    assert sample["num_bytes"] == len(TEXTS[0])
    asked = task.transform(Item("one", TEXTS[0]), None)
    assert asked["tokens"].tolist() == ids[:-1]
    assert asked["target"] is None


def test_a_text_that_is_cut_off_has_no_end_and_the_bytes_of_what_is_left() -> None:
    task = task_of(of_bytes("<|endoftext|>"), embed__max_tokens=6)
    text = "aé and so on"
    sample = task.transform(told(text), None)
    assert len(sample["tokens"]) == len(sample["target"]) == 6
    assert task.tokenizer.decode(sample["target"].tolist()) == "aé an"
    assert sample["num_bytes"] == 6
    whole = task.transform(told("aé an"[:4]), None)
    assert whole["target"].tolist()[-1] == task.bounds.ends[0]
    assert (len(whole["target"]), whole["num_bytes"]) == (6, 5)
    with pytest.raises(UserError, match="more than the 6 tokens that the model reads"):
        task.transform(Item("one", text), None)
    assert len(task.transform(Item("one", "abcde"), None)["tokens"]) == 6


def test_what_begins_and_ends_a_text_is_as_the_tokenizer_has_it() -> None:
    own = tokenizers.learn("bpe", TEXTS, max_vocab_size=300, lowercase=True)
    own_id = own.token_to_id
    assert tokenizers.bounds(own) == (own_id("[CLS]"), (own_id("[SEP]"),), True)
    gpt2 = of_bytes("<|endoftext|>")
    assert tokenizers.bounds(gpt2) == (256, (256,), False)
    assert tokenizers.bounds(gpt2, 9999, [9999, 256]) == (256, (256,), False)
    qwen = of_bytes("<|endoftext|>", "<|im_end|>")
    assert tokenizers.bounds(qwen, 256, [257]) == (256, (257,), False)
    llama = of_bytes("<s>", "</s>", "<turn>")
    llama.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 256)])
    assert tokenizers.bounds(llama) == (256, (257,), True)
    assert tokenizers.bounds(llama, 257, [258, 257]) == (256, (258, 257), True)
    with pytest.raises(UserError, match="no token that ends a text"):
        tokenizers.bounds(of_bytes())


@pytest.mark.parametrize(("begin", "first"), [(True, [256, 97]), (False, [97])])
def test_a_prompt_begins_as_texts_do_unless_that_is_left_to_the_tokenizer(begin: bool, first: list[int]) -> None:
    gpt2 = of_bytes("<|endoftext|>")
    task = task_of(gpt2, decode__begin=begin)
    letter = gpt2.token_to_id("a")
    wanted = [letter if each == 97 else each for each in first]
    assert task.transform(Item("one", "a"), None)["tokens"].tolist() == wanted
    assert task.transform(told("a"), None)["tokens"].tolist() == [256, letter]


def test_no_token_sees_a_later_one() -> None:
    task = task_of()
    model = task.build(task.spec).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    pair = [told("apple and plum 1", "a"), told("apple and drill 2", "b")]
    batch = task.collate([task.transform(item, None) for item in pair], ["a", "b"])
    one, other = model(batch.inputs).logits.split([len(each["tokens"]) for each in batch.columns])
    torch.testing.assert_close(one[:3], other[:3], rtol=0, atol=1e-5)
    assert not torch.allclose(one[3], other[3])


def test_bits_per_byte_are_of_all_texts_together() -> None:
    records = [
        Record("a", [1, 2], [1, 3], columns={"log_likelihood": math.log(0.25), "num_bytes": 3}),
        Record("b", [4], [4], columns={"log_likelihood": math.log(0.5), "num_bytes": 1}),
    ]
    measures = likelihood(records)
    assert measures.statistics["bits_per_byte"](np.ones(2)) == pytest.approx(3 / 4)
    assert measures.statistics["bits_per_byte"](np.array([0, 2])) == pytest.approx(1)
    assert measures.statistics["perplexity"](np.ones(2)) == pytest.approx(2)
    without = [Record("a", [1], [1], columns={"log_likelihood": -1.0})]
    assert "bits_per_byte" not in likelihood(without).statistics


def test_decode_gives_each_text_its_own_likelihood() -> None:
    task = task_of()
    model = task.build(task.spec).eval()
    items = [told(text, text) for text in (TEXTS[0], " ".join(TEXTS[3:9]), TEXTS[50])]
    batch = task.collate([task.transform(item, None) for item in items], [item.id for item in items])
    with torch.no_grad():
        output = model(batch.inputs)
    found = task.decode(output, batch)
    total, count = task.loss(output, batch)
    assert sum(len(record.target) for record in found) == count
    assert -sum(record.columns["log_likelihood"] for record in found) == pytest.approx(float(total), rel=1e-5)
    alone = task.collate([task.transform(items[1], None)], ["1"])
    again = task.decode(model(alone.inputs), alone)[0]
    assert again.columns["log_likelihood"] == pytest.approx(found[1].columns["log_likelihood"], rel=1e-5)


# ---------------------------------------------------------------- how the next token is drawn


def test_tokens_are_drawn_by_their_probability_among_the_likeliest() -> None:
    shares = torch.tensor([0.1, 0.4, 0.2, 0.3])

    def drawn(temperature: float, top_k: int | None = None, top_p: float = 1.0) -> list[float]:
        choose = drawing(temperature, top_k, top_p, np.random.default_rng(0))
        counts = np.bincount([choose(shares.log()) for _ in range(4000)], minlength=4)
        return (counts / 4000).tolist()

    assert drawn(1.0) == pytest.approx(shares.tolist(), abs=0.03)
    assert drawn(0.0) == [0, 1, 0, 0]
    squared = shares**2 / (shares**2).sum()
    assert drawn(0.5) == pytest.approx(squared.tolist(), abs=0.03)
    assert drawn(1.0, top_k=2) == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=0.03)
    assert drawn(1.0, top_k=1) == drawn(1.0, top_p=0.4) == [0, 1, 0, 0]
    assert drawn(1.0, top_p=0.41) == drawn(1.0, top_p=0.69) == drawn(1.0, top_k=2)
    assert drawn(1.0, top_k=3, top_p=0.5) == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=0.03)


# ---------------------------------------------------------------- as a user has it


def test_texts_are_continued(run: Run) -> None:
    greedy = zoo.predict(run, ["apple and", "hammer"])
    assert [list(answer.values) for answer in greedy] == [["text"]] * 2
    words = greedy[0].values["text"].split()
    assert words[0] in WORDS
    assert words[1] in ("0", "1", "2")
    assert len(words) == 2  # and the end
    assert greedy[1].values["text"].split()[0] == "and"
    hot = {"decode.temperature": 3.0, "decode.max_new_tokens": 9}
    drawn = [zoo.predict(run, ["apple and"], settings={**hot, "decode.seed": seed})[0] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert (
        zoo.predict(run, ["pear", "apple and"], settings={**hot, "decode.seed": 1})[1] == drawn[0]
    )  # whoever is beside
    short = zoo.predict(run, ["apple"], settings={"decode.max_new_tokens": 1})[0]
    assert short.values["text"].split() == ["and"]
    empty, *_ = zoo.predict(run, [" "])
    assert "the text is empty" in str(empty.error)


def test_it_is_judged_by_perplexity_and_bits_per_byte(run: Run) -> None:
    report = run.report()
    assert report is not None
    assert report.primary == "perplexity"
    # the second word and the number are drawn among 6 and 3: no model can tell them
    assert math.log(6 * 6 * 3) / 5 < report.metrics["nats_per_token"].value < 1.4
    found = {name: value.value for name, value in report.metrics.items()}
    assert found["perplexity"] == pytest.approx(math.exp(found["nats_per_token"]))
    assert {"token_accuracy", "bits_per_byte"} <= set(found)
    again = zoo.evaluate(run, split="test")
    assert again.metrics == report.metrics


def test_fine_tuning_goes_on_from_it(run: Run, tmp_path: Path) -> None:
    labelled = tmp_path / "labelled.csv"
    labelled.write_text("\n".join(["text,label", *(f"{text},{text.split()[0]}" for text in TEXTS)]))
    still = {"train.steps": 1, "train.lr": 1e-300, "train.weight_decay": 0.0}
    tuned = train(
        "text-micro", data=str(labelled), weights=run.folder, settings=still, out=tmp_path / "t", show_progress=False
    )
    assert tuned.spec.core.causal  # which the weights decide
    before, after = run.load_model().state_dict(), tuned.load_model().state_dict()
    assert all(torch.equal(before[name], after[name]) for name in after if not name.startswith("head."))
    with pytest.raises(UserError, match=r"core\.causal=false contradicts the weights"):
        train(
            "text-micro",
            data=str(labelled),
            weights=run.folder,
            settings={"core.causal": False},
            out=tmp_path / "n",
            show_progress=False,
        )
    again = train(
        "text-micro",
        task="causal-lm",
        data=str(run.spec.data.name),
        weights=run.folder,
        settings=still,
        out=tmp_path / "again",
        show_progress=False,
    )
    mine, theirs = again.report(), run.report()
    assert mine is not None
    assert theirs is not None
    assert mine.metrics == theirs.metrics  # its head, which is the table, too


def test_published_decoders_are_fine_tuned_and_write_as_their_library_does(texts: Path, tmp_path: Path) -> None:
    tokenizer = of_bytes("<|endoftext|>", "<turn>")
    size = {"vocab_size": 260, "bos_token_id": 256, "eos_token_id": [257, 256], "initializer_range": 0.3}
    llama = {"hidden_size": 96, "intermediate_size": 200, "num_hidden_layers": 2, "num_attention_heads": 3}
    gpt2 = transformers.GPT2Config(n_embd=96, n_layer=4, n_head=3, n_positions=24, **size)
    qwen3 = transformers.Qwen3Config(num_key_value_heads=1, head_dim=32, max_position_embeddings=40, **llama, **size)
    of_size = {"core.depth": 2, "core.mlp_dim": 200, "core.num_kv_heads": 1}
    for config, settings, count in ((gpt2, {}, 15), (qwen3, of_size, 30)):
        torch.manual_seed(0)
        reference = transformers.AutoModelForCausalLM.from_config(config).eval()
        folder = tmp_path / config.model_type
        reference.save_pretrained(folder)
        tokenizer.save(str(folder / tokenizers.FILE))
        tuned = train(
            "text-micro",
            task="causal-lm",
            data=str(texts),
            weights=folder,
            settings={**settings, "train.steps": 1, "train.lr": 1e-300, "train.weight_decay": 0.0},
            out=tmp_path / f"{config.model_type}-run",
            show_progress=False,
        )
        assert tuned.spec.core.causal
        assert tuned.checkpoint().metadata()["info"].items() >= {"begin": 256, "ends": [257, 256]}.items()
        ids = [256, *tokenizer.encode("apple and").ids]
        prompt = torch.tensor([ids])
        whole = reference.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=count, pad_token_id=0
        )
        told = tokenizer.decode(whole[0, len(ids) :].tolist())
        answer = zoo.predict(tuned, ["apple and"], settings={"decode.max_new_tokens": 30})[0]
        assert len(told) >= 5
        assert answer.values["text"] == told


def test_three_commands_train_judge_and_write(texts: Path, tmp_path: Path) -> None:
    place, runner = str(tmp_path / "run"), CliRunner()
    asked = ["--set", "train.eval_every=3", "--steps", "3", "--out", place, "--device", "cpu"]
    done = runner.invoke(app, ["train", "text-micro", "--recipe", "causal-definitions", "--data", str(texts), *asked])
    assert done.exit_code == 0, done.output
    assert "perplexity" in done.output
    done = runner.invoke(app, ["eval", place])
    assert done.exit_code == 0, done.output
    assert "bits_per_byte" in done.output
    done = runner.invoke(app, ["predict", place, "apple and", "--set", "decode.max_new_tokens=2", "--json"])
    assert done.exit_code == 0, done.output
    assert '"text"' in done.output


def test_a_recipe_may_be_of_another_task() -> None:
    resolved = open_registry().resolve("text-micro", recipe="causal-definitions")
    assert (resolved.spec.task, resolved.spec.data.name) == ("causal-lm", "wordnet-definitions")
    assert resolved.spec.core.causal
    assert open_registry().resolve("text-tiny", task="causal-lm").recipe == "text-tiny/causal-definitions"


def test_what_cannot_be_is_refused(run: Run, texts: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none may see later ones\nset it: --set core\.causal=true"):
        CausalLanguageModelling.datasets(spec_of(core__causal=False))
    with pytest.raises(UserError, match=r"set head\.tied=false"):
        CausalLanguageModelling.datasets(spec_of(embed__token_dim=32))
    CausalLanguageModelling.build(spec_of(embed__token_dim=32, head__tied=False))
    masked = train(
        "text-micro",
        task="masked-lm",
        data=str(texts),
        settings={"train.steps": 1},
        out=tmp_path / "masked",
        show_progress=False,
    )
    with pytest.raises(UserError, match="name weights of a model that was so"):
        train("text-micro", task="causal-lm", data=str(texts), weights=masked.folder, out=tmp_path / "no")
    with pytest.raises(UserError, match="a masked token is told from what follows too"):
        train("text-micro", task="masked-lm", data=str(texts), weights=run.folder, out=tmp_path / "no")
    with pytest.raises(UserError, match="the first token would see no other"):
        zoo.train("text-base", data=str(texts), settings={"core.causal": True}, out=tmp_path / "no")
    filled = {"core.causal": True, "embed.pad_token": 1}
    with pytest.raises(
        UserError, match=r"is not filled up to embed.max_tokens\nleave it off: --set embed.pad_token=null"
    ):
        zoo.train("text-micro", task="causal-lm", data=str(texts), settings=filled, out=tmp_path / "no")
    assert not (tmp_path / "no").exists()
