"""Is an optional package here? If not: the command that installs it."""

from __future__ import annotations

from importlib.util import find_spec

from keraship.errors import MissingExtra


def require(extra: str, *modules: str) -> None:
    """Check that `modules` can be imported, without importing them.

    extra: the extra of this package that brings them, as in `pip install 'keraship[serve]'`.
    Raises MissingExtra, naming every module that is missing.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise missing_extra(extra, missing)


def missing_extra(extra: str, modules: list[str]) -> MissingExtra:
    """The error for modules that are not installed."""
    are = "is" if len(modules) == 1 else "are"
    return MissingExtra(f"this needs {', '.join(modules)}, which {are} not installed: pip install 'keraship[{extra}]'")
