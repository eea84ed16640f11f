"""The page that a run ends with: figures with intervals, tables, pictures; as JSON, Markdown and in the terminal."""

from __future__ import annotations

import io
import json
import math
import platform
import subprocess
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contract import Table
from zoo.errors import UserError
from zoo.files import to_json, write_atomically
from zoo.metrics import Value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRAINING, VALIDATION = "#4c8bbf", "#d95f02"  # told apart by every kind of colour vision
LONGEST_TABLE = 30


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a model is worth on one split.

    Args:
        n: Items evaluated.
        seed: Of the run, and of the intervals' resamples.
        split: `train`, `validation`, `test`, or `all` of them together.
        primary: The metric that picked the checkpoint.
        loss: What training minimises, such as cross-entropy with its label smoothing; mean over the split.
        metrics: Figures with 95 % bootstrap intervals.
        commit: Of the zoo's own checkout, with ``+changes`` where its files differ from it; None when installed.
        checkpoint: ``{"step": ..., "weights": "trained" | "averaged", "chosen": "best" | "best left" |
            "newest"}``; the best is so by validation, and a run without validation has none.
        seconds: Wall time of the pass over the split.
        real_time_factor: Those over the time that the items last, where they are of time.
        skipped: Items that could not be read, and why.
        settings: What was set otherwise than in the run, by dotted key.
        figures: Drawings by file stem; not part of the JSON.
    """

    task: str
    model: str
    data: str
    split: str
    n: int
    seed: int
    primary: str
    loss: float
    metrics: Mapping[str, Value]
    tables: Mapping[str, Table]
    device: str
    commit: str | None
    date: str
    checkpoint: Mapping[str, Any]
    versions: Mapping[str, str]
    seconds: float
    items_per_second: float
    real_time_factor: float | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    notes: Sequence[str] = ()
    figures: Mapping[str, Callable[[Figure], None]] = field(default_factory=dict, repr=False, compare=False)

    def document(self) -> dict[str, Any]:
        """The report as JSON values."""
        facts = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "figures"}
        facts["metrics"] = {name: value._asdict() for name, value in self.metrics.items()}
        facts["tables"] = {name: asdict(table) for name, table in self.tables.items()}
        return facts

    def to_json(self) -> str:
        return to_json(self.document()) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The report that `to_json` wrote, without its figures.

        Raises:
            UserError: The text is no report.
        """
        try:
            facts = json.loads(text)
            facts["metrics"] = {
                name: Value(*(math.nan if value[key] is None else value[key] for key in Value._fields))
                for name, value in facts["metrics"].items()
            }
            facts["tables"] = {
                name: Table(tuple(table["columns"]), [tuple(row) for row in table["rows"]])
                for name, table in facts["tables"].items()
            }
            return cls(**facts)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"this is no report of this zoo: {error}\nwrite it anew with 'zoo eval RUN'") from error

    def write(self, folder: Path, stem: str = "report") -> Path:
        """Write ``STEM.md``, the pictures and, last, ``STEM.json``, whose path is returned.

        Raises:
            UserError: The folder cannot be written.
        """
        prefix = "" if stem == "report" else f"{stem}-"
        pictures = {name: f"{prefix}{name}.png" for name in self.figures}
        path = folder / f"{stem}.json"
        try:
            for name, draw in self.figures.items():
                write_atomically(folder / pictures[name], picture(draw))
            write_atomically(folder / f"{stem}.md", _encoded(self.to_markdown(pictures)))
            write_atomically(path, _encoded(self.to_json()))
        except OSError as error:
            raise UserError(
                f"cannot write the report into '{folder}': {error.strerror}\nmake room or make the folder writable"
            ) from error
        return path

    def to_markdown(self, pictures: Mapping[str, str]) -> str:
        """The report as a page.

        Args:
            pictures: File names by figure.
        """
        parts = [f"# {self.title}", "\n".join(f"- {name}: {value}" for name, value in self.facts())]
        rows = [(name, *map(_cell, value)) for name, value in self.metrics.items()]
        parts.append(_markdown_table(Table(("metric", "value", "95 % low", "95 % high"), rows)))
        parts += [f"![{name}]({file})" for name, file in pictures.items()]
        parts += [f"## {name.capitalize()}\n\n{_markdown_table(table)}" for name, table in self.tables.items()]
        if self.skipped:
            listed = "\n".join(f"- `{name}`: {why}" for name, why in self.skipped.items())
            parts.append(f"## Skipped items ({len(self.skipped)})\n\n{listed}")
        if self.notes:
            parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join(parts) + "\n"

    def print(self) -> None:
        """Print the report: metrics, short tables, what was skipped."""
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        console = Console(highlight=False)

        def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
            table = RichTable(title=title, title_justify="left", title_style="bold")
            for index, column in enumerate(columns):
                numeric = all(isinstance(row[index], int | float) for row in rows)
                table.add_column(column, justify="right" if numeric else "left")
            for row in rows:
                table.add_row(*(Text(_cell(value)) for value in row))
            console.print(table)

        metrics = [(name, v.value, f"{_cell(v.low)} – {_cell(v.high)}") for name, v in self.metrics.items()]
        show_table(self.title, ("metric", "value", "95 % interval"), metrics)
        for name, table in self.tables.items():
            if 0 < len(table.rows) <= LONGEST_TABLE:
                show_table(name, table.columns, table.rows)
        for name, value in self.facts():
            console.print(f"{name}: {value}", markup=False, soft_wrap=True)
        for name, why in self.skipped.items():
            console.print(f"skipped: {name}: {why}", markup=False, soft_wrap=True)
        for note in self.notes:
            console.print(f"note: {note}", markup=False, soft_wrap=True)

    @property
    def title(self) -> str:
        split = "all splits" if self.split == "all" else f"{self.split} split"
        return f"{self.model} on {self.data}, {split}, n = {self.n}"

    def facts(self) -> list[tuple[str, str]]:
        speed = (
            f"{self.items_per_second:,.0f} items/s"
            if self.items_per_second >= 10
            else f"{self.items_per_second:.2g} items/s"
        )
        if self.real_time_factor is not None:
            speed += f", real-time factor {self.real_time_factor:.3g}"
        chosen = {"best": "best by validation", "best left": "the best left", "newest": "the newest"}
        chosen = chosen[self.checkpoint["chosen"]]
        return [
            ("checkpoint", f"step {self.checkpoint['step']}, {chosen}, {self.checkpoint['weights']} weights"),
            *[("set for it", ", ".join(f"{key}={value}" for key, value in self.settings.items()))]
            * bool(self.settings),
            ("loss", f"{_cell(self.loss)} (as in training)"),
            ("seed", str(self.seed)),
            ("evaluated", f"{self.date}, {self.seconds:.1f} s, {speed} on {self.device}"),
            ("commit", self.commit or "none"),
            ("versions", ", ".join(f"{name} {number}" for name, number in self.versions.items())),
        ]


def commit() -> str | None:
    """The commit of the checkout that this package runs from; None where it is installed apart from one."""
    here = Path(__file__).resolve()
    # An installed copy may lie below some other project's checkout: only one that tracks this file is ours.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    return _git(here.parent, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def versions(distributions: Sequence[str]) -> dict[str, str]:
    """Of Python and of installed distributions."""
    return {"python": platform.python_version()} | {name: version(name) for name in distributions}


def picture(draw: Callable[[Figure], None]) -> bytes:
    """A drawing as PNG."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))  # no pyplot: no window, no global state
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+")  # the font lacks a character: its box is all there is to see
        draw(figure)
        figure.savefig(file, format="png", dpi=150)
    return file.getvalue()


def draw_curves(figure: Figure, rows: Sequence[Mapping[str, Any]], primary: str, best_step: int) -> None:
    """Loss, the primary metric and the learning rate by step, from the rows of metrics.jsonl."""
    figure.set_size_inches(7, 7)
    training = [row for row in rows if row["split"] == "train"]
    validation = [row for row in rows if row["split"] == "validation"]
    panels = figure.subplots(3, sharex=True, height_ratios=[3, 3, 1.2])
    for axes, name in zip(panels, ("loss", primary, "lr"), strict=True):
        axes.plot(*_series(training, name), color=TRAINING, linewidth=1.2, label="training")
        axes.plot(*_series(validation, name), "o-", color=VALIDATION, markersize=3, label="validation")
        axes.axvline(best_step, color="0.5", linestyle=":", linewidth=1)
        axes.set_ylabel("learning rate" if name == "lr" else name)
        axes.grid(axis="y", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False)
    panels[-1].set_xlabel("step")
    best = [row[primary] for row in validation if row["step"] == best_step and primary in row]
    reached = f", {primary} {best[-1]:.4f} in validation" if best else ""
    figure.suptitle(f"Training · checkpoint of step {best_step}{reached}", size=11)


def _series(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    present = [row for row in rows if name in row]
    return [row["step"] for row in present], [row[name] for row in present]


def _markdown_table(table: Table) -> str:
    lines = [list(map(str, table.columns)), ["---"] * len(table.columns)]
    lines += [[_cell(value).replace("|", "\\|").replace("\n", " ") for value in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _encoded(text: str) -> bytes:
    # File names need not be text; escaped like this they are JSON still.
    return text.encode("utf-8", "backslashreplace")
