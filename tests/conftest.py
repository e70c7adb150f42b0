"""What tests of several components share."""

from browsers import browser  # noqa: F401 - tests/tools; a fixture
