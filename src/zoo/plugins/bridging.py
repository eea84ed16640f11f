"""Models that other libraries make, by ``PREFIX/NAME``: each is looked up when it is asked for, in no catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from zoo.contract import Bridge, Offered
from zoo.errors import UserError, unknown
from zoo.plugins.discovery import Found
from zoo.plugins.loading import loaded
from zoo.plugins.lookup import object_of, running
from zoo.specs import ModelSpec


@dataclass(frozen=True, slots=True)
class Bridging:
    """A bridge and whose it is."""

    bridge: Bridge
    found: Found

    @property
    def plugin(self) -> str:
        return self.found.name

    def offered(self) -> Mapping[str, Offered]:
        """What is known of its models, by their whole names."""
        names: Mapping[str, Offered] = self._call(self.bridge.offered)
        return {f"{self.bridge.prefix}/{name}": each for name, each in names.items()}

    def model(self, name: str) -> ModelSpec:
        """
        Raises:
            UserError: There is no such model, or it is not on this machine.
        """
        return self._call(self.bridge.model, name.removeprefix(f"{self.bridge.prefix}/"))

    def fetch(self, name: str) -> None:
        """Bring here what `model` must read.

        Raises:
            UserError: It cannot be fetched.
        """
        if self.bridge.fetch is not None:
            self._call(self.bridge.fetch, name.removeprefix(f"{self.bridge.prefix}/"))

    def refresh(self) -> str:
        """Make the index anew; what is in it now."""
        return self._call(self.bridge.refresh)

    def _call(self, reference: str, *arguments: str) -> Any:
        function = cast("Callable[..., Any]", object_of(reference, self.found))
        with running(self.found):
            return function(*arguments)


def bridges() -> list[Bridging]:
    """Every bridge of every plugin that is loaded."""
    return [Bridging(bridge, found) for found, manifest in loaded() for bridge in manifest.bridges]


def bridge_of(name: str) -> Bridging | None:
    """The bridge that a model's name belongs to; None where it is none of a bridge's."""
    prefix, slash, _ = name.partition("/")
    return next((each for each in bridges() if slash and each.bridge.prefix == prefix), None)


def refresh(plugin: str | None = None) -> list[str]:
    """Make the indices of all bridges anew, or of one plugin's; what each has now.

    Raises:
        UserError: There is no such bridge, or its library is not installed.
    """
    known = bridges()
    chosen = [each for each in known if plugin in (None, each.plugin, each.bridge.prefix)]
    if not chosen:
        names = [each.plugin for each in known]
        raise unknown("plugin with an index", plugin or "", names, "run 'zoo plugins list' to see what each brings")
    told: list[str] = []
    for each in chosen:
        try:
            told.append(f"{each.bridge.prefix}: {each.refresh()}")
        except UserError as error:
            if plugin is not None:
                raise
            told.append(f"{each.bridge.prefix}: not made anew: {error}")
    return told
