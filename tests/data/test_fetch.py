"""Datasets come whole, unchanged and inside their folder, or not at all."""

import gzip
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from zoo.data.fetch import extract, fetch, tree_hash
from zoo.data.folder import hash_files
from zoo.data.places import locate, require
from zoo.errors import UserError
from zoo.specs import DatasetSpec

FILES = {"train/a.txt": b"one", "test/b.txt": b"two"}


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "mirror"))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server's address and its folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    folder = tmp_path / "site"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def card(**values: object) -> DatasetSpec:
    return DatasetSpec.model_validate(
        {"task": "t", "description": "d", "source": "the attic", "license": "MIT"} | values
    )


def test_the_hash_is_of_the_files_however_they_are_packed(tmp_path: Path) -> None:
    plain = tree_hash(write(tmp_path / "plain", FILES))
    wrapped = {f"name-main/{name}": content for name, content in FILES.items()} | {"name-main/README.md": b"hello"}
    assert tree_hash(write(tmp_path / "wrapped", wrapped)) == plain
    (tmp_path / "packed").mkdir()
    zipped(tmp_path / "packed" / "all.zip", FILES)
    assert tree_hash(tmp_path / "packed") == plain
    assert tree_hash(write(tmp_path / "other", FILES | {"test/b.txt": b"too"})) != plain
    assert tree_hash(write(tmp_path / "renamed", {"train/a.txt": b"one", "test/c.txt": b"two"})) != plain


def test_fetch_downloads_verifies_and_says_how_far(site: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = site
    zipped(folder / "all.zip", FILES)
    (folder / "more.txt.gz").write_bytes(gzip.compress(b"three"))
    expected = tree_hash(write(tmp_path / "same", FILES))
    seen: list[tuple[str, int, int | None]] = []
    dataset = card(url=f"{address}/all.zip {address}/more.txt.gz", sha256=expected)
    got = fetch("letters", dataset, lambda *progress: seen.append(progress))
    assert got == tmp_path / "cache" / "datasets" / "letters" == locate("letters")
    assert (got / "train" / "a.txt").read_bytes() == b"one"
    assert (got / "more.txt").read_bytes() == b"three"
    size = (folder / "all.zip").stat().st_size
    assert seen[0] == ("all.zip", size, size)


def test_files_that_are_not_what_they_should_be_are_not_kept(site: tuple[str, Path]) -> None:
    address, folder = site
    zipped(folder / "all.zip", FILES)
    with pytest.raises(UserError, match="not 0000"):
        fetch("letters", card(url=f"{address}/all.zip", sha256="0" * 64))
    assert locate("letters") is None
    with pytest.raises(UserError, match=r"cannot download.*404"):
        fetch("letters", card(url=f"{address}/gone.zip"))


def test_the_mirror_comes_first_and_is_verified(tmp_path: Path) -> None:
    mirror = write(tmp_path / "mirror" / "letters", FILES)
    nowhere = "http://127.0.0.1:9/all.zip"
    assert fetch("letters", card(url=nowhere, sha256=tree_hash(mirror))) == mirror
    with pytest.raises(UserError, match="incomplete or another version"):
        fetch("letters", card(url=nowhere, sha256="0" * 64))


def test_what_is_not_here_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"ZOO_MIRROR is '.*mirror', which is no folder\); run 'zoo data fetch letters'"
    ):
        require("letters")
    (tmp_path / "mirror").mkdir()
    with pytest.raises(UserError, match="this machine; run 'zoo data fetch letters', or set ZOO_MIRROR to a folder"):
        require("letters")
    with pytest.raises(UserError, match=r"no address.*the attic"):
        fetch("letters", card())
    with pytest.raises(UserError, match="not an http"):
        fetch("letters", card(url="file:///etc/passwd"))


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "a/../../out.txt", "..\\out.txt", "C:/out.txt"])
def test_paths_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(UserError, match="leads out of its folder"):
        extract(zipped(tmp_path / "bad.zip", {name: b"x"}), into, 1000)
    assert not list(into.rglob("*"))
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(UserError, match="no plain file"):
        extract(tmp_path / "bad.tar", tmp_path, 1000)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match="no plain file"):
        extract(tmp_path / "bad.zip", tmp_path, 1000)


def test_an_archive_that_swells_is_stopped(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(5_000_000))
    with pytest.raises(UserError, match="more than the 1000000 bytes"):
        extract(tmp_path / "bomb.zip", tmp_path, 1_000_000)


def test_damaged_archives_are_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "cut.gz").write_bytes(gzip.compress(bytes(range(256)) * 50)[:60])
    with pytest.raises(UserError, match="damaged"):
        extract(tmp_path / "cut.gz", tmp_path, 10**6)
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(UserError, match="no archive of a known kind"):
        extract(tmp_path / "text.zip", tmp_path, 10**6)
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        info = tarfile.TarInfo("a")
        info.size = 100_000
        archive.addfile(info, io.BytesIO(bytes(i % 251 for i in range(100_000))))
    (tmp_path / "cut.tar.gz").write_bytes(whole.getvalue()[:-200])
    with pytest.raises(UserError, match="damaged"):
        extract(tmp_path / "cut.tar.gz", tmp_path, 10**6)


def test_file_hashes_are_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zoo.data.folder as folder

    paths = list(write(tmp_path / "files", {"a": b"one", "b": b"one", "c": b"two"}).iterdir())
    first = hash_files(paths)
    assert len(set(first)) == 2
    hashed: list[Path] = []
    real = folder.hash_file
    monkeypatch.setattr(folder, "hash_file", lambda path: hashed.append(path) or real(path))
    assert hash_files(paths) == first
    assert hashed == []
    paths[0].write_bytes(b"another")
    assert hash_files(paths)[0] != first[0]
    assert hashed == [paths[0]]


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cache folder .* set ZOO_CACHE"):
        hash_files([tmp_path / "file"])


def test_a_file_that_is_gone_has_a_fingerprint_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "here.png").write_bytes(b"1")
    gone, here = hash_files([tmp_path / "dangling.png", tmp_path / "here.png"])
    assert gone != here
    assert "dangling.png" in gone
