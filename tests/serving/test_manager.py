"""Models come and go by configuration: what is refused, what is waited for, and what stays as it was."""

# ruff: noqa: E501 - a case of a table is a line
from __future__ import annotations

import contextlib
import logging
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from keraship.errors import Aborted, DeadlineExceeded, FailedPrecondition, NotFound, StatusError, Unavailable, Unknown
from keraship.serving import All, Latest, ManagerOptions, ModelConfig, ModelManager, Repository, RepositoryOptions
from keraship.serving.labels import assign
from keraship.serving.manager import ModelsFailedError
from keraship.serving.servable import Servable, State
from keraship.wire.messages import ModelServerConfig


class Model:
    closed = False

    def close(self) -> None:
        self.closed = True


def load(name: str, version: int, path: Path) -> Servable:
    """A folder is a model, unless a file called `bad` is in it; with one called `slow` it waits for `gate` beside it."""
    gate = path.parent / "gate"
    if (path / "slow").exists():
        while not gate.exists():
            time.sleep(0.01)
    if (path / "bad").exists():
        raise FailedPrecondition("bad")
    return Servable(name, version, Model())  # type: ignore[arg-type]  # it is never run


QUICK = ManagerOptions(poll_seconds=0.02)
ONCE = RepositoryOptions(load_retries=0)


@contextmanager
def serving(
    models: list[ModelConfig] | None = None,
    options: ManagerOptions = QUICK,
    repository_options: RepositoryOptions = ONCE,
) -> Iterator[tuple[ModelManager, Repository]]:
    repository = Repository(load, repository_options)
    manager = ModelManager(repository, options)
    try:
        manager.start(models)
        yield manager, repository
    finally:
        assert manager.close()


def publish(base: Path, version: int, *marks: str) -> Path:
    folder = base / str(version)
    folder.mkdir(parents=True)
    for mark in marks:
        (folder / mark).touch()
    return folder


def entry(path: Path, more: str = "") -> str:
    return f'config {{ name: "{path.name}" base_path: "{path}" model_platform: "tensorflow" {more} }}'


def config(*entries: str) -> Any:
    return text_format.Parse(f"model_config_list {{ {' '.join(entries)} }}", ModelServerConfig())


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def states(repository: Repository, name: str) -> dict[int, State]:
    try:
        return {each.version: each.state for each in repository.status(name)}
    except NotFound:
        return {}


# Reloading.


def test_models_are_added_and_removed(tmp_path: Path) -> None:
    """What is new can be asked when the call returns; what is gone is unloaded, and stays listed as ended."""
    publish(tmp_path / "a", 1)
    publish(tmp_path / "b", 1)
    with serving([ModelConfig("a", tmp_path / "a")]) as (manager, repository):
        manager.reload(config(entry(tmp_path / "a"), entry(tmp_path / "b")))
        with repository.lease("b"), repository.lease("a"):
            pass
        manager.reload(config(entry(tmp_path / "b")))
        wait_for(lambda: states(repository, "a") == {1: State.END})
        manager.reload(config(entry(tmp_path / "a")))
        with repository.lease("a"):
            assert set(repository.statuses()) == {"a"}


def test_a_server_without_models_gets_them_later(tmp_path: Path) -> None:
    publish(tmp_path / "a", 1, "bad")
    publish(tmp_path / "b", 1)
    with serving(None) as (manager, repository):
        manager.reload(ModelServerConfig())
        with pytest.raises(Unknown) as caught:
            manager.reload(config(entry(tmp_path / "a"), entry(tmp_path / "b")))
        assert caught.value.details == (
            "1 servable(s) did not become available: {{name: a version: 1} due to error: FAILED_PRECONDITION: bad, }"
        )
        with repository.lease("b"):
            pass


def test_a_new_model_that_fails_is_named(tmp_path: Path) -> None:
    publish(tmp_path / "a", 1)
    publish(tmp_path / "b", 3, "bad")
    with serving([ModelConfig("a", tmp_path / "a")]) as (manager, repository):
        both = config(entry(tmp_path / "a"), entry(tmp_path / "b"))
        with pytest.raises(Unknown) as caught:
            manager.reload(both)
        assert caught.value.details == (
            "1 model(s) did not become available: {{name: b version: 3} due to error: FAILED_PRECONDITION: bad, }"
        )
        manager.reload(both)  # it is no new model any more
        assert states(repository, "b") == {3: State.END}


REFUSED = [
    ("", "FAILED_PRECONDITION", "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to another."),
    ("custom_model_config {}", "FAILED_PRECONDITION", "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to another."),
    ('model_config_list { config { name: "a" base_path: "/a" model_platform: "x" } }', "INVALID_ARGUMENT",
     "Illegal to change a model's platform. For model a platform was tensorflow and new platform requested is x"),
    ('model_config_list { config { name: "b" base_path: "/a" model_platform: "x" } }', "INVALID_ARGUMENT", "Model b requests unsupported platform x"),
    ('model_config_list { config { name: "b" base_path: "b" model_platform: "tensorflow" } }', "INVALID_ARGUMENT",
     "Expected model b to have an absolute path or URI; got base_path()=b"),
    ('model_config_list { config { name: "b" base_path: "/b" model_type: OTHER } }', "INVALID_ARGUMENT", "ModelServerConfig::model_type choice 2 not supported."),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "details"), REFUSED)
def test_configurations_that_are_refused_change_nothing(tmp_path: Path, text: str, code: str, details: str) -> None:
    publish(tmp_path, 1)
    with serving([ModelConfig("a", tmp_path)]) as (manager, repository):
        with pytest.raises(StatusError) as caught:
            manager.reload(text_format.Parse(text, ModelServerConfig()))
        assert (caught.value.code, caught.value.details) == (code, details)
        assert states(repository, "a") == {1: State.AVAILABLE}


def test_policies_and_base_paths_change(tmp_path: Path) -> None:
    """A version that is loaded stays as it is, wherever the base path moves; tensorflow_model_server knows only numbers."""
    for version in (1, 2):
        publish(tmp_path / "a", version)
    publish(tmp_path / "other", 2)
    publish(tmp_path / "other", 3)
    with serving([ModelConfig("a", tmp_path / "a")]) as (manager, repository):
        manager.reload(config(entry(tmp_path / "a", "model_version_policy { specific { versions: 1 } }")))
        wait_for(lambda: states(repository, "a") == {1: State.AVAILABLE, 2: State.END})
        manager.reload(config(entry(tmp_path / "a", "model_version_policy { all {} }")))
        wait_for(lambda: states(repository, "a") == {1: State.AVAILABLE, 2: State.AVAILABLE})
        elsewhere = entry(tmp_path / "other").replace('"other"', '"a"')
        manager.reload(config(elsewhere))
        wait_for(lambda: states(repository, "a") == {1: State.END, 2: State.END, 3: State.AVAILABLE})


def test_a_reload_waits_for_a_model_that_never_comes_until_somebody_ends_it(tmp_path: Path) -> None:
    """The deadline, a later configuration, or the server's end."""
    publish(tmp_path / "a", 1)
    with serving([ModelConfig("a", tmp_path / "a")]) as (manager, repository):
        both = config(entry(tmp_path / "a"), entry(tmp_path / "missing"))
        with pytest.raises(DeadlineExceeded, match="missing"):
            manager.reload(both, deadline=0.2)
        manager.reload(config(entry(tmp_path / "a")))
        errors: list[StatusError] = []

        def reload() -> None:
            try:
                manager.reload(both)
            except StatusError as error:
                errors.append(error)

        def take_away() -> None:
            manager.reload(config(entry(tmp_path / "a")))

        for end, kind in ((take_away, Aborted), (manager.end_waiting, Unavailable)):
            waiting = threading.Thread(target=reload)
            waiting.start()
            wait_for(lambda: "missing" in repository.statuses())
            end()
            waiting.join(10)
            assert isinstance(errors.pop(), kind)


# Labels.


def labelled(labels: dict[str, int]) -> list[ModelConfig]:
    return [ModelConfig("m", Path("/m"), labels=labels)]


def test_labels_point_to_versions_that_can_be_asked() -> None:
    """With the flag new ones may point anywhere, but none that moves."""

    def try_(labels: dict[str, int], old: dict[str, int], allow: bool) -> Any:
        return assign(
            labelled(labels), {"m": old}, is_available=lambda _, version: version < 3, allow_unavailable=allow
        )

    assert try_({"a": 1, "b": 2}, {"a": 2, "gone": 1}, False) == {"m": {"a": 1, "b": 2}}
    assert try_({"a": 3}, {"a": 3}, True) == {"m": {"a": 3}}
    assert try_({"a": 9}, {}, True) == {"m": {"a": 9}}
    for labels, old, allow in (({"a": 3}, {}, False), ({"a": 3}, {"a": 3}, False), ({"a": 3}, {"a": 1}, True)):
        with pytest.raises(FailedPrecondition) as caught:
            try_(labels, old, allow)
        assert caught.value.details == (
            "Request to assign label to version 3 of model m, which is not currently available for inference"
        )


def test_labels_are_looked_up(tmp_path: Path) -> None:
    """All of them change or none; one whose version is gone says so."""
    base = tmp_path / "m"
    for version in (1, 2):
        publish(base, version)
    both = "model_version_policy { all {} }"
    with serving([ModelConfig("m", base, All())]) as (manager, repository):
        wait_for(lambda: states(repository, "m") == {1: State.AVAILABLE, 2: State.AVAILABLE})
        manager.reload(
            config(entry(base, both + 'version_labels { key: "old" value: 1 } version_labels { key: "new" value: 2 }'))
        )
        for label, version in (("old", 1), ("new", 2)):
            with repository.lease("m", None, label) as servable:
                assert servable.version == version
        with pytest.raises(FailedPrecondition, match="version 3 of model m"):
            manager.reload(
                config(
                    entry(base, both + 'version_labels { key: "old" value: 2 } version_labels { key: "x" value: 3 }')
                )
            )
        with repository.lease("m", None, "old") as servable:
            assert servable.version == 1
        manager.reload(config(entry(base, 'version_labels { key: "old" value: 1 }')))
        wait_for(lambda: states(repository, "m")[1] is State.END)
        for label, words in (
            ("old", r"Servable not found for request: Specific\(m, 1\)"),
            ("new", "Unrecognized servable version label: new"),
        ):
            with pytest.raises(StatusError, match=words), repository.lease("m", None, label):
                pass


def test_a_label_of_a_version_that_is_not_there_fails_the_start(tmp_path: Path) -> None:
    """As at tensorflow_model_server even for the version that is about to be loaded; the flag lets it pass."""
    publish(tmp_path, 1)
    models = [ModelConfig("m", tmp_path, labels={"stable": 1})]
    with pytest.raises(FailedPrecondition, match="Request to assign label to version 1 of model m"), serving(models):
        pass
    allow = ManagerOptions(poll_seconds=0.02, allow_unavailable_labels=True)
    with serving(models, allow) as (_, repository), repository.lease("m", None, "stable") as servable:
        assert servable.version == 1


# Looking at folders, loading.


def test_a_missing_folder_holds_all_models_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The whole pass fails: other models' new versions are not seen either, until it is there again."""
    caplog.set_level(logging.INFO, "keraship.serving")
    for name in "ab":
        publish(tmp_path / name, 1)
    with serving([ModelConfig(name, tmp_path / name) for name in "ab"]) as (_, repository):
        (tmp_path / "a").rename(tmp_path / "away")
        missing = (
            f"FileSystemStoragePathSource encountered a filesystem access error: Could not find base path {tmp_path}/a "
            f"for servable a with error NOT_FOUND: {tmp_path}/a not found"
        )
        wait_for(lambda: missing in caplog.messages)
        publish(tmp_path / "b", 2)
        time.sleep(0.3)
        assert states(repository, "b") == {1: State.AVAILABLE}
        (tmp_path / "away").rename(tmp_path / "a")
        wait_for(lambda: states(repository, "b") == {2: State.AVAILABLE, 1: State.END})


@pytest.mark.parametrize("seconds", [0, -1])
def test_folders_are_looked_at_once_or_never(tmp_path: Path, seconds: int) -> None:
    publish(tmp_path, 1)
    options = ManagerOptions(poll_seconds=seconds, serve_what_loads=True)
    with serving([ModelConfig("m", tmp_path)], options) as (_, repository):
        expected = {1: State.AVAILABLE} if seconds == 0 else {}
        wait_for(lambda: states(repository, "m") == expected)
        publish(tmp_path, 2)
        time.sleep(0.3)
        assert states(repository, "m") == expected


def test_a_load_that_is_no_longer_wanted_gives_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In the pause before its next try; one that ends well is unloaded at once, and was never there to be asked."""
    caplog.set_level(logging.INFO, "keraship.serving")
    publish(tmp_path, 1)
    forever = RepositoryOptions(load_retries=1, retry_seconds=1000)
    with serving([ModelConfig("m", tmp_path, All())], repository_options=forever) as (_, repository):
        publish(tmp_path, 2, "bad")
        publish(tmp_path, 3, "slow")
        wait_for(lambda: "Loading servable: {name: m version: 2} failed: FAILED_PRECONDITION: bad" in caplog.messages)
        wait_for(lambda: states(repository, "m").get(3) is State.LOADING)
        for version in (2, 3):
            shutil.rmtree(tmp_path / str(version))
        wait_for(lambda: states(repository, "m").get(2) is State.END)
        (tmp_path / "gate").touch()
        wait_for(lambda: states(repository, "m") == {1: State.AVAILABLE, 2: State.END, 3: State.END})
        assert [str(each.error) for each in repository.status("m", 2)] == ["bad"]
    for line in (
        "Retrying of Loading servable: {name: m version: 2} was cancelled.",
        "Unloading just-loaded servable version {name: m version: 3}",
        "Done unloading servable version {name: m version: 3}",
    ):
        assert line in caplog.messages


def test_what_the_log_says_of_a_life(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "keraship.serving")
    publish(tmp_path, 1)
    with serving(
        [ModelConfig("m", tmp_path)], repository_options=RepositoryOptions(load_retries=1, retry_seconds=0)
    ) as (_, repository):
        publish(tmp_path, 2, "bad")
        wait_for(lambda: states(repository, "m").get(2) is State.END)
    lines = [line for line in caplog.messages if "version: " in line]
    assert lines == [
        "Loading servable version {name: m version: 1}",
        "Successfully loaded servable version {name: m version: 1}",
        "Loading servable version {name: m version: 2}",
        "Loading servable: {name: m version: 2} failed: FAILED_PRECONDITION: bad",
        "Retrying of Loading servable: {name: m version: 2} retry: 1",
        "Loading servable: {name: m version: 2} failed: FAILED_PRECONDITION: bad",
        "Retrying of Loading servable: {name: m version: 2} exhausted max_num_retries: 1",
        "Servable {name: m version: 2} cannot be loaded: FAILED_PRECONDITION: bad",
        "Unloading servable version {name: m version: 1}",
        "Done unloading servable version {name: m version: 1}",
    ]


def test_the_newest_version_stands_for_its_model(tmp_path: Path) -> None:
    """Where it failed for good the start has failed, whatever an older one would do."""
    publish(tmp_path, 1)
    publish(tmp_path, 2, "bad")
    with pytest.raises(ModelsFailedError, match="version: 2"), serving([ModelConfig("m", tmp_path, Latest(1))]):
        pass


@contextmanager
def asking(repository: Repository, names: str) -> Iterator[list[bool]]:
    """Four threads that borrow models; whether each of those was closed."""
    stop, closed = threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            for name in names:
                with contextlib.suppress(StatusError), repository.lease(name) as servable:
                    time.sleep(0.001)
                    closed.append(servable.backend.closed)  # type: ignore[attr-defined]  # it is a Model

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    try:
        yield closed
    finally:
        stop.set()
        for asker in askers:
            asker.join()


def served(repository: Repository, name: str) -> set[int]:
    return {version for version, state in states(repository, name).items() if state is not State.END}


def test_nobody_is_lent_a_model_that_is_closed(tmp_path: Path) -> None:
    """Versions and configurations come and go at random; in the end all is as the folders and the last one say."""
    dice, names = random.Random(7), "ab"  # noqa: S311 - the same numbers each time are what is wanted
    for name in names:
        publish(tmp_path / name, 1)

    def config_of(policy: str) -> Any:
        return config(*(entry(tmp_path / name, f"model_version_policy {{ {policy} }}") for name in names))

    models = [ModelConfig(name, tmp_path / name) for name in names]
    with serving(models) as (manager, repository), asking(repository, names) as closed:
        for _ in range(60):
            folder = tmp_path / dice.choice(names) / str(dice.randint(1, 5))
            shutil.rmtree(folder) if folder.exists() else publish(folder.parent, int(folder.name))
            if dice.random() < 0.2:
                manager.reload(
                    config_of(dice.choice(["latest { num_versions: 2 }", "all {}", "specific { versions: 1 }"]))
                )
            time.sleep(0.01)
        manager.reload(config_of("all {}"))
        there = {name: {int(path.name) for path in (tmp_path / name).iterdir()} for name in names}
        wait_for(lambda: {name: served(repository, name) for name in names} == there)
    assert closed
    assert not any(closed)


@pytest.mark.parametrize(("threads", "at_once"), [(1, 1), (2, 2), (0, 3)])
def test_as_many_load_at_once_as_there_are_threads(tmp_path: Path, threads: int, at_once: int) -> None:
    options = RepositoryOptions(load_threads=threads)
    with serving([], repository_options=options) as (manager, repository):
        for name in "abc":
            publish(tmp_path / name, 1, "slow")
        manager.begin_reload(config(*(entry(tmp_path / name) for name in "abc")))

        def loading() -> int:
            return sum(states(repository, name) == {1: State.LOADING} for name in "abc")

        wait_for(lambda: loading() == at_once)
        time.sleep(0.3)
        assert loading() == at_once
        for name in "abc":
            (tmp_path / name / "gate").touch()
        wait_for(lambda: all(states(repository, name) == {1: State.AVAILABLE} for name in "abc"))


def test_what_loads_is_served(tmp_path: Path) -> None:
    """One that is broken tells why while it is tried again, and so does one that is not there."""
    publish(tmp_path / "good", 1)
    publish(tmp_path / "bad", 1, "bad")
    (tmp_path / "empty").mkdir()
    models = [ModelConfig(name, tmp_path / name) for name in ("good", "bad", "empty", "missing")]
    options = ManagerOptions(poll_seconds=0.02, serve_what_loads=True)
    with serving(models, options, RepositoryOptions(retry_seconds=0.2, load_retries=1000, show_failures=True)) as (
        _,
        repository,
    ):
        with repository.lease("good"):
            pass
        (status,) = repository.status("bad")
        assert (status.state, str(status.error)) == (State.LOADING, "bad")
        with pytest.raises(NotFound) as caught:
            repository.status("missing")
        assert caught.value.details.startswith(
            "Could not find any versions of model missing: Could not find base path "
        )
        with pytest.raises(NotFound, match=r"Could not find any versions of model empty$"):
            repository.status("empty")
        (tmp_path / "bad" / "1" / "bad").unlink()
        publish(tmp_path / "missing", 1)
        wait_for(lambda: states(repository, "bad") == states(repository, "missing") == {1: State.AVAILABLE})
