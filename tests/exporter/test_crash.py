"""Whatever ends an export, a repository holds whole versions only, and nothing of it lives on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from keraship import bundle
from keraship.errors import BundleError

pytestmark = pytest.mark.timeout(900)  # some tests hold many exports

NOBODY = 65534

# TensorFlow is imported once; each export has a fork of that process.
PROGRAM = """
    import json, os, signal, sys, time
    from pathlib import Path
    from keraship import bundle
    from keraship.errors import KerashipError
    from keraship.quiet import import_keras
    import_keras()
    from keraship.exporter import export

    model, folder = sys.argv[1], Path(sys.argv[2])

    def children():
        return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()

    def start(repository, *, kill=None, version=None):
        said = folder / f"said-{time.monotonic_ns()}"
        process = os.fork()
        if process:
            return process, said
        stages = []
        def progress(stage):
            stages.append(stage)
            said.write_text(json.dumps({"stages": stages, "children": children()}))
            if stage == kill:
                os.kill(os.getpid(), signal.SIGKILL)
        try:
            exported = export(model, repository, name="m", formats=["onnx"], version=version, progress=progress)
            said.write_text(json.dumps({"stages": stages, "published": exported.folder.name}))
            os._exit(0)
        except KerashipError as error:
            said.write_text(json.dumps({"error": type(error).__name__, "message": str(error)}))
            os._exit(1)

    def end(started):
        _, status = os.waitpid(started[0], 0)
        return {"status": os.waitstatus_to_exitcode(status), **json.loads(started[1].read_text())}
"""

KILL_AT_EVERY_STAGE = (
    PROGRAM
    + """
    stages = end(start(folder / "whole"))["stages"]
    killed = {}
    for stage in stages:
        killed[stage] = end(start(folder / "repo", kill=stage))
        killed[stage]["left"] = {
            model.name: sorted(os.listdir(model)) for model in (folder / "repo").iterdir()
        }
    print(json.dumps({"stages": stages, "killed": killed, "last": end(start(folder / "repo"))}))
"""
)


def test_an_export_killed_at_any_stage_publishes_nothing(models, python, tmp_path):
    """SIGKILL as each stage begins: no version, at most one hidden folder, which the next export sweeps; no child."""
    done = json.loads(python(KILL_AT_EVERY_STAGE, models / "cnn.keras", tmp_path, timeout=800))
    assert {"load", "trace", "sample", "freeze", "publish"} <= set(done["stages"])
    for stage, killed in done["killed"].items():
        assert killed["status"] == -signal.SIGKILL
        for names in killed["left"].values():
            assert len(names) <= 1, stage  # what the one before left is gone
            assert all(name.startswith(".staging-") for name in names), stage
        assert killed["children"], stage
        assert_gone(killed["children"])
    assert done["last"]["published"] == "1"
    assert_whole(tmp_path / "repo")
    assert os.listdir(tmp_path / "repo" / "m") == ["1"]


AT_ONCE = (
    PROGRAM
    + """
    free = [start(folder / "repo") for _ in range(2)]
    free = [end(started) for started in free]
    fixed = [start(folder / "repo", version=7) for _ in range(2)]
    print(json.dumps({"free": free, "fixed": [end(started) for started in fixed]}))
"""
)


def test_two_exports_at_once_give_two_versions(models, python, tmp_path):
    """Each takes a number of its own; of two that ask for the same number, one is refused."""
    done = json.loads(python(AT_ONCE, models / "cnn.keras", tmp_path, timeout=800))
    assert sorted(one.get("published", one) for one in done["free"]) == ["1", "2"]
    assert sorted(one["status"] for one in done["fixed"]) == [0, 1]
    (refused,) = (one for one in done["fixed"] if one["status"])
    assert refused["error"] == "VersionExists"
    assert_whole(tmp_path / "repo")
    assert sorted(os.listdir(tmp_path / "repo" / "m")) == ["1", "2", "7"]


def test_a_command_killed_from_outside_leaves_nothing_running(models, environment, tmp_path):
    """A true `keraship export`, killed while its processes are there: they end with it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "keraship", "export", models / "cnn.keras", "--to", tmp_path, "--name", "m"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    try:
        wait_until(lambda: (tmp_path / "m").is_dir() and len(children.read_text().split()) >= 2)
        started = children.read_text().split()
    finally:
        process.kill()
        process.wait()
    assert_gone(started)
    assert all(name.startswith(".staging-") for name in os.listdir(tmp_path / "m"))
    with bundle.stage(tmp_path, "m"):
        assert len(os.listdir(tmp_path / "m")) == 1  # the new one; the old one was swept


BETWEEN_RENAMES = """
    import os, signal, sys
    from pathlib import Path
    from keraship import bundle
    rename = Path.rename
    def rename_once(self, target):
        if os.path.exists(sys.argv[1] + "/m/1"):
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(self, target)
    Path.rename = rename_once
    with bundle.stage_all(Path(sys.argv[1]), ["m", "m-int8"]) as stagings:
        for staging in stagings.values():
            (staging.folder / "content").write_text("whole")
"""


def test_variants_are_whole_even_if_one_of_them_is_missing(python, tmp_path):
    """Killed between the renames of two models that are published together: each is whole, or not there."""
    python(BETWEEN_RENAMES, tmp_path, expect=-signal.SIGKILL)
    published = {model.name: bundle.versions(model) for model in tmp_path.iterdir()}
    assert sorted(len(versions) for versions in published.values()) == [0, 1]
    assert [(folder / "content").read_text() for versions in published.values() for folder in versions.values()] == [
        "whole"
    ]
    with bundle.stage_all(tmp_path, ["m", "m-int8"]) as stagings:
        for staging in stagings.values():
            (staging.folder / "content").write_text("whole")
    assert sorted(bundle.versions(tmp_path / "m")) == [1, 2]
    assert os.listdir(tmp_path / "m-int8") == ["2"]  # they belong together: one number, and nothing left over


FULL = """
    import resource, sys
    from keraship import cli
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
    cli.main(["export", sys.argv[1], "--to", sys.argv[2], "--name", "m", "--formats", sys.argv[4]])
"""


@pytest.mark.parametrize("format_", ["onnx", "saved_model"])
def test_a_full_disk_is_one_sentence(models, environment, tmp_path, format_):
    """Files that may not grow beyond 6 kB stand for it: each library's writer fails; nothing is left."""
    arguments = (models / "cnn.keras", tmp_path / "repo", "6000", format_)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FULL), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("keraship: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "repo").exists()


@pytest.fixture
def readable():
    """A folder that every user can read, with a Python program's access to the rest of the machine."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_repository_that_cannot_be_written_is_one_sentence(readable):
    """Neither the repository, nor a model in it, nor a published version is open for writing to this user."""
    (readable / "repo" / "m" / "1").mkdir(parents=True)
    for folder in (readable / "repo" / "m", readable / "repo"):
        folder.chmod(0o555)
    for name in ("m", "other"):
        as_somebody(lambda name=name: refused(readable / "repo", name))
    assert [path.name for path in (readable / "repo").rglob("*")] == ["m", "1"]
    for folder in (readable / "repo", readable / "repo" / "m"):
        folder.chmod(0o755)


def refused(repository, name):
    with (
        pytest.raises(BundleError, match=r"cannot write a version into .*Permission denied"),
        bundle.stage(repository, name),
    ):
        raise AssertionError("a folder was made where none can be")


def as_somebody(check):
    """Run a check in a process of a user who is not root, who may write anywhere."""
    process = os.fork()
    if not process:
        if os.getuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        try:
            check()
        except BaseException as error:  # the parent hears of it by the exit status
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0


def assert_whole(repository):
    """Every folder that has a version's name is whole and unchanged; whichever models there are."""
    for model in repository.iterdir():
        for folder in bundle.versions(model).values():
            assert bundle.changed_files(folder, bundle.read_manifest(folder)) == []


def assert_gone(processes):
    """They end by themselves, though they may take a moment to notice."""
    wait_until(lambda: not any(is_running(process) for process in processes))


def is_running(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)
