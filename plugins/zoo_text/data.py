"""Where texts come from: tables, folders of text files, Hugging Face `datasets`, WordNet, film reviews."""

import hashlib
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoo.contract import Dataset, Item, Source
from zoo.data.folder import SPLIT_FOLDERS, Files, read_class_folders, require_file, walk
from zoo.data.places import package_file, require
from zoo.data.table import SUFFIXES, Sheet, pick_column, read_sheet, read_text
from zoo.errors import UserError, counted
from zoo.files import user_path
from zoo.specs import DataSpec

TEXT_SUFFIXES = (".txt", ".text", ".md")
HUB = "hf:"
PLACES = "the path of a .csv, .tsv or .jsonl file, or of a folder of them or of class folders"
TEXT_COLUMNS = ("text", "sentence", "content", "review", "body", "document", "message", "description", "title")
LABEL_COLUMNS = ("label", "labels", "class", "category", "target", "sentiment", "tag", "tags", "topic", "intent", "y")
SPLIT_COLUMNS = ("split",)
LISTED = 10

# WordNet 3.0's lexicographer files of nouns, each with the offset of its first synset.
LEXICOGRAPHER_FILES = {
    1740: "Tops", 34479: "act", 1313093: "animal", 2665985: "artifact", 4615866: "attribute", 5216365: "body",
    5611302: "cognition", 6251781: "communication", 7283364: "event", 7479926: "feeling", 7555863: "food",
    7938773: "group", 8489497: "location", 9178727: "motive", 9186064: "object", 9483738: "person",
    11408559: "phenomenon", 11529603: "plant", 13240514: "possession", 13423405: "process", 13575869: "quantity",
    13780449: "relation", 13860793: "shape", 13920012: "state", 14580597: "substance", 15113229: "time",
}  # fmt: skip
NUM_LARGEST = 5
REVIEWS_SHA256 = "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"


class Texts:
    """Texts in memory; a target is a class index, or several where texts have several labels, or None.

    Args:
        problems: Why a text cannot be used, by position; reading it says so.
    """

    def __init__(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        targets: Sequence[Any],
        problems: Mapping[int, str] | None = None,
    ) -> None:
        self.ids, self.texts, self.targets = ids, texts, targets
        self.problems = problems or {}
        self.lengths: Sequence[float] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> Item:
        if index in self.problems:
            raise UserError(self.problems[index])
        return Item(self.ids[index], self.texts[index], self.targets[index])

    def fingerprint(self, index: int) -> str:
        return hashlib.blake2b(self.texts[index].strip().encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class Example(NamedTuple):
    """A text as a table has it; `labels` are the names of its classes."""

    id: str
    text: str
    labels: Sequence[str]


# ---------------------------------------------------------------- places


def load_place(data: DataSpec) -> Source:
    """A table, a folder of tables named for their splits, a folder of class folders, or a set of the Hub.

    Raises:
        UserError: It is none of them, or cannot be read.
    """
    if data.name.startswith(HUB):
        return load_hub(data)
    path = user_path(data.name)
    if path.is_file():
        return load_tables(data, {"train": path})
    tables = split_tables(path)
    return load_tables(data, tables) if tables else load_class_folders(data)


def split_tables(folder: Path) -> dict[str, Path]:
    """The tables of a folder that are named for a split, such as ``train.csv`` and ``test.csv``."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        split = SPLIT_FOLDERS.get(path.stem.lower())
        if split is not None and path.suffix.lower() in SUFFIXES:
            if split in found:
                raise UserError(f"'{folder}' has both '{found[split].name}' and '{path.name}'; keep one of them")
            found[split] = path
    if found and "train" not in found and len(found) > 1:
        raise UserError(f"'{folder}' has {' and '.join(sorted(found))}, but no table called train; add it")
    return found


def load_class_folders(data: DataSpec) -> Source:
    """A folder of class folders; each file is a text."""
    source = read_class_folders(user_path(data.name), TEXT_SUFFIXES)
    return Source({name: _read(part) for name, part in source.splits.items()}, source.info, source.notes)


def _read(part: Dataset) -> Texts:
    assert isinstance(part, Files)
    return read_files(part.paths, part.ids, part.targets)


def read_files(paths: Sequence[Path], ids: Sequence[str], targets: Sequence[Any]) -> Texts:
    """Files as texts; one that cannot be read says why when it is asked for."""
    texts: list[str] = []
    problems: dict[int, str] = {}
    for index, path in enumerate(paths):
        try:
            require_file(path, TEXT_SUFFIXES)
            texts.append(read_text(path))
        except UserError as error:
            texts.append(f"unreadable: {path}")
            problems[index] = str(error)
    return Texts(ids, texts, targets, problems)


def load_tables(data: DataSpec, tables: Mapping[str, Path]) -> Source:
    """Tables with a column of texts and one of labels; a column `split` of a table alone names each row's split."""
    sheets = {split: read_sheet(path) for split, path in tables.items()}
    first = next(iter(sheets.values()))
    if len(first.columns) == 1:
        raise UserError(
            f"'{first.path}' has a single column, '{first.columns[0]}'\n"
            "classification needs a column of texts and one of labels"
        )
    text, label = _columns(first, data)
    notes = [f"'{first.path.name}': texts are of column '{text}', labels of column '{label}'"]
    parts: dict[str, list[Example]] = defaultdict(list)
    unlabelled: list[str] = []
    for split, sheet in sheets.items():
        if missing := [name for name in (text, label) if name not in sheet.columns]:
            raise UserError(f"'{sheet.path}' has no column '{missing[0]}', which '{first.path.name}' has\nadd it")
        column = (
            next((name for name in sheet.columns if name.lower() in SPLIT_COLUMNS), None) if len(sheets) == 1 else None
        )
        for row in sheet.rows:
            place = f"{sheet.path.name}:{row.line}"
            part = split if column is None else _split_of(row.values.get(column), place)
            labels = labels_of(row.values.get(label), data.label_separator)
            if labels is None:
                unlabelled.append(place)
                continue
            parts[part].append(Example(place, text_of(row.values.get(text), place), labels))
    if unlabelled:
        told = f"{counted(len(unlabelled), 'row')} without a label: {_some(unlabelled)}"
        if data.on_error == "stop":
            raise UserError(f"{told}\nlabel or remove them, or pass --set data.on_error=skip to go on without them")
        notes.append(f"left out: {told}")
    return make_source(parts, several=_several(sheets, label, data), notes=notes)


def _columns(sheet: Sheet, data: DataSpec) -> tuple[str, str]:
    """Of texts and of labels: the one that is told is found first, for the other may be the only one left."""
    if data.text_column is None and not any(column.lower() in TEXT_COLUMNS for column in sheet.columns):
        label = pick_column(sheet, LABEL_COLUMNS, asked=data.label_column, key="data.label_column")
        return pick_column(sheet, TEXT_COLUMNS, key="data.text_column", taken=label), label
    text = pick_column(sheet, TEXT_COLUMNS, asked=data.text_column, key="data.text_column", taken=data.label_column)
    return text, pick_column(sheet, LABEL_COLUMNS, asked=data.label_column, key="data.label_column", taken=text)


def _split_of(value: Any, place: str) -> str:
    split = SPLIT_FOLDERS.get(str(value).strip().lower())
    if split is None:
        raise UserError(f"{place}: the split '{value}' is none of {', '.join(SPLIT_FOLDERS)}\nrename it")
    return split


def _several(sheets: Mapping[str, Sheet], label: str, data: DataSpec) -> bool:
    lists = any(isinstance(row.values.get(label), list) for sheet in sheets.values() for row in sheet.rows)
    return lists or data.label_separator is not None


def text_of(value: Any, place: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{place}: the text is {type(value).__name__}, not a string\nname another column of texts")
    return value


def labels_of(value: Any, separator: str | None) -> Sequence[str] | None:
    """The names of a cell's classes; None where it has none. Of several labels there may be none at all."""
    if isinstance(value, list):
        return [str(each).strip() for each in value]
    if separator is not None and value is not None:
        return [each.strip() for each in str(value).split(separator) if each.strip()]
    name = "" if value is None else str(value).strip()
    return [name] if name else None


def make_source(parts: Mapping[str, Sequence[Example]], *, several: bool, notes: Sequence[str] = ()) -> Source:
    """Texts with class indices; classes are sorted, as numbers where all are whole ones.

    Raises:
        UserError: There is no label at all.
    """
    names = Counter(name for rows in parts.values() for row in rows for name in row.labels)
    if not names:
        raise UserError("no text has a label\nlabel some")
    numeric = all(name.lstrip("-").isdecimal() for name in names)
    classes = sorted(names, key=int) if numeric else sorted(names)
    index = {name: i for i, name in enumerate(classes)}
    splits: dict[str, Dataset] = {}
    for split, rows in parts.items():
        targets = [sorted({index[name] for name in row.labels}) for row in rows]
        single = targets if several else [target[0] for target in targets]
        splits[split] = Texts([row.id for row in rows], [row.text for row in rows], single)
    info = {"classes": classes, "multi_label": several}
    return Source(splits, info, [*notes, *_alike(names)])


def _alike(names: Mapping[str, int]) -> list[str]:
    """Notes on labels that differ in nothing but case."""
    by_letters: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_letters[name.casefold()].append(name)
    groups = [", ".join(f"'{name}' ({names[name]})" for name in same) for same in by_letters.values() if len(same) > 1]
    return [f"labels that differ by case only are different classes: {'; '.join(groups[:LISTED])}"] if groups else []


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


# ---------------------------------------------------------------- Hugging Face datasets


def load_hub(data: DataSpec) -> Source:
    """``hf:OWNER/NAME``, with ``@REVISION`` and ``:CONFIGURATION`` where wanted, by the library `datasets`.

    Raises:
        UserError: The library is missing, or cannot load it.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"'{data.name}' needs Hugging Face datasets, which is not installed\npip install 'attention-zoo[datasets]'"
        ) from error
    address, _, revision = data.name.removeprefix(HUB).partition("@")
    name, _, configuration = address.partition(":")
    try:
        loaded: Any = datasets.load_dataset(name, configuration or None, revision=revision or None)
    except Exception as error:  # whatever a hub, a network or a file leads the library to
        raise UserError(f"cannot load '{data.name}': {error}\ncheck the name, the revision and the network") from error
    first = next(iter(loaded.values()))
    sheet = Sheet(Path(data.name), first.column_names, ())
    text, label = _columns(sheet, data)
    feature = first.features[label]
    inner = getattr(feature, "feature", feature)  # of a list, its elements
    of_class = getattr(inner, "int2str", str)
    several = inner is not feature or data.label_separator is not None
    parts: dict[str, list[Example]] = {}
    for split, rows in loaded.items():
        if (part := SPLIT_FOLDERS.get(split.lower())) is None:
            continue
        found = (_hub_labels(row[label], of_class, data.label_separator) for row in rows)
        pairs = [(i, row[text], names) for i, (row, names) in enumerate(zip(rows, found, strict=True))]
        parts[part] = [
            Example(f"{split}-{i}", text_of(each, data.name), names) for i, each, names in pairs if names is not None
        ]
    return make_source(parts, several=several, notes=[f"texts are of column '{text}', labels of column '{label}'"])


def _hub_labels(value: Any, of_class: Any, separator: str | None) -> Sequence[str] | None:
    if isinstance(value, list):
        return [of_class(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return None if value < 0 else [of_class(value)]  # the Hub's test splits may have -1 for what is kept secret
    return labels_of(value, separator)


# ---------------------------------------------------------------- datasets by name


def load_wordnet_definitions(data: DataSpec) -> Source:
    """21,844 English definitions of nouns, from timm's package data; a class is a WordNet lexicographer file.

    The five largest files are classes, the others are `other`.
    """
    path = package_file("timm", "data/_info/imagenet_synset_to_definition.txt")
    pairs = [line.split("\t", 1) for line in path.read_text(encoding="utf-8").splitlines() if line]
    kinds = [lexicographer_file(synset) for synset, _ in pairs]
    largest = {kind for kind, _ in Counter(kinds).most_common(NUM_LARGEST)}
    rows = [
        Example(synset, definition, [kind if kind in largest else "other"])
        for (synset, definition), kind in zip(pairs, kinds, strict=True)
    ]
    return make_source({"train": rows}, several=False)


def lexicographer_file(synset: str) -> str:
    """The file that a noun's synset, such as n00007846, stands in: files are contiguous ranges of offsets."""
    starts = sorted(LEXICOGRAPHER_FILES)
    return LEXICOGRAPHER_FILES[starts[bisect_right(starts, int(synset[1:])) - 1]]


def load_movie_reviews(data: DataSpec) -> Source:
    """10,605 sentences of film reviews; positive where the mean of the raters, from -4 to 4, is above 0."""
    name = "movieReviewSnippets_GroundTruth.txt"
    path = next((each for each in walk(require("movie-reviews")) if each.name == name), None)
    if path is None:
        raise UserError(f"'{require('movie-reviews')}' has no file '{name}'\nfetch the dataset again")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != REVIEWS_SHA256:
        raise UserError(f"'{path}' is damaged or another version\nfetch the dataset again")
    rows = [line.split("\t", 2) for line in content.decode().split("\n") if line]
    labelled = [
        Example(f"review-{number}", text, ["positive" if float(rating) > 0 else "negative"])
        for number, rating, text in rows
    ]
    return make_source({"train": labelled}, several=False)
