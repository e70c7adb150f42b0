"""Write constraints.txt: the versions that `.[all,dev]` resolves to today, for every Python that is supported.

    python .ci/constraints.py python3.10 python3.11 python3.12 python3.13 > constraints.txt

Each interpreter installs into a throw-away environment; run `make test` with each before committing the result.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# The versions that are tested together, for Python 3.10 to 3.13. Made by .ci/constraints.py; use it with
#   pip install 'keraship[all]' -c constraints.txt
"""


def main(pythons: list[str]) -> None:
    """Print one line for each package and version, with the Pythons that it is for."""
    frozen = {python.removeprefix("python"): freeze(python) for python in pythons}
    print(HEADER, end="")
    for name in sorted({name for packages in frozen.values() for name in packages}):
        by_version: dict[str, list[str]] = {}
        for python, packages in frozen.items():
            if name in packages:
                by_version.setdefault(packages[name], []).append(python)
        for version, chosen in by_version.items():
            print(f"{name}=={version}{marker(chosen, list(frozen))}")


def freeze(python: str) -> dict[str, str]:
    """The packages, by lower-case name, that a fresh environment of this interpreter gets."""
    with tempfile.TemporaryDirectory() as folder:
        run(python, "-m", "venv", folder)
        pip = f"{folder}/bin/pip"
        run(pip, "install", "--quiet", f"{ROOT}[all,dev]")
        lines = run(pip, "freeze", "--exclude", "keraship").split()
    return {name.lower().replace("_", "-"): version for name, _, version in (line.partition("==") for line in lines)}


def marker(chosen: list[str], every: list[str]) -> str:
    """The environment marker for some of the Pythons; nothing for all of them."""
    if chosen == every:
        return ""
    return "; " + " or ".join(f'python_version == "{python}"' for python in chosen)


def run(*command: str) -> str:
    """What a command prints; it must succeed."""
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    main(sys.argv[1:])
