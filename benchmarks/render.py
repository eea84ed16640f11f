"""Write the tables of the documents from ``results/*.json``: ``python -m benchmarks.render [--check]``.

A table stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``, and nowhere is a figure typed by hand.
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.record import RESULTS

BASELINE_PICTURES = 10_000
"""Training pictures that a baseline sees at most."""

ROOT = RESULTS.parent.parent
README = ROOT / "README.md"
PAGES = (README, ROOT / "docs" / "parity.md")
Row = Mapping[str, Any]


def accuracy(rows: list[Row]) -> str:
    names = [
        "data",
        "model",
        "train / test items",
        "on the test split",
        "bar",
        "seeds",
        "time a run",
        f"baselines, same split (of pictures {BASELINE_PICTURES:,} at most)",
    ]
    names += ["hardware", "command"]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for row in rows:
        spread = f" ± {100 * row['std']:.2f}" if row["std"] is not None else ""
        verdict = "holds" if row["holds"] else "missed"
        beside = "".join(f", {name} {100 * value:.2f} %" for name, value in row.get("beside", {}).items())
        bars = row.get("evaluation_bars", {})
        beside += "".join(f"; {name} {100 * row['evaluations'][name]:.2f} %" for name in bars)
        of_others = "".join(f", {name} {100 * bar:.1f} %" for name, bar in bars.items())
        model = ", ".join(filter(None, [row["model"], row.get("variant"), *row.get("trained", [])]))
        baselines = ", ".join(f"{name} {100 * value:.1f} %" for name, value in row["baselines"].items())
        lines.append(
            f"| {_data(row)} | {model} | {row['n_train']:,} / {row['n_test']:,} "
            f"| {row['metric']} **{100 * row['mean']:.2f}**{spread} %{beside} "
            f"| {'≥' if row.get('higher_is_better', True) else '≤'} {100 * row['bar']:.1f} %{of_others}: {verdict} "
            f"| {', '.join(map(str, row['seeds']))} | {row['seconds'] / 60:.1f} min | {baselines} | {row['hardware']} "
            f"| `{row['command']}` |"
        )
    return "\n".join(lines)


def accuracy_further(rows: list[Row]) -> str:
    """The evaluations of each row that have no bar, such as those of a curve."""
    tables: list[str] = []
    for row in rows:
        bars = row.get("evaluation_bars", {})
        found = {name: value for name, value in row.get("evaluations", {}).items() if name not in bars}
        if found:
            names = " | ".join(found)
            values = " | ".join(f"{100 * value:.2f} %" for value in found.values())
            many = len(row["seeds"])
            seeds = f"mean of {many} seeds" if many > 1 else "1 seed"
            head = f"{_data(row)}, {row['metric']} of {row['model']}, {seeds}"
            tables.append(f"| {head} | {names} |\n|{'---|' * (len(found) + 1)}\n| | {values} |")
    return "\n\n".join(tables) or "not measured"


def _data(row: Row) -> str:
    return row["data"] if row["split"] == "test" else f"{row['data']}, {row['split']}"


def light_door(rows: list[Row]) -> str:
    lines = ["| command | share of `import torch` (user + system time) | bar | |", "|---|---|---|---|"]
    lines += [f"| `{row['work']}` | {row['ratio']:.3f} | ≤ {row['bar']} | {row['verdict']} |" for row in rows]
    return "\n".join(lines)


def reliability(rows: list[Row]) -> str:
    lines = ["| check | passed | a build made to fail is caught |", "|---|---|---|"]
    for row in rows:
        caught = "yes" if row["broken_build_caught"] else "no"
        lines.append(f"| {row['check']} | {row['passed']} of {row['tried']} | {caught} |")
    return "\n".join(lines)


def parity_summary(rows: list[Row]) -> str:
    """A line a library: how many variants of models, and the largest differences of all."""
    names = ["against", "variants in the core", "through a bridge", "hold"]
    names += ["outputs, gradients differ in float64 by at most", "in float32"]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for library in dict.fromkeys(row["reference"].partition(" ")[0] for row in rows):
        own = [row for row in rows if row["reference"].partition(" ")[0] == library]
        variants = {(row["reference"], row["family"]) for row in own}
        bridged = sum(family.startswith("bridge:") for _, family in variants)
        cells = [
            ", ".join(
                _share(max((row[key] for row in own if row["dtype"] == dtype and row[key] is not None), default=None))
                for key in ("output_difference", "gradient_difference")
            )
            for dtype in ("float64", "float32")
        ]
        lines.append(
            f"| {library} | {len(variants) - bridged} | {bridged} "
            f"| {'all' if all(row['holds'] for row in own) else 'not all'} "
            f"| {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def parity(rows: list[Row]) -> str:
    """A line a family; of several precisions, one column each."""
    families = dict.fromkeys((row["reference"], row["family"]) for row in rows)
    lines = [
        "| weights | against | tensors | outputs, gradients differ in float64 | in float32 |",
        "|---|---|---|---|---|",
    ]
    for reference, family in families:
        own = {row["dtype"]: row for row in rows if (row["reference"], row["family"]) == (reference, family)}
        cells = [
            f"{_share(each['output_difference'])}, {_share(each['gradient_difference'])}"
            f"{'' if each['holds'] else ': missed'}"
            if (each := own.get(dtype))
            else "not measured"
            for dtype in ("float64", "float32")
        ]
        lines.append(f"| {family} | {reference} | {next(iter(own.values()))['tensors']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "not compared" if value is None else f"{value:.0e}" if value else "0"


def transfer(rows: list[Row]) -> str:
    names = ["data, labels", "model", "pretrained by", "fine-tuned, on the test split", "from random numbers"]
    names += ["baselines, same labels", "seeds", "hardware", "command"]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for row in rows:
        labels = "all" if row["labels"] is None else f"{row['labels']:,}"
        controls = dict(row["controls"])
        alone = _percent(controls.pop("from random numbers"), row["from_random_numbers"]["std"])
        baselines = ", ".join(f"{name} {100 * value:.1f} %" for name, value in controls.items()) or "none"
        before = row["pretraining"]
        lines.append(
            f"| {row['data']}, {labels} | {row['model']} | `{before['command']}`, {before['seconds'] / 60:.1f} min "
            f"| {row['metric']} **{_percent(row['mean'], row['std'])}**: {'better' if row['pays'] else 'no better'} "
            f"| {alone} | {baselines} | {', '.join(map(str, row['seeds']))} | {row['hardware']} | `{row['command']}` |"
        )
    return "\n".join(lines)


def _percent(mean: float, std: float | None) -> str:
    return f"{100 * mean:.2f}{'' if std is None else f' ± {100 * std:.2f}'} %"


def gpu(rows: list[Row]) -> str:
    lines = ["| work | setting | images/s | waiting for data | memory | hardware |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row['work']} | {row['setting']} | {row['items_per_second']:,.0f} | {100 * row['data_wait']:.0f} % "
        f"| {row['memory_gib']:.1f} GiB | {row['hardware']} |"
        for row in rows
    ]
    return "\n".join(lines)


def first_run(rows: list[Row]) -> str:
    hardware = " and ".join(dict.fromkeys(row["hardware"] for row in rows))
    parts = ["\n".join([f"| command | took, on {hardware} |", "|---|---|", *map(_timed, rows)])]
    # What pip prints is a list of versions; it stands in the results.
    parts += [
        f"```\n{row['printed'].rstrip()}\n```" for row in rows if "pip install" not in row["work"] and row["printed"]
    ]
    return "\n\n".join(parts)


def _timed(row: Row) -> str:
    return f"| `{row['work']}` | {row['seconds']:.0f} s |"


TABLES: dict[str, tuple[str, Callable[[list[Row]], str]]] = {
    "first-run": ("first_run", first_run),
    "light-door": ("light_door", light_door),
    "accuracy": ("accuracy", accuracy),
    "accuracy-further": ("accuracy", accuracy_further),
    "gpu": ("gpu", gpu),
    "parity": ("parity", parity),
    "parity-summary": ("parity", parity_summary),
    "reliability": ("reliability", reliability),
    "transfer": ("transfer", transfer),
}
"""By its name in a page: the results that a table is made of, and how."""


def rendered(text: str) -> str:
    """A page with every table made anew; one without results says so."""
    for name, (results, render) in TABLES.items():
        path = RESULTS / f"{results}.json"
        table = render(json.loads(path.read_text())["rows"]) if path.exists() else "not measured"
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = pattern.sub(lambda match, table=table: f"{match[1]}{table}\n{match[2]}", text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.render", description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a page is out of date")
    options = parser.parse_args()
    before = {page: page.read_text(encoding="utf-8") for page in PAGES}
    after = {page: rendered(text) for page, text in before.items()}
    if options.check:
        raise SystemExit(int(before != after))
    for page, text in after.items():
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
