"""What a user did wrong, said once: what, where, what was allowed, the remedy."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class UserError(ValueError):
    """The input was wrong, not the program. The command line prints the message alone and exits with 2."""


class RunWarning(UserWarning):
    """A run is not whole, and what is left of it was used."""


def counted(number: int, thing: str) -> str:
    """``1 item``, ``2,000 items``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def listing(words: Sequence[str], most: int, separator: str = ", ") -> str:
    """``a, b, c and 5 more``."""
    more = len(words) - most
    return separator.join(words[:most]) + (f" and {more:,} more" if more > 0 else "")


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """A clause such as ``; did you mean 'vit-small'?``, empty when nothing comes near."""
    near = get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def unknown(kind: str, name: str, allowed: Iterable[str], remedy: str) -> UserError:
    """The one wording for a name that is not there: ``unknown model 'vit-smal'; did you mean 'vit-small'? ...``."""
    options = sorted(allowed)
    listed = f"; there are: {', '.join(options)}" if 0 < len(options) <= 12 else ""
    return UserError(f"unknown {kind} '{name}'{did_you_mean(name, options) or listed}\n{remedy}")
