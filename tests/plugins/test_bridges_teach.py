"""Models of other libraries and ours learn from one another where one batch is for both, and are refused elsewhere."""

from pathlib import Path
from typing import Any

import pytest
from published_timm import trained as timm_trained
from published_transformers import trained

from zoo.errors import UserError


def teaching(teacher: Any) -> dict[str, Any]:
    return {"train.distill": {"teacher": str(teacher.folder)}}


@pytest.mark.parametrize(
    "other",
    [{"crop_fraction": 0.9}, {"crop_mode": "squash"}, {"interpolation": "bilinear"}, {"resizer": "pillow"}],
    ids=lambda other: next(iter(other)),
)
@pytest.mark.parametrize("ours_teaches", [True, False])
def test_a_network_sees_its_teachers_pictures(other: dict[str, Any], ours_teaches: bool, tmp_path: Path) -> None:
    names = ("vit-micro", "timm/test_resnet") if ours_teaches else ("timm/test_resnet", "vit-micro")
    sides = {"vit-micro": {"embed.patch_size": 8}, "timm/test_resnet": {}}
    asked = {f"embed.{key}": value for key, value in other.items()}
    teacher = timm_trained(names[0], tmp_path / "teacher", settings={**sides[names[0]], **asked})
    settings = {**sides[names[1]], **teaching(teacher)}
    ((key, value),) = asked.items()
    with pytest.raises(UserError, match=rf"has {key} {value}, the student .*\nset {key}={value}, or name another"):
        timm_trained(names[1], tmp_path / "student", settings=settings)
    assert timm_trained(names[1], tmp_path / "student", settings={**settings, **asked}).report() is not None


@pytest.mark.parametrize("names", [("hf/tiny-bert", "text-micro"), ("text-micro", "hf/tiny-bert")])
def test_texts_are_taught_both_ways(names: tuple[str, str], tmp_path: Path, reviews: str) -> None:
    length = {"embed.max_tokens": 64}
    teacher = trained(names[0], reviews, tmp_path / "teacher", settings=length)
    student = trained(names[1], reviews, tmp_path / "student", settings={**length, **teaching(teacher)})
    assert student.report() is not None


def test_who_fills_texts_up_is_no_teacher_of_who_does_not(tmp_path: Path, reviews: str) -> None:
    filled = {"embed.max_tokens": 64, "embed.pad_token": 0}
    teacher = trained("text-micro", reviews, tmp_path / "teacher", settings=filled)
    with pytest.raises(UserError, match=r"has embed.pad_token 0, the student None: .*\nname another teacher"):
        trained("hf/tiny-bert", reviews, tmp_path / "student", settings={"embed.max_tokens": 64, **teaching(teacher)})


def test_recordings_are_taught_by_who_hears_the_same(tmp_path: Path, voice: str) -> None:
    teacher = trained("hf/tiny-wav2vec2", voice, tmp_path / "teacher")
    assert trained("hf/tiny-wav2vec2", voice, tmp_path / "student", settings=teaching(teacher)).report() is not None
    waves = {"embed.front": "waveform", "embed.position": "none", "embed.conv_dims": [8] * 7}
    for i, more in enumerate(({}, waves)):
        own = more.get("embed.front", "log_mel")
        with pytest.raises(UserError, match=rf"has embed.front samples, the student {own}: one batch is not for both"):
            trained("stt-micro", voice, tmp_path / "other", settings={**more, **teaching(teacher)})
        ours = trained("stt-micro", voice, tmp_path / f"ours{i}", settings=more)
        with pytest.raises(UserError, match=rf"has embed.front {own}, the student samples: one batch is not for both"):
            trained("hf/tiny-wav2vec2", voice, tmp_path / "other", settings=teaching(ours))
