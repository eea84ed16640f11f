"""Where texts come from: tables, folders of text files, Hugging Face `datasets`, WordNet, film reviews."""

import hashlib
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoo.contract import Dataset, Item, Source
from zoo.data.folder import SPLIT_FOLDERS, Files, by_split, read_class_folders, require_file, split_named, walk
from zoo.data.places import package_file, require
from zoo.data.table import SUFFIXES, Sheet, find_column, pick_column, read_sheet, read_text
from zoo.errors import UserError
from zoo.files import user_path
from zoo.specs import DataSpec

TEXT_SUFFIXES = (".txt", ".text", ".md")
HUB = "hf:"
PLACES = "the path of a .csv, .tsv or .jsonl file, or of a folder of them or of class folders"
TEXT_COLUMNS = ("text", "sentence", "content", "review", "body", "document", "message", "description", "title")
LABEL_COLUMNS = ("label", "labels", "class", "category", "target", "sentiment", "tag", "tags", "topic", "intent", "y")
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
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return by_split(folder, [path for path in files if path.is_file() and path.suffix.lower() in SUFFIXES])


def load_class_folders(data: DataSpec) -> Source:
    """A folder of class folders; each file is a text."""
    source = read_class_folders(user_path(data.name), TEXT_SUFFIXES)
    parts: dict[str, list[Example]] = {}
    problems = dict(source.problems)
    for split, part in source.splits.items():
        assert isinstance(part, Files)
        parts[split] = []
        for name, path, target in zip(part.ids, part.paths, part.targets, strict=True):
            try:
                text = read_file(path)
            except UserError as error:
                problems[name] = str(error)
                continue
            parts[split].append(Example(name, text, [source.info["classes"][target]]))
    return make_source(parts, several=False, notes=source.notes, problems=problems)


def read_file(path: Path) -> str:
    """A file as one text.

    Raises:
        UserError: It is missing, empty, or no text in UTF-8.
    """
    require_file(path, TEXT_SUFFIXES)
    return read_text(path)


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
    collected = Collected(data.label_separator)
    for split, sheet in sheets.items():
        if missing := [name for name in (text, label) if name not in sheet.columns]:
            raise UserError(f"'{sheet.path}' has no column '{missing[0]}', which '{first.path.name}' has\nadd it")
        column = find_column(sheet, ("split",)) if len(sheets) == 1 else None
        for row in sheet.rows:
            place = f"{sheet.path.name}:{row.line}"
            part = split if column is None else split_named(row.values.get(column), place)
            collected.add(part, place, row.values.get(text), row.values.get(label))
    note = f"'{first.path.name}': texts are of column '{text}', labels of column '{label}'"
    return collected.source([note])


def _columns(sheet: Sheet, data: DataSpec) -> tuple[str, str]:
    """Of texts and of labels: the one that is told is found first, for the other may be the only one left."""
    if data.text_column is None and find_column(sheet, TEXT_COLUMNS) is None:
        label = pick_column(sheet, LABEL_COLUMNS, asked=data.label_column, key="data.label_column")
        return pick_column(sheet, TEXT_COLUMNS, key="data.text_column", taken=[label]), label
    text = pick_column(sheet, TEXT_COLUMNS, asked=data.text_column, key="data.text_column", taken=[data.label_column])
    label = pick_column(sheet, LABEL_COLUMNS, asked=data.label_column, key="data.label_column", taken=[text])
    if text == label:
        raise UserError(f"'{text}' cannot be both the texts and the labels\nname another with --set data.label_column")
    return text, label


class Collected:
    """Rows of texts and labels as they come, and what is wrong with some of them.

    Args:
        separator: Between the labels of a cell that holds several; a list of labels needs none.
    """

    def __init__(self, separator: str | None) -> None:
        self.separator, self.several = separator, separator is not None
        self.parts: dict[str, list[Example]] = defaultdict(list)
        self.problems: dict[str, str] = {}

    def add(self, split: str, place: str, text: Any, label: Any) -> None:
        self.several = self.several or isinstance(label, list)
        try:
            self.parts[split].append(Example(place, text_of(text), labels_of(label, self.separator)))
        except UserError as error:
            self.problems[place] = str(error)

    def source(self, notes: Sequence[str]) -> Source:
        return make_source(self.parts, several=self.several, notes=notes, problems=self.problems)


def text_of(value: Any) -> str:
    """
    Raises:
        UserError: It is no text, or an empty one.
    """
    if value is not None and not isinstance(value, str):
        raise UserError(f"the text is no string, but {type(value).__name__}")
    text = value or ""
    if not text.strip():
        raise UserError("the text is empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError("the text is no Unicode: it holds half a character, or bytes that are no UTF-8") from error
    return text


def labels_of(value: Any, separator: str | None) -> Sequence[str]:
    """The names of a cell's classes: of several there may be none, else it is one.

    Raises:
        UserError: There is no label, or one that is no name.
    """
    if isinstance(value, list):
        cells: Sequence[Any] = value
    elif separator is not None:
        cells = [] if value is None else str(value).split(separator)
    else:
        cells = [value]
    if any(isinstance(cell, list | dict) for cell in cells):
        raise UserError("a label is no name, but a list or an object")
    names = [name for cell in cells if cell is not None and (name := str(cell).strip())]
    if not names and separator is None and not isinstance(value, list):
        raise UserError("it has no label")
    return names


def make_source(
    parts: Mapping[str, Sequence[Example]],
    *,
    several: bool,
    notes: Sequence[str] = (),
    problems: Mapping[str, str] | None = None,
) -> Source:
    """Texts with class indices; classes are sorted, as numbers where all are whole ones.

    Raises:
        UserError: There is no label at all.
    """
    names = Counter(name for rows in parts.values() for row in rows for name in row.labels)
    if not names:
        why = next(iter((problems or {}).values()), "no text has a label")
        raise UserError(f"there is no text with a label: {why}\nlabel some")
    numeric = all(re.fullmatch(r"-?\d+", name) for name in names)
    classes = sorted(names, key=int) if numeric else sorted(names)
    index = {name: i for i, name in enumerate(classes)}
    splits: dict[str, Dataset] = {}
    for split, rows in parts.items():
        targets = [sorted({index[name] for name in row.labels}) for row in rows]
        single = targets if several else [target[0] for target in targets]
        splits[split] = Texts([row.id for row in rows], [row.text for row in rows], single)
    info = {"classes": classes, "multi_label": several}
    return Source(splits, info, [*notes, *_alike(names)], problems or {})


def _alike(names: Mapping[str, int]) -> list[str]:
    """Notes on labels that differ in nothing but case."""
    by_letters: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_letters[name.casefold()].append(name)
    groups = [", ".join(f"'{name}' ({names[name]})" for name in same) for same in by_letters.values() if len(same) > 1]
    return [f"labels that differ by case only are different classes: {'; '.join(groups[:LISTED])}"] if groups else []


# ---------------------------------------------------------------- Hugging Face datasets


def open_hub(name: str) -> tuple[Mapping[str, Any], list[str]]:
    """A set of the Hub, ``hf:OWNER/NAME``, with ``@REVISION`` and ``:CONFIGURATION`` where wanted, by the library
    `datasets`: each split by our name for it, and a note on those that have none.

    Raises:
        UserError: The library is missing, or cannot load it.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"'{name}' needs Hugging Face datasets, which is not installed\npip install 'attention-zoo[datasets]'"
        ) from error
    address, _, revision = name.removeprefix(HUB).partition("@")
    owner, _, configuration = address.partition(":")
    try:
        loaded: Any = datasets.load_dataset(owner, configuration or None, revision=revision or None)
    except Exception as error:  # whatever a hub, a network or a file leads the library to
        raise UserError(f"cannot load '{name}': {error}\ncheck the name, the revision and the network") from error
    unused = [split for split in loaded if split.lower() not in SPLIT_FOLDERS]
    splits = {SPLIT_FOLDERS[split.lower()]: part for split, part in loaded.items() if split not in unused}
    return splits, [f"splits of other names are left out: {', '.join(unused)}"] * bool(unused)


def load_hub(data: DataSpec) -> Source:
    """A set of the Hub with labels.

    Raises:
        UserError: It cannot be loaded, or has no texts or labels.
    """
    loaded, left_out = open_hub(data.name)
    first = next(iter(loaded.values()))
    text, label = _columns(Sheet(Path(data.name), first.column_names, ()), data)
    feature = first.features[label]
    name_of = getattr(getattr(feature, "feature", feature), "int2str", str)  # of a list, that of its elements
    collected = Collected(data.label_separator)
    for split, part in loaded.items():
        for i, row in enumerate(part):
            collected.add(split, f"{split}-{i}", row[text], _hub_label(row[label], name_of))
    notes = [f"texts are of column '{text}', labels of column '{label}'", *left_out]
    return collected.source(notes)


def _hub_label(value: Any, name_of: Callable[[Any], str]) -> Any:
    """Class indices by their names; the Hub's test splits may have -1 for what is kept secret."""
    if isinstance(value, list):
        return [_hub_label(each, name_of) for each in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return None if value < 0 and name_of is not str else name_of(value)
    return value


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
    rows = [line.split("\t", 2) for line in content.decode().replace("\r\n", "\n").split("\n") if line]
    labelled = [
        Example(f"review-{number}", text, ["positive" if float(rating) > 0 else "negative"])
        for number, rating, text in rows
    ]
    return make_source({"train": labelled}, several=False)
