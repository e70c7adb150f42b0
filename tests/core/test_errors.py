"""The tree of errors."""

from __future__ import annotations

import grpc
import pytest

from keraship import errors
from keraship.extras import require


def test_every_status_of_grpc_has_its_class() -> None:
    """The canonical codes are grpc's, but OK, which is no error."""
    assert set(errors.BY_CODE) == {code.name for code in grpc.StatusCode} - {"OK"}
    assert all(errors.BY_CODE[code].code == code for code in errors.BY_CODE)


def test_the_drawn_tree_is_the_tree() -> None:
    """Every class that stands in the module's picture exists, below the one it hangs from."""
    assert issubclass(errors.InvalidInput, errors.InvalidArgument)
    assert issubclass(errors.InvalidInput, ValueError)
    assert issubclass(errors.VerificationError, errors.ExportError)
    assert issubclass(errors.VersionExists, errors.BundleError)
    assert issubclass(errors.MissingExtra, ImportError)
    classes = [item for item in vars(errors).values() if isinstance(item, type)]
    assert all(issubclass(item, errors.KerashipError) for item in classes)


def test_a_status_error_carries_code_details_and_attempts() -> None:
    """What a caller needs to decide whether to try again."""
    error = errors.Unavailable("gone", attempts=3)
    assert (error.code, error.details, error.attempts, str(error)) == ("UNAVAILABLE", "gone", 3, "gone")


def test_require_names_every_missing_module_and_the_command() -> None:
    """One look says what to type."""
    require("serve", "numpy")
    with pytest.raises(errors.MissingExtra, match=r"no_such_a, no_such_b, which are .* 'keraship\[serve\]'"):
        require("serve", "no_such_a", "numpy", "no_such_b")
