"""From scores to text: the search among prefixes, the language model, times, subtitles and windows."""

import gzip
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import UserError
from zoo.registry import open_registry
from zoo_speech import decode, language, timing
from zoo_speech.decode import BeamSearch, Found, Prefix, best_path, learn_language
from zoo_speech.language import BEGIN, END, UNKNOWN, Weight, from_arpa, learn, read_arpa
from zoo_speech.spec import DecodeSpec, EmbedSpec, HeadSpec
from zoo_speech.task import SpeechToText
from zoo_speech.timing import Word, align, subtitles, to_srt, to_vtt
from zoo_speech.windows import cut, stitch
from zoo_speech.writing import BLANK, Alphabet, Pieces, write
from zoo_speech.writing import learn as learn_symbols

LETTERS = Alphabet(["", " ", "a", "b"])


def draw_scores(seed: int, num_tokens: int, num_symbols: int = 4) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(seed))
    logits = 2 * rng.standard_normal((num_tokens, num_symbols))
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != BLANK)


def likelihoods(scores: np.ndarray) -> dict[tuple[int, ...], float]:
    """log p of every symbol sequence, by summing over all paths."""
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(scores.shape[1]), repeat=len(scores)):
        total = sum(scores[t, symbol] for t, symbol in enumerate(path))
        found[collapsed(path)] = np.logaddexp(found.get(collapsed(path), -math.inf), total)
    return found


# ---------------------------------------------------------------- search


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_a_wide_beam_finds_the_likeliest_symbols(seed: int, num_tokens: int) -> None:
    scores = draw_scores(seed, num_tokens)
    exact = likelihoods(scores)
    assert tuple(BeamSearch(LETTERS, 1000)(scores).symbols) == max(exact, key=exact.__getitem__)


def test_a_language_model_too_large_to_be_stored_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = DecodeSpec(language_model="train", ngram_order=2)
    assert learn_language(["ab b"], asked)["ngram_order"] == 2
    assert learn_language(["ab b"], DecodeSpec()) == {}
    monkeypatch.setattr(decode, "LARGEST_STORED", 10)
    with pytest.raises(UserError, match=r"take 0 MB, and a checkpoint holds 0\nlower decode.ngram_order"):
        learn_language(["ab b"], asked)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_the_language_model_has_its_say(seed: int, num_tokens: int) -> None:
    scores = draw_scores(seed, num_tokens)
    model = learn(["a b a", "ab", "b b"], 2)
    weight, bonus = 0.7, 0.3

    def total(numbers: tuple[int, ...]) -> float:
        words = write(LETTERS, numbers).split()
        history, score = (BEGIN,), 0.0
        for word in (*words, END):
            score += model.score(history, word)
            history = (*history, word)
        return exact[numbers] + weight * math.log(10) * score + bonus * len(words)

    exact = likelihoods(scores)
    search = BeamSearch(LETTERS, 1000, model, weight=weight, word_bonus=bonus)
    assert total(tuple(search(scores).symbols)) == pytest.approx(max(total(numbers) for numbers in exact))


def test_a_narrow_beam_is_no_better_than_a_wide_one() -> None:
    narrow = wide = 0.0
    for seed in range(20):
        scores = draw_scores(seed, 5)
        exact = likelihoods(scores)
        narrow += exact[tuple(BeamSearch(LETTERS, 2)(scores).symbols)]
        wide += exact[tuple(BeamSearch(LETTERS, 50)(scores).symbols)]
    assert wide > narrow


def test_a_beginning_of_no_word_is_ranked_as_unknown() -> None:
    model = learn(["a b", "ab a"], 2)
    search = BeamSearch(LETTERS, 4, model, weight=0.5)
    root = Prefix(blank=0.0)
    known, strange = (search._longer(root, symbol, 0) for symbol in (2, 3))
    assert known.outlook == 0
    stranger = search._longer(strange, 2, 1)  # "ba" begins no word
    assert stranger.outlook == pytest.approx(0.5 * math.log(10) * model.score((BEGIN,), UNKNOWN))


def test_what_is_hardly_heard_may_be_said() -> None:
    scores = np.log([[0.001, 0.001, 0.997, 0.001]])
    model = from_arpa(ARPA.replace("-0.7 a", "-9 a").replace("-0.1 <s> a", "-0.1 <s> b").replace("a </s>", "b </s>"))
    assert BeamSearch(LETTERS, 4, model, weight=0.1)(scores).symbols == [2]
    assert BeamSearch(LETTERS, 4, model, weight=5.0)(scores).symbols in ([3], [])


# ---------------------------------------------------------------- language model

SENTENCES = ["the cat sat", "the cat ran", "a dog sat", "the dog", "the cat sat on the mat"]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_add_up_to_one(order: int) -> None:
    model = learn(SENTENCES, order)
    vocabulary = [*model.words, END, UNKNOWN]
    for history in [(BEGIN,), (BEGIN, "the"), ("the", "cat"), ("never", "seen"), ("sat", "on", "the")]:
        assert sum(10 ** model.score(history, word) for word in vocabulary) == pytest.approx(1)


def test_bigrams_are_kneser_and_neys() -> None:
    model = learn(["a b", "a c", "b c"], 2)
    # "c" ends bigrams after 2 words, "a" after 1 (the beginning), "b" after 2, the end after 2 (c, b): 7 bigrams.
    # Their discount: no unigram's count is 1 but a's, and 3 are 2: 1 / (1 + 2·3). 5 symbols with the unknown one.
    discount = 1 / 7
    uniform = 4 * discount / 7 / 5
    assert 10 ** model.score((), "c") == pytest.approx((2 - discount) / 7 + uniform)
    # After "a" come b and c, once each; of all bigrams, two come twice.
    once, twice = 5, 2
    assert len([ngram for ngram in model.weights if len(ngram) == 2]) == once + twice
    d = once / (once + 2 * twice)
    lower = (2 - discount) / 7 + uniform
    assert 10 ** model.score(("a",), "c") == pytest.approx((1 - d) / 2 + d * 2 / 2 * lower)


def test_n_grams_may_be_longer_than_every_sentence() -> None:
    model = learn(["a", "b", "a"], 5)
    assert sum(10 ** model.score((BEGIN,), word) for word in ("a", "b", END, UNKNOWN)) == pytest.approx(1)
    assert from_arpa(model.to_arpa()).score((BEGIN,), "a") == pytest.approx(model.score((BEGIN,), "a"), abs=1e-5)


def test_the_names_of_ends_are_no_words() -> None:
    model = learn(["a <s> b", "a </s> <unk> b"], 3)
    assert model.words == {"a", "b"}
    assert model.score(("a",), "b") == pytest.approx(learn(["a b", "a b"], 3).score(("a",), "b"))


def test_an_arpa_file_holds_the_model(tmp_path: Path) -> None:
    model = learn(SENTENCES, 3)
    again = from_arpa(model.to_arpa())
    assert again.order == 3
    for history, word in [((BEGIN,), "the"), (("the", "cat"), "ran"), (("a", "b"), "zebra"), (("sat", "on"), END)]:
        assert again.score(history, word) == pytest.approx(model.score(history, word), abs=1e-5)
    (tmp_path / "x.arpa").write_text(model.to_arpa())
    assert read_arpa(str(tmp_path / "x.arpa")).weights == again.weights


ARPA = """
\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-99 <s> -0.3
-0.7 a -0.2
-0.5 </s>
-1.5 <UNK>

\\2-grams:
-0.1 <s> a
-0.4 a </s>

\\end\\
"""


def test_an_arpa_file_is_read_as_others_write_it() -> None:
    model = from_arpa(ARPA)
    assert model.weights[("a",)] == Weight(-0.7, -0.2)
    assert model.score((BEGIN,), "a") == -0.1
    assert model.score(("a",), "a") == pytest.approx(-0.2 - 0.7)
    assert model.score((BEGIN,), "b") == pytest.approx(-0.3 - 1.5)
    assert model.words == {"a"}
    one, two = ARPA.index("\\1-grams"), ARPA.index("\\2-grams")
    turned = ARPA[:one] + ARPA[two : ARPA.index("\\end\\")] + ARPA[one:two] + "\\end\\\n"
    again = from_arpa(turned.replace("ngram 1=4", "ngram\t1 = 4"))
    assert (again.weights, again.order) == (model.weights, 2)
    open_vocabulary = from_arpa(ARPA.replace("<UNK>", "<unk> -0.9").replace("-0.4 a </s>", "-0.4 <unk> a"))
    assert open_vocabulary.score(("zebra",), "a") == -0.4
    assert open_vocabulary.score(("zebra",), "zebra") == pytest.approx(-0.9 - 1.5)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("hello", "it has no line"),
        (ARPA.replace("\\end\\", ""), "it has no line"),
        (ARPA.replace("-0.7 a -0.2", "x a -0.2"), "could not convert"),
        (ARPA.replace("-0.1 <s> a", "-0.1"), "holds no 2 words"),
        (ARPA.replace("-0.1 <s> a\n", ""), "promises 2 n-grams of 2 and holds 1"),
        (ARPA.replace("ngram 2=2", "ngram 2=4,000"), "'ngram 2=4,000' is no count"),
        (b"\xff\xfe\x00", "codec can't decode"),
    ],
)
def test_what_is_no_arpa_file_is_refused(content: str | bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "x.arpa"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=f"is no ARPA file.*{why}"):
        read_arpa(str(path))
    packed = gzip.compress(ARPA.encode() * 50)
    (tmp_path / "x.arpa.gz").write_bytes(packed[:20] + b"\xff\xff\xff" + packed[23:])
    with pytest.raises(UserError, match="is no ARPA file"):
        read_arpa(str(tmp_path / "x.arpa.gz"))
    with pytest.raises(UserError, match="there is no file"):
        read_arpa(str(tmp_path / "y.arpa"))


# ---------------------------------------------------------------- pieces


def test_pieces_write_what_they_spell() -> None:
    texts = ["the cat sat on the mat", "the dog sat"] * 3
    info = learn_symbols(texts, HeadSpec(symbols="bpe", max_symbols=24))
    assert info == learn_symbols(texts, HeadSpec(symbols="bpe", max_symbols=24))
    pieces = Pieces(info["pieces"])
    assert len(pieces.texts) <= 24
    assert " the" in pieces.texts
    for text in texts:
        assert write(pieces, pieces.spell(text)) == text
    assert write(pieces, pieces.spell("the zoo")) == "the oo"  # no piece has a z
    assert len(pieces.spell("the cat")) < len("the cat")
    with pytest.raises(UserError, match="characters enough for 13"):
        learn_symbols(texts, HeadSpec(symbols="bpe", max_symbols=12))


def test_a_search_by_pieces_knows_words() -> None:
    info = learn_symbols(["the cat", "the dog"], HeadSpec(symbols="bpe", max_symbols=40))
    pieces = Pieces(info["pieces"])
    numbers = pieces.spell("the cat")
    scores = np.full((len(numbers), len(pieces.texts)), -8.0)
    scores[np.arange(len(numbers)), numbers] = -0.01
    model = language.learn(["the cat", "the dog"], 2)
    assert write(pieces, BeamSearch(pieces, 8, model)(scores).symbols) == "the cat"


# ---------------------------------------------------------------- times


def test_words_stand_where_their_symbols_are() -> None:
    path = [0, 2, 2, 0, 3, 1, 0, 2, 0]
    scores = np.log(np.where(np.eye(4)[path] > 0, 0.97, 0.01)).astype(np.float32)
    found = best_path(scores)
    assert found == ([2, 3, 1, 2], [1, 4, 5, 7])
    assert align(scores, found, LETTERS, 0.1) == [Word("ab", 0.1, 0.5), Word("a", 0.7, 0.8)]
    assert align(scores, Found([], []), LETTERS, 0.1) == []


def test_words_of_pieces_stand_where_they_are() -> None:
    pieces = Pieces(learn_symbols(["ab b"], HeadSpec(symbols="bpe", max_symbols=40))["pieces"])
    numbers = pieces.spell("ab b")
    path = [0, *(number for each in numbers for number in (each, 0))]
    scores = np.log(np.where(np.eye(len(pieces.texts))[path] > 0, 0.9, 0.01)).astype(np.float32)
    assert [word.text for word in align(scores, best_path(scores), pieces, 0.1)] == ["ab", "b"]


@pytest.mark.parametrize("silent", [0, 60, 700])
@pytest.mark.parametrize("width", [1, 4])
def test_long_recordings_are_aligned_in_stretches(width: int, silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long nothing is said at first."""
    rng = np.random.default_rng(0)
    path = [0] * silent
    path += [int(s) for word in rng.integers(2, 4, (40, 3)) for s in (*np.stack([word, np.zeros(3)], 1).ravel(), 1, 0)]
    # A search adds up what may have been said in all of a silence: there blanks must be all but certain.
    sure, else_ = (0.9997, 0.0001) if silent else (0.97, 0.01)
    scores = np.log(np.where(np.eye(4)[path] > 0, sure, else_)).astype(np.float32)
    found = best_path(scores) if width == 1 else BeamSearch(LETTERS, width)(scores)
    assert found == best_path(scores)
    whole = align(scores, found, LETTERS, 0.1)
    monkeypatch.setattr(timing, "STRETCH", 25)
    assert align(scores, found, LETTERS, 0.1) == whole
    assert len(whole) == 40


def test_subtitles_are_short_and_end_at_pauses() -> None:
    words = [Word("one", 0.5, 0.8), Word("two", 0.9, 1.2), Word("later", 3.0, 3.5)]
    assert subtitles(words) == [Word("one two", 0.5, 1.2), Word("later", 3.0, 3.5)]
    assert to_srt(words).startswith("1\n00:00:00,500 --> 00:00:01,200\none two\n\n2\n00:00:03,000 --> ")
    assert to_vtt([Word("a&b", 3661.5, 3662)]) == "WEBVTT\n\n01:01:01.500 --> 01:01:02.000\na&amp;b\n\n"
    many = subtitles([Word("word", 0.3 * i, 0.3 * i + 0.2) for i in range(200)])
    assert all(each.end - each.start <= 7 for each in many)
    assert all(len(line) <= 42 for each in many for line in each.text.split("\n"))
    assert all(each.text.count("\n") <= 1 for each in many)
    assert " ".join(each.text for each in many).split() == ["word"] * 200


# ---------------------------------------------------------------- windows


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 900), st.integers(100, 200), st.data())
def test_windows_cover_everything_once(count: int, size: int, data: st.DataObject) -> None:
    shared = data.draw(st.integers(0, size // 2))
    embed = EmbedSpec(sample_rate_hz=1000, hop_ms=10, num_stacked=1)
    decode = DecodeSpec(window_seconds=size * 0.01, overlap_seconds=shared * 0.01)
    if count <= size:
        return
    scores = np.arange(count, dtype=np.float32)[:, None]
    windows = cut(count, size, shared)
    assert all(end - begin <= size for begin, end in windows)
    assert (stitch([scores[begin:end] for begin, end in windows], embed, decode) == scores).all()


def test_windows_give_halves_of_what_they_share() -> None:
    embed = EmbedSpec(sample_rate_hz=1000, hop_ms=10, num_stacked=1)
    decode = DecodeSpec(window_seconds=1.0, overlap_seconds=0.2)
    windows = cut(260, 100, 20)
    assert windows == [(0, 100), (80, 180), (160, 260)]
    stitched = stitch([np.full((end - begin, 1), float(i)) for i, (begin, end) in enumerate(windows)], embed, decode)
    assert np.bincount(stitched[:, 0].astype(int)).tolist() == [90, 80, 90]


@pytest.mark.parametrize("rate", [44100, 22050, 11025, 16000, 8000])
def test_windows_have_the_tokens_that_were_planned(rate: int, tmp_path: Path) -> None:
    settings = {"embed.hop_ms": 8, "decode.window_seconds": 3, "decode.overlap_seconds": 1}
    task = SpeechToText(open_registry().resolve("stt-micro", settings=settings).spec, {"alphabet": ["a"]})
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 11 * rate + 17), rate)
    windows = task.parts(task.inputs([str(tmp_path / "a.wav")])).dataset
    assert len(windows) > 3
    for i in range(len(windows)):
        item = windows[i]
        samples = task.transform(item, None)["samples"]
        assert task.embed.num_tokens(len(samples)) == item.columns["window"]
