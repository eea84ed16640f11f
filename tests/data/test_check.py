"""What is wrong with a dataset, seen from fingerprints and labels."""

from zoo.contract import Source
from zoo.data.check import check
from zoo.data.folder import Files


def source(**splits: dict[str, tuple[str, int]]) -> Source:
    """Splits of items: id → (content, class)."""

    class Fake(Files):
        def __init__(self, items: dict[str, tuple[str, int]]) -> None:
            super().__init__([], list(items), [target for _, target in items.values()])
            self.contents = [content for content, _ in items.values()]

        def __len__(self) -> int:
            return len(self.ids)

        def fingerprint(self, index: int) -> str:
            return self.contents[index]

    return Source({name: Fake(items) for name, items in splits.items()}, {"classes": ["cat", "dog"]})


def many(prefix: str, count: int, target: int) -> dict[str, tuple[str, int]]:
    return {f"{prefix}{i}": (f"{prefix}{i}", target) for i in range(count)}


def test_good_data_has_no_findings() -> None:
    assert check(source(train=many("a", 20, 0) | many("b", 20, 1), test=many("c", 10, 0) | many("d", 10, 1))) == []


def test_equal_items_are_told_by_where_they_are() -> None:
    train = many("a", 20, 0) | many("b", 20, 1) | {"twice": ("a0", 0), "wrong": ("a1", 1)}
    found = check(source(train=train, test=many("c", 10, 0) | many("d", 10, 1) | {"seen": ("b3", 1)}))
    assert [(f.severity, f.kind, list(f.items)) for f in found] == [
        ("error", "mislabelled", ["a1", "wrong"]),
        ("warning", "leak", ["b3", "seen"]),
        ("warning", "duplicate", ["twice"]),
    ]
    assert "(cat, dog)" in found[0].message


def test_broken_items_are_no_duplicates_of_each_other() -> None:
    train = many("a", 20, 0) | many("b", 20, 1) | {"x": ("", 0), "y": ("", 1)}
    assert check(source(train=train), unreadable={"x", "y"}) == []


def test_unequal_and_tiny_and_single_classes() -> None:
    kinds = [(f.kind, f.severity) for f in check(source(train=many("a", 90, 0) | many("b", 9, 1)))]
    assert kinds == [("tiny class", "warning"), ("imbalance", "warning")]
    assert [f.kind for f in check(source(train=many("a", 20, 0)))] == ["single class"]
