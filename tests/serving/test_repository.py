"""Versions come and go as the folders do, and nobody who asks meanwhile notices."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from keraship.errors import FailedPrecondition, ServerError, StatusError
from keraship.serving import (
    All,
    Latest,
    ManagerOptions,
    ModelConfig,
    ModelManager,
    Repository,
    RepositoryOptions,
    Specific,
)
from keraship.serving.servable import Servable, State


class Model:
    """A backend that only can be closed."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


def load(name: str, version: int, path: Path) -> Servable:
    """A folder with a file called `ok` in it is a model."""
    if not (path / "ok").exists():
        raise FailedPrecondition("not ok")
    return Servable(name, version, Model())  # type: ignore[arg-type]  # it is never run


QUICK = RepositoryOptions(load_retries=0, retry_seconds=0.05)
POLL_SECONDS = 0.02


@contextmanager
def running(base: Path, *, policy: object = None, options: RepositoryOptions = QUICK) -> Iterator[Repository]:
    config = ModelConfig("m", base, policy or Latest())  # type: ignore[arg-type]  # one of the policies
    repository = Repository(load, options)
    manager = ModelManager(repository, ManagerOptions(poll_seconds=POLL_SECONDS))
    try:
        manager.start([config])
        yield repository
    finally:
        assert manager.close()


def publish(base: Path, version: int | str, *, ok: bool = True) -> Path:
    folder = base / str(version)
    folder.mkdir(parents=True)
    if ok:
        (folder / "ok").touch()
    return folder


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def states(repository: Repository) -> dict[int, State]:
    return {each.version: each.state for each in repository.status("m")}


def test_the_latest_version_is_served(tmp_path: Path) -> None:
    """Names that are no numbers are passed over; 007 is 7."""
    for name in ("1", "007", "x", "1.5", ".staging-8"):
        publish(tmp_path, name)
    with running(tmp_path) as repository, repository.lease("m") as servable:
        assert servable.version == 7
        assert states(repository) == {7: State.AVAILABLE}


@pytest.mark.parametrize(
    ("policy", "served"),
    [(Latest(0), {4}), (Latest(2), {3, 4}), (All(), {1, 3, 4}), (Specific(frozenset({1, 9})), {1})],
)
def test_policies_choose_versions(tmp_path: Path, policy: object, served: set[int]) -> None:
    for version in (1, 3, 4):
        publish(tmp_path, version)
    with running(tmp_path, policy=policy) as repository:
        wait_for(lambda: states(repository) == dict.fromkeys(served, State.AVAILABLE))


def test_a_new_version_is_loaded_before_the_old_one_goes(tmp_path: Path) -> None:
    """At no moment is there nothing to ask, and the old version stays listed as ended."""
    publish(tmp_path, 1)
    with running(tmp_path) as repository:
        publish(tmp_path, 2)
        while states(repository) != {2: State.AVAILABLE, 1: State.END}:
            with repository.lease("m") as servable:
                assert servable.version in (1, 2)
        with (
            pytest.raises(StatusError, match=r"Servable not found for request: Specific\(m, 1\)"),
            repository.lease("m", 1),
        ):
            pass


def test_a_request_under_way_keeps_its_version(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    with running(tmp_path) as repository:
        with repository.lease("m") as old:
            publish(tmp_path, 2)
            wait_for(lambda: states(repository) == {2: State.AVAILABLE, 1: State.UNLOADING})
            assert not old.backend.closed  # type: ignore[attr-defined]  # it is a Model
        wait_for(lambda: states(repository)[1] is State.END)
        assert old.backend.closed  # type: ignore[attr-defined]  # it is a Model


def test_a_half_written_version_is_tried_again(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    options = RepositoryOptions(load_retries=100, retry_seconds=0.02)
    with running(tmp_path, options=options) as repository:
        folder = publish(tmp_path, 2, ok=False)
        wait_for(lambda: states(repository).get(2) is State.LOADING)
        with repository.lease("m") as servable:
            assert servable.version == 1
        (folder / "ok").touch()
        wait_for(lambda: states(repository) == {2: State.AVAILABLE, 1: State.END})


def test_a_broken_version_ends_with_its_error_and_the_old_one_stays(tmp_path: Path) -> None:
    """It is tried again only after it went away and came back."""
    publish(tmp_path, 1)
    with running(tmp_path) as repository:
        folder = publish(tmp_path, 2, ok=False)
        wait_for(lambda: states(repository) == {2: State.END, 1: State.AVAILABLE})
        (error,) = [each.error for each in repository.status("m", 2)]
        assert isinstance(error, FailedPrecondition)
        (folder / "ok").touch()
        time.sleep(0.3)
        assert states(repository)[2] is State.END
        folder.rename(tmp_path / "away")
        time.sleep(0.3)
        (tmp_path / "away").rename(folder)
        wait_for(lambda: states(repository) == {2: State.AVAILABLE, 1: State.END})


def test_an_empty_base_path_unloads_and_a_missing_one_does_not(tmp_path: Path) -> None:
    base = tmp_path / "m"
    publish(base, 1)
    with running(base) as repository:
        base.rename(tmp_path / "away")
        time.sleep(0.3)
        assert states(repository) == {1: State.AVAILABLE}
        base.mkdir()
        wait_for(lambda: states(repository) == {1: State.END})
        with pytest.raises(StatusError, match=r"Servable not found for request: Latest\(m\)"), repository.lease("m"):
            pass


def test_a_start_whose_model_fails_says_why(tmp_path: Path) -> None:
    publish(tmp_path, 5, ok=False)
    with pytest.raises(ServerError) as caught, running(tmp_path):
        pass
    assert str(caught.value) == (
        "1 servable(s) did not become available: {{name: m version: 5} due to error: FAILED_PRECONDITION: not ok, }"
    )


def test_closing_waits_for_requests(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    with running(tmp_path) as repository:
        lent, give_back = threading.Event(), threading.Event()

        def ask() -> None:
            with repository.lease("m"):
                lent.set()
                give_back.wait()

        asker = threading.Thread(target=ask)
        asker.start()
        lent.wait()
        closer = threading.Thread(target=repository.close)
        closer.start()
        closer.join(0.3)
        assert closer.is_alive()
        give_back.set()
        closer.join()
        asker.join()
        assert states(repository) == {1: State.END}


LOOKUPS = [
    ("", None, None, "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    ("n", None, None, "NOT_FOUND", "Servable not found for request: Latest(n)"),
    ("m", 9, None, "NOT_FOUND", "Servable not found for request: Specific(m, 9)"),
    ("m", None, "stable", "INVALID_ARGUMENT", "Unrecognized servable version label: stable"),
]


@pytest.mark.parametrize(("name", "version", "label", "code", "details"), LOOKUPS)
def test_what_is_not_there_is_said_in_the_servers_words(
    tmp_path: Path, name: str, version: int | None, label: str | None, code: str, details: str
) -> None:
    publish(tmp_path, 1)
    with running(tmp_path) as repository, pytest.raises(StatusError) as caught, repository.lease(name, version, label):
        pass
    assert (caught.value.code, caught.value.details) == (code, details)


def test_what_was_never_started_can_be_closed() -> None:
    """As happens where a server's `with` block fails before its start."""
    assert ModelManager(Repository(lambda *_: pytest.fail("loaded"))).close()
