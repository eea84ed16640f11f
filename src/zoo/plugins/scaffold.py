"""`zoo plugins new`: a copy of a plugin that works, `zoo/template`, under another name."""

import re
from importlib.util import find_spec
from pathlib import Path

from zoo.errors import UserError
from zoo.plugins.lookup import rows, tasks

TEMPLATE = Path(__file__).parents[1] / "template"
PLACEHOLDER = "newplug"
RESERVED = ("zoo", "session", "third-party")
"""Names that stand for something else among those of plugins."""


def write_plugin(name: str, out: Path | None = None) -> Path:
    """Write an installable plugin; its package is ``zoo_NAME``.

    Args:
        out: The folder to write; one of the plugin's name when None.

    Raises:
        UserError: The name is no name or is taken, or the folder holds something already.
    """
    package = _package(name)
    folder = Path(name) if out is None else out
    renamed = {f"zoo_{PLACEHOLDER}": package, f"zoo-{PLACEHOLDER}": package.replace("_", "-"), PLACEHOLDER: name}
    found = re.compile("|".join(renamed))  # the longer ones come first

    def rename(text: str) -> str:
        return found.sub(lambda match: renamed[match[0]], text)

    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"'{folder}' is not an empty folder\nname a new or an empty one with --out")
        for source in sorted(TEMPLATE.rglob("*.*")):
            path = source.relative_to(TEMPLATE)
            if source.is_file() and not any(part[0] in "._" for part in path.parent.parts):  # no tool's cache
                target = folder / rename(path.as_posix())
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(rename(source.read_text(encoding="utf-8")), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write to '{folder}': {error.strerror}\nname another folder with --out") from error
    return folder


def _package(name: str) -> str:
    """The package of a plugin of this name."""
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name) or len(name) > 40:
        raise UserError(
            f"'{name}' is no plugin name\n"
            "use at most 40 small letters and digits, a letter first, with single - or _ between, such as bird-songs"
        )
    package = name.replace("-", "_")
    package = package if package.startswith("zoo_") else f"zoo_{package}"
    if name in RESERVED or name in {row.name for row in rows()} or name in tasks() or find_spec(package) is not None:
        raise UserError(
            f"the name '{name}' is taken by what is installed already\nrun 'zoo plugins list', choose another"
        )
    return package
