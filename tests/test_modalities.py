"""One core for every modality: cores are exchanged between them, and what is shared has no word of any."""

import json
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch

import zoo
from zoo.testing.subject import subject_of

SOURCE = Path(zoo.__file__).parent
SHARED = [
    "trainer.py",
    "training.py",
    "evaluator.py",
    "inference.py",
    "predictor.py",
    "core",
    "data/sampler.py",
    "data/loader.py",
]
WORDS = re.compile(
    r"(?<![a-z])(image|picture|photo|pixel|patch|vision|sentence|tokenizer|language|speech|spoken|audio|sound|voice|"
    r"recording|transcri|utterance|morse|vit|stt|zoo_[a-z]+)|(?<![a-z])text(?!io)[- ]class",
    re.IGNORECASE,
)


def test_what_is_shared_has_no_word_of_a_modality() -> None:
    files = [
        file
        for name in SHARED
        for file in ((SOURCE / name).rglob("*.py") if (SOURCE / name).is_dir() else [SOURCE / name])
    ]
    assert len(files) > 10
    found = [
        f"{file.name}:{number}: {line.strip()}"
        for file in files
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if WORDS.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("task", ["image-classification", "text-classification", "speech-to-text"])
def test_text_s_core_serves_every_model(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward, backward, a training step, save and load, with `text-small`'s core in a model of the task."""
    subject = subject_of(task)
    small = {"image-classification": "vit-small", "text-classification": "text-small", "speech-to-text": "stt-small"}
    core = zoo.load("text-small").core
    spec = subject.spec.model_copy(update={"core": zoo.registry.open_registry().models[small[task]].core})
    model = type(subject.task).build(spec)
    model.core = core
    batch = subject.batch(subject.indices)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    before = core.blocks[0].mlp.fc1.weight.detach().clone()
    losses = []
    for _ in range(2):
        total, count = subject.task.loss(model(batch.inputs), batch)
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
        losses.append(total.item())
    assert losses[1] < losses[0]
    assert not torch.equal(core.blocks[0].mlp.fc1.weight, before)

    again = type(subject.task).build(type(spec).model_validate(json.loads(spec.model_dump_json())))
    again.load_state_dict(safetensors.torch.load(safetensors.torch.save(dict(model.state_dict()))))
    with torch.no_grad():
        assert torch.equal(again.eval()(batch.inputs).logits, model.eval()(batch.inputs).logits)
