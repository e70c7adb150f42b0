"""Compile src/keraship/wire/*.proto to descriptors.binpb, with the well-known types that they import."""

import importlib.resources
import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

WIRE = Path(__file__).resolve().parent.parent / "src/keraship/wire"
PROTOS = ("tensorflow.proto", "tensorflow_serving.proto")


def main(target: Path) -> int:
    """Write the descriptor set to `target`; protoc's exit status."""
    well_known = importlib.resources.files(grpc_tools) / "_proto"
    arguments = [f"-I{WIRE}", f"-I{well_known}", "--include_imports", f"--descriptor_set_out={target}", *PROTOS]
    return int(protoc.main(["protoc", *arguments]))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else WIRE / "descriptors.binpb"))
