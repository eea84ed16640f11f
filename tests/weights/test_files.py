"""Weights from files of strangers: tensors are read, code is not run, and what is broken is told."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from zoo.errors import UserError
from zoo.weights import read_published

ONE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return tmp_path


def test_reads_a_file_and_a_folder_with_its_configuration(folder: Path) -> None:
    save_file(ONE, folder / "model.safetensors")
    for place in (folder, folder / "model.safetensors"):
        found = read_published(place)
        assert found.config == {"model_type": "bert"}
        assert torch.equal(found.tensors["a.weight"], ONE["a.weight"])


def test_reads_shards_and_never_leaves_the_folder(folder: Path) -> None:
    save_file({"a.weight": ONE["a.weight"]}, folder / "one.safetensors")
    save_file({"a.bias": ONE["a.bias"]}, folder / "two.safetensors")
    shards = {"a.weight": "one.safetensors", "a.bias": "../elsewhere/two.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert read_published(folder).tensors.keys() == ONE.keys()
    (folder / "two.safetensors").unlink()
    with pytest.raises(UserError, match=r"index.json' lists files that are not beside it: two.safetensors\ncopy"):
        read_published(folder)


@pytest.mark.parametrize("content", [ONE, {"state_dict": ONE}, {"model": ONE}])
def test_reads_a_pickle_of_tensors(folder: Path, content: object) -> None:
    torch.save(content, folder / "pytorch_model.bin")
    assert read_published(folder).tensors.keys() == ONE.keys()


def test_an_index_that_lists_more_than_there_is_is_told(folder: Path) -> None:
    save_file({"a.weight": ONE["a.weight"]}, folder / "one.safetensors")
    shards = dict.fromkeys(ONE, "one.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(UserError, match=r"lacks what its index lists: a.bias"):
        read_published(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is no pickle of tensors alone"),
        (b"<!DOCTYPE html><html></html>", "is no pickle of tensors alone"),
        (b"", r"cannot be read: it has 0 bytes\ncopy or"),
    ],
)
def test_a_page_or_a_pointer_in_the_place_of_weights_is_told(folder: Path, content: bytes, message: str) -> None:
    (folder / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_published(folder)


@pytest.mark.parametrize("content", [{}, {0: torch.ones(1)}, [torch.ones(1)], {"a": {"b": torch.ones(1)}}])
def test_what_holds_no_named_tensors_is_refused(folder: Path, content: object) -> None:
    torch.save(content, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="other than named tensors"):
        read_published(folder)


class Trap:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))])
def test_a_pickle_that_would_run_code_is_refused_and_nothing_runs(folder: Path, write: object) -> None:
    assert callable(write)
    write({"a": Trap(folder / "sprung")}, folder / "model.bin")
    with pytest.raises(UserError, match="it holds code, or is a page or a pointer"):
        read_published(folder)
    assert not (folder / "sprung").exists()


def test_what_is_cut_short_missing_or_something_else_is_told(folder: Path) -> None:
    with pytest.raises(UserError, match=r"no file or folder .*nowhere"):
        read_published(folder / "nowhere")
    with pytest.raises(UserError, match="holds no weights"):
        read_published(folder)
    with pytest.raises(UserError, match="is no file of weights"):
        read_published(folder / "config.json")
    save_file(ONE, folder / "model.safetensors")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-5])
    size = f"{len(whole) - 5:,} bytes"
    with pytest.raises(
        UserError, match=rf"cannot be read: .*\nit has {size}, and is cut short or another kind of file"
    ):
        read_published(folder)
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"model.safetensors' cannot be read: it has 0 bytes\ncopy or download it anew"):
        read_published(folder)
    torch.save({"a": 3}, folder / "other.pt")
    with pytest.raises(UserError, match=r"^'.*other.pt' holds something other than named tensors"):
        read_published(folder / "other.pt")
    (folder / "model.safetensors").write_bytes(whole)
    (folder / "config.json").write_text("[1]")
    with pytest.raises(UserError, match="holds no settings by name"):
        read_published(folder)
