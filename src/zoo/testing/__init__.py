"""The proving room: what any plugin can be held against, after scikit-learn's `check_estimator` (arXiv:1309.0238).

In a plugin's tests::

    @pytest.mark.parametrize("check", zoo.testing.checks("toy"), ids=str)
    def test_conformance(check):
        check()

Each task is checked on its smallest model with that model's default recipe, on the CPU and in fp32.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from typing import Literal
from unittest import SkipTest

from zoo import plugins
from zoo.errors import UserError
from zoo.testing import of_plugin, of_task
from zoo.testing.of_task import check_resume

__all__ = ["Check", "Result", "check_plugin", "check_resume", "checks", "run_checks"]

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Check:
    """One promise of one plugin; calling it raises an AssertionError when it is broken, SkipTest when it has no say.

    Args:
        purpose: Why it is asked for, in one line.
    """

    name: str
    purpose: str
    run: Callable[[], None]

    def __call__(self) -> None:
        self.run()

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a check; `reason` says why it failed or was skipped."""

    check: str
    status: Status
    reason: str
    purpose: str
    seconds: float


def checks(name: str) -> Sequence[Check]:
    """Every check of a plugin; of one that isn't loaded, the first alone.

    Raises:
        UserError: There is no such plugin.
    """
    row = plugins.row(name)
    found = [_made(check, row.name) for check in of_plugin.CHECKS]
    if row.status != "loaded":
        return found[:1]
    for task in row.tasks:
        suffix = f" ({task})" if len(row.tasks) > 1 else ""
        found += [_made(check, task, suffix) for check in of_task.CHECKS]
    return found


def run_checks(name: str) -> Iterator[Result]:
    """Run every check, whatever becomes of those before it."""
    for check in checks(name):
        started = time.perf_counter()
        status: Status = "passed"
        reason = ""
        try:
            with redirect_stdout(sys.stderr):
                check()
        except SkipTest as skipped:
            status, reason = "skipped", str(skipped)
        except (AssertionError, UserError) as broken:
            status, reason = "failed", str(broken)
        except Exception as error:
            status, reason = "failed", f"{type(error).__name__}: {error}"
        seconds = round(time.perf_counter() - started, 3)
        yield Result(check.name, status, " ".join(reason.split()), check.purpose, seconds)


def check_plugin(name: str) -> None:
    """Run every check of a plugin.

    Raises:
        AssertionError: Some fail; the message names all of them.
    """
    results = list(run_checks(name))
    failed = [f"  {result.check}: {result.reason}" for result in results if result.status == "failed"]
    if failed:
        raise AssertionError("\n".join([f"plugin '{name}' fails {len(failed)} of {len(results)} checks:", *failed]))


def _made(function: Callable[[str], None], subject: str, suffix: str = "") -> Check:
    name = function.__name__.replace("_", " ") + suffix
    return Check(name, (function.__doc__ or "").strip(), partial(function, subject))
