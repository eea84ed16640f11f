"""What the catalogue and the README claim was measured: it stands in a file that a benchmark wrote."""

import json
from pathlib import Path

import pytest

from zoo.registry import open_registry

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
MEASURED = {name: each.measured for name, each in open_registry().recipes.items() if each.measured is not None}


@pytest.mark.parametrize("name", MEASURED)
def test_a_recipes_result_is_the_benchmarks(name: str) -> None:
    rows = json.loads((RESULTS / "accuracy.json").read_text())["rows"]
    own = [
        row
        for row in rows
        if f"{row['model']}/{row['recipe']}" == name and row["split"] == "test" and "variant" not in row
    ]
    (row,) = (row for row in own if row["device"] == "cpu")
    measured = MEASURED[name]
    assert measured is not None
    assert measured.model_dump() == {
        "metric": row["metric"],
        "value": round(row["mean"], 4),
        "std": None if row["std"] is None else round(row["std"], 4),
        "higher_is_better": row.get("higher_is_better", True),
        "seeds": len(row["seeds"]),
        "seconds": round(row["seconds"]),
        "hardware": row["hardware"],
    }


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_results_say_how_to_make_them_again(path: Path) -> None:
    document = json.loads(path.read_text())
    assert document.keys() == {"command", "commit", "date", "hardware", "versions", "rows"}
    assert document["rows"]
