"""What training does to recordings: masks, speeds, noise, and several that are joined."""

import numpy as np
import pytest
import torch

from zoo.contract import Item
from zoo.core import Layout
from zoo.errors import UserError
from zoo.registry import open_registry
from zoo.specs import RunSpec
from zoo_speech.audio import Sound
from zoo_speech.augment import altered, joined
from zoo_speech.model import SpeechEmbed
from zoo_speech.morse import Keyed
from zoo_speech.spec import AugmentSpec, EmbedSpec
from zoo_speech.task import SpeechToText
from zoo_speech.writing import Alphabet


def spec_of(**settings: object) -> RunSpec:
    return open_registry().resolve("stt-micro", settings={k.replace("__", "."): v for k, v in settings.items()}).spec


def test_two_views_of_a_recording_are_masked_apart_and_drawn_together() -> None:
    spec = spec_of(augment__consistency=0.5, augment__num_time_masks=4, augment__time_mask_fraction=0.2)
    task = SpeechToText(spec, {"alphabet": list("abcdefghijklmnopqrstuvwxyz ")})
    dataset = Keyed("train", 3)
    drawn = [task.transform(dataset[i], np.random.Generator(np.random.PCG64(i))) for i in range(3)]
    batch = task.collate(drawn, dataset.ids[:3])
    assert batch.inputs["time_masks"].shape == (6, 4, 2)
    assert (batch.inputs["time_masks"][:3] != batch.inputs["time_masks"][3:]).all()
    model = task.build(spec).eval()
    output = model(batch.inputs)
    one, other = output.logits.log_softmax(-1).chunk(2)
    total, count = task.loss(output, batch)
    assert count == sum(len(sample["symbols"]) for sample in drawn)

    # By hand: the mean of two plain losses, and half the weighted sum of both divergences.
    plain = SpeechToText(spec_of(), {"alphabet": task.symbols.texts[1:]})
    alone = []
    for part in (0, 1):
        own = dict(batch.inputs) | {
            "layout": Layout.from_lengths(batch.inputs["layout"].lengths[:3].tolist()),
            "num_tokens": len(one),
            "time_masks": batch.inputs["time_masks"][3 * part : 3 * part + 3],
            "band_masks": batch.inputs["band_masks"][3 * part : 3 * part + 3],
        }
        alone.append(plain.loss(model(own), batch)[0])
    # Each is drawn towards the other, which stands still.
    apart = sum((p.exp() * (p - q)).sum() for p, q in ((one.detach(), other), (other.detach(), one)))
    expected = (alone[0] + alone[1] + 0.5 * apart) / 2
    torch.testing.assert_close(total, expected)
    weight = model.head.classifier.weight
    found, wanted = (torch.autograd.grad(each, weight, retain_graph=True)[0] for each in (total, expected))
    torch.testing.assert_close(found, wanted)


def test_consistency_wants_masks() -> None:
    with pytest.raises(UserError, match="consistency is between two maskings"):
        spec_of(augment__consistency=0.5)


def test_masks_cover_their_share() -> None:
    embed = SpeechEmbed(16, sample_rate_hz=8000, num_mels=20, window=200, hop=80, position="none")
    samples = torch.randn(1, 8000)
    masks = torch.tensor([[[0.5, 1.0]]])
    whole = embed(samples, torch.tensor([8000]), layout=Layout.from_lengths([25]), num_tokens=25).x
    masked = embed(samples, torch.tensor([8000]), layout=Layout.from_lengths([25]), num_tokens=25, time_masks=masks).x
    torch.testing.assert_close(masked[:12], whole[:12])
    torch.testing.assert_close(masked[13:], embed.project.bias.expand(12, -1))


def test_recordings_of_a_batch_are_joined_as_drawn() -> None:
    spec = spec_of(augment__joined=0.6)
    task = SpeechToText(spec, {"alphabet": list("abcdefghijklmnopqrstuvwxyz ")})
    dataset = Keyed("train", 6)
    samples = [task.transform(dataset[i], np.random.Generator(np.random.PCG64(i))) for i in range(6)]
    assert {sample["goes_on"] for sample in samples} == {True, False}
    batch = task.collate(samples, dataset.ids[:6])
    assert len(batch.ids) == 6
    assert len(batch.targets["counts"]) < 6
    texts = " ".join(dataset.targets[:6])
    assert len(batch.targets["symbols"]) >= len(texts) - 5
    assert " ".join(facts["text"] for facts in batch.columns) == texts
    assert int(batch.inputs["num_samples"].sum()) == sum(len(sample["samples"]) for sample in samples)


def test_recordings_that_cannot_be_spelt_together_stay_apart() -> None:
    embed, symbols = EmbedSpec(), Alphabet(["", " ", "a"])
    one = {"samples": np.zeros(640), "text": "a", "symbols": symbols.spell("a"), "goes_on": True}
    assert [each["text"] for each in joined([one, one], embed, symbols)] == ["a", "a"]  # a blank between wants a token
    longer = one | {"samples": np.zeros(1280)}
    assert [each["text"] for each in joined([longer, longer, one], embed, symbols)] == ["a a", "a"]


def test_a_recording_keeps_the_speed_at_which_it_can_be_spelt() -> None:
    task = SpeechToText(spec_of(augment__speeds=[2.0], embed__sample_rate_hz=8000), {"alphabet": list("ab")})
    rng = np.random.Generator(np.random.PCG64(0))
    sound = Sound(np.zeros(3200, np.float32), 8000)  # five tokens
    assert len(task.transform(Item("x", sound, "ababa"), rng)["samples"]) == 3200
    assert len(task.transform(Item("x", sound, "ab"), rng)["samples"]) == 1600


def test_noise_lies_below_the_recording_as_asked() -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    samples = rng.normal(0, 0.2, 20_000).astype(np.float32)
    below = []
    for _ in range(60):
        noise = altered(samples, AugmentSpec(noise_db=15), rng) - samples
        below.append(20 * np.log10(samples.std() / noise.std()))
    assert min(below) >= 14.9
    assert 22 <= np.mean(below) <= 28  # 15, and 10 on the mean of an exponential distribution
