"""The whole path in one run: train, export, serve, ask. `make demo` runs it; everything lands in build/demo.

Each step is the command that a user would type; the program prints it before it runs it.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from keraship.client import Client

FOLDER = Path("build/demo")
RUN, REPOSITORY = FOLDER / "run", FOLDER / "repo"
PREDICTIONS = 10

console = Console()


def main() -> None:
    """Train, export, serve, predict; leave no process behind."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    keraship("train", "cnn", "--out", str(RUN))
    keraship(
        "export", str(RUN / "best.keras"), "--to", str(REPOSITORY), "--name", "digits",
        "--import", "keraship.models.layers", "--evaluate", str(RUN / "test.npz"),
    )  # fmt: skip
    grpc_port, rest_port = free_port(), free_port()
    command = announce("serve", str(REPOSITORY), f"--port={grpc_port}", f"--rest_api_port={rest_port}")
    server = subprocess.Popen(command)
    try:
        ask(f"localhost:{grpc_port}")
    finally:
        server.terminate()
        status = server.wait(timeout=30)
    if status != 0:
        sys.exit(f"the server ended with status {status}; expected 0 after SIGTERM")
    console.print(f"\nThe run and the model repository are in {FOLDER}.")


def keraship(*arguments: str) -> None:
    """Run a keraship command to its end; a failure ends the demo with the same status."""
    done = subprocess.run(announce(*arguments), check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)


def announce(*arguments: str) -> list[str]:
    """Print a command as a user would type it; the command to run."""
    console.print(f"\n[bold]$ keraship {' '.join(arguments)}[/bold]", soft_wrap=True)
    return [sys.executable, "-m", "keraship", *arguments]


def ask(address: str) -> None:
    """Ten handwritten digits, one from each class where they can be had: what the server says, and what they are."""
    with np.load(RUN / "test.npz") as data:
        rows = [int(np.flatnonzero(data["labels"] == digit)[0]) for digit in range(PREDICTIONS)]
        images, labels = data["images"][rows], data["labels"][rows]
    with Client(address, "digits") as client:
        client.wait_until_ready(timeout=60)
        scores = client.predict({"images": images}).array
    table = Table("image", "predicted", "score", "true", "", title=f"{PREDICTIONS} predictions over gRPC")
    for row, predicted, score, true in zip(rows, scores.argmax(1), scores.max(1), labels, strict=True):
        table.add_row(f"test[{row}]", str(predicted), f"{score:.3f}", str(true), "" if predicted == true else "wrong")
    console.print()
    console.print(table)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
