"""What is done to recordings when training: speed, noise, masks, and one recording following another.

Speed: Ko et al. 2015; masks: SpecAugment, Park et al. 2019, arXiv:1904.08779.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from zoo_speech import audio
from zoo_speech.audio import Samples
from zoo_speech.spec import AugmentSpec, EmbedSpec
from zoo_speech.writing import Symbols, least_tokens

Sample = Mapping[str, Any]


def altered(samples: Samples, augment: AugmentSpec, rng: np.random.Generator) -> Samples:
    """At another speed, and in noise."""
    if augment.speeds:
        factor = float(rng.choice(augment.speeds))
        if factor != 1:
            samples = audio.at_rate(samples, round(1000 * factor), 1000)
    if augment.noise_db is not None:
        level = float(np.sqrt(np.mean(samples**2))) * 10 ** (-(augment.noise_db + rng.exponential(10)) / 20)
        samples = samples + rng.normal(0, max(level, 1e-12), len(samples)).astype(np.float32)
    return samples


def draw_masks(augment: AugmentSpec, rng: np.random.Generator) -> dict[str, Float[np.ndarray, "views masks 2"]]:
    """Where masked stretches of time and bands begin and end, as shares; none where none are asked for."""
    if not augment.num_time_masks and not augment.num_band_masks:
        return {}
    return {
        "time_masks": _draw(rng, augment.num_views, augment.num_time_masks, augment.time_mask_fraction),
        "band_masks": _draw(rng, augment.num_views, augment.num_band_masks, augment.band_mask_fraction),
    }


def _draw(rng: np.random.Generator, views: int, count: int, longest: float) -> Float[np.ndarray, "views masks 2"]:
    width = rng.uniform(0, longest, (views, count))
    begin = rng.uniform(0, 1 - width)
    return np.stack([begin, begin + width], -1).astype(np.float32)


def joined(samples: Sequence[Sample], embed: EmbedSpec, symbols: Symbols) -> list[Sample]:
    """One recording for two, where the first was drawn to go on (`goes_on`) and both together can be spelt."""
    found: list[Sample] = []
    left = list(samples)
    while left:
        first = left.pop(0)
        if left and first.get("goes_on"):
            both = np.concatenate([first["samples"], left[0]["samples"]])
            text = f"{first['text']} {left[0]['text']}"
            spelt = symbols.spell(text)
            if least_tokens(spelt) <= embed.num_tokens(len(both)):
                del left[0]
                first = {**first, "samples": both, "text": text, "symbols": spelt}
        found.append(first)
    return found
