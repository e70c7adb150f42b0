"""How a client reaches its servers: what a caller may choose, as values."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from keraship.errors import BY_CODE, DataError

Headers = Mapping[str, str] | Callable[[], Mapping[str, str]]
Compression = Literal["gzip", "deflate"]


@dataclass(frozen=True)
class Retry:
    """When a call that failed is sent again: all of this API's calls may be, for none changes what another answers.

    attempts: how often it is sent at most. pause, longest: seconds between attempts; the first pause, doubled each
    time up to the longest, of which a random half is waited. There is none before a server that was not tried yet.
    codes: the status codes after which it is sent again; a connection that breaks is UNAVAILABLE.
    attempt_timeout: seconds that one attempt may take, so that a server that is silent costs not the whole timeout.
    Raises ValueError for values that make no sense.
    """

    attempts: int = 5
    pause: float = 0.05
    longest: float = 1.0
    codes: tuple[str, ...] = ("UNAVAILABLE",)
    attempt_timeout: float | None = None

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.pause < 0 or self.longest < 0:
            raise ValueError(f"expected at least 1 attempt and pauses of 0 or more seconds; got {self}")
        if unknown := set(self.codes) - set(BY_CODE):
            raise ValueError(f"expected codes out of {', '.join(BY_CODE)}; got {', '.join(sorted(unknown))}")
        if self.attempt_timeout is not None and not self.attempt_timeout > 0:
            raise ValueError(f"expected an attempt_timeout of more than 0 seconds; got {self.attempt_timeout}")

    def wait(self, round_: int) -> float:
        """Seconds to wait after the servers were tried `round_` times."""
        longest = min(self.longest, self.pause * 2.0 ** min(round_ - 1, 60))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311  # that clients do not come back all at once


NO_RETRY = Retry(attempts=1)


@dataclass(frozen=True)
class Tls:
    """An encrypted connection.

    ca: a PEM file of the authorities to trust, where they are not the system's. cert, key: PEM files of this client's
    own, for servers that ask for one (mTLS). server_name: the name in the server's certificate, where it is not the
    address's. Raises DataError for a file that cannot be read, ValueError for a cert without its key.
    """

    ca: str | Path | None = None
    cert: str | Path | None = None
    key: str | Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ValueError("expected a cert with its key, or neither; got one of them")
        for path in (self.ca, self.cert, self.key):
            read_pem(path)


def read_pem(path: str | Path | None) -> bytes | None:
    """A PEM file's bytes, None for no file; raises DataError where it cannot be read."""
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"expected a PEM file at {path}: {error.strerror or error}") from error


@dataclass(frozen=True)
class Options:
    """What a transport is told. headers: sent with every attempt; a callable is asked each time, as tokens expire."""

    tls: Tls | None = None
    headers: Headers | None = None
    compression: Compression | None = None
    interceptors: Sequence[Any] = ()

    def __post_init__(self) -> None:
        if self.compression not in (None, "gzip", "deflate"):
            raise ValueError(f"expected a compression of 'gzip', 'deflate' or None; got {self.compression!r}")

    def metadata(self, more: Sequence[tuple[str, str]] = ()) -> list[tuple[str, str]] | None:
        """The headers of one attempt; None without any."""
        if self.headers is None:
            return list(more) or None
        headers = self.headers() if callable(self.headers) else self.headers
        return [(name.lower(), value) for name, value in headers.items()] + list(more)


def checked_timeout(timeout: float) -> float:
    """`timeout`, if it is one; raises ValueError for others."""
    if not timeout > 0:
        raise ValueError(f"expected a timeout of more than 0 seconds (math.inf for no limit); got {timeout}")
    return timeout


def checked_hedge(hedge: float | None) -> float | None:
    """`hedge`, if it is one; raises ValueError for others."""
    if hedge is not None and not 0 <= hedge < math.inf:
        raise ValueError(f"expected hedge to be seconds, 0 or more; got {hedge}")
    return hedge
