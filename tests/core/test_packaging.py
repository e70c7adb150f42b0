"""What is installed is what stands in the repository, and the project's own files tell the truth."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import keraship
from keraship import cli

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = ("client", "exporter", "models", "serving")
PACKAGES = {"keraship": "src/keraship", "keraship.wire": "src/keraship/wire"} | {
    f"keraship.{name}": name for name in COMPONENTS
}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist and the wheel, built from the working tree's committed and new files."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_wheel_holds_every_module_and_data_file(distributions: Path) -> None:
    """The list of packages in pyproject.toml is complete, and tests are not shipped."""
    (wheel,) = distributions.glob("*.whl")
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert shipped == {path for package, folder in PACKAGES.items() for path in _files(package, ROOT / folder)}


def test_the_sdist_builds_the_same_wheel(distributions: Path) -> None:
    """It holds every source file (the wheel above was built from it)."""
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    missing = {
        f"{folder}/{path.removeprefix(package.replace('.', '/') + '/')}"
        for package, folder in PACKAGES.items()
        for path in _files(package, ROOT / folder)
    } - names
    assert not missing


def test_the_links_for_type_checkers_lead_to_the_components() -> None:
    """src/keraship/exporter -> ../../exporter, and so on."""
    for name in COMPONENTS:
        link = ROOT / "src/keraship" / name
        assert link.is_symlink()
        assert link.resolve() == ROOT / name


def test_the_version_is_one() -> None:
    """In the package, in its metadata, and at the top of the changelog."""
    assert importlib.metadata.version("keraship") == keraship.__version__
    assert f"## [{keraship.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_extra_is_in_the_readme_and_every_command_too() -> None:
    """The table of extras can't miss one."""
    readme = (ROOT / "README.md").read_text()
    for extra in importlib.metadata.metadata("keraship").get_all("Provides-Extra") or []:
        assert f"| `{extra}` |" in readme
    for command in cli.COMMANDS:
        assert f"keraship {command}" in readme


def test_constraints_pin_every_dependency() -> None:
    """Each requirement of each extra has a tested version in constraints.txt."""
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    required = {
        re.match(r"[A-Za-z0-9_.\-]+", requirement)[0].lower().replace("_", "-")  # type: ignore[index]  # they all match
        for requirement in importlib.metadata.requires("keraship") or []
    }
    assert required - {"keraship"} <= pinned


def _files(package: str, folder: Path) -> set[str]:
    """What a package's folder should bring into a wheel."""
    endings = (".py", ".proto", ".binpb", ".json", "py.typed")
    inside = [path.name for path in folder.iterdir() if path.name.endswith(endings)]
    page = [f"page/{path.name}" for path in (folder / "page").glob("*.*")]  # what the browser gets of keraship serve
    return {f"{package.replace('.', '/')}/{name}" for name in (*inside, *page)}


def test_nothing_that_we_start_phones_home(tmp_path: Path) -> None:
    """ONNX Runtime, imported after keraship, makes no device id in the user's home."""
    code = "import keraship, onnxruntime, time; time.sleep(1)"  # its telemetry begins on a thread of its own
    subprocess.run([sys.executable, "-c", code], env={"HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.rglob("*")) == []
