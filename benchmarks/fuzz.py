"""Hostile requests, by the hundred thousand: `python benchmarks/fuzz.py [--inputs N] [--seconds S] [--json]`.

Drives, in process and on the small ONNX models of tests/conformance, what reads bytes of strangers: the REST API, the
gRPC methods and the reader of configuration files. Half of the inputs are random mutations of the conformance cases,
half are led by the coverage of our code, by atheris. An input ends the run, saved in hex, where it

- kills the process or raises what nobody foresaw,
- is answered with 500, INTERNAL or another status that is no fault of a client's,
- takes more than 5 seconds.

`--replay FILE` runs such an input alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

INPUT_LENGTH_BYTES = 8


def main() -> None:
    arguments = _arguments()
    folder = arguments.out or Path(tempfile.mkdtemp(prefix="keraship-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for engine in [arguments.engine] if arguments.engine else ["random", "coverage"]:
        share = 1 if arguments.engine else 2
        results.append(_run(engine, folder, arguments, share))
        if results[-1]["defect"]:
            break
    _print(results, as_json=arguments.json)
    sys.exit(1 if results[-1]["defect"] else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000, metavar="N", help="how many, in all (1,000,000)")
    parser.add_argument("--seconds", type=float, default=3600, metavar="S", help="end after that long (3600)")
    parser.add_argument("--engine", choices=("random", "coverage"), help="one alone (both, half of the inputs each)")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (0)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where inputs are saved (a new folder)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run the one input in FILE, in hex")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser.parse_args()


def _run(engine: str, folder: Path, arguments: argparse.Namespace, share: int) -> dict[str, Any]:
    """Run one engine in a process of its own, which a crash may end."""
    worker = Path(__file__).with_name("fuzz_worker.py")
    replay = [str(arguments.replay.resolve())] if arguments.replay else []
    limits = [str(arguments.inputs // share), str(arguments.seconds / share), str(arguments.seed)]
    begin = time.monotonic()
    ended = subprocess.run(
        [sys.executable, worker, "replay" if replay else engine, folder, *limits, *replay], check=False
    )
    path = folder / "result.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"inputs": 0, "defect": ""}
    path.unlink(missing_ok=True)
    if ended.returncode and not result["defect"]:
        result["defect"] = f"the process ended with {ended.returncode}"
    saved = ""
    if result["defect"]:
        saved = str(_save_input(folder))
    return {**result, "engine": engine, "seconds": round(time.monotonic() - begin, 1), "input": saved}


def _save_input(folder: Path) -> Path:
    """The input that was under way, out of the memory that the worker shared, in hex."""
    current = folder / "current"
    raw = current.read_bytes() if current.is_file() else bytes(INPUT_LENGTH_BYTES)
    size = int.from_bytes(raw[:INPUT_LENGTH_BYTES], "little")
    path = folder / "input.hex"
    path.write_text(raw[INPUT_LENGTH_BYTES : INPUT_LENGTH_BYTES + size].hex() + "\n")
    return path


def _print(results: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"inputs": sum(each["inputs"] for each in results), "runs": results}, indent=2))
        return
    for each in results:
        print(f"{each['engine']}: {each['inputs']:,} inputs in {each['seconds']} s; answers: {each.get('answers', {})}")
        if each["defect"]:
            print(
                f"{each['defect']}\nthe input is in {each['input']}: python benchmarks/fuzz.py --replay {each['input']}"
            )


if __name__ == "__main__":
    main()
