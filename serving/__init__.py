"""Serves models out of a repository, as TensorFlow Serving does: gRPC and REST over one engine.

from keraship.serving import ModelConfig, Server, ServerOptions
"""

from keraship.serving.engine import Engine, EngineOptions, Metadata, ModelSpec
from keraship.serving.manager import ManagerOptions, ModelManager
from keraship.serving.prediction import PredictCall, Prediction
from keraship.serving.repository import Repository, RepositoryOptions
from keraship.serving.server import Server, ServerOptions
from keraship.serving.versions import All, Latest, ModelConfig, Specific

__all__ = [
    "All",
    "Engine",
    "EngineOptions",
    "Latest",
    "ManagerOptions",
    "Metadata",
    "ModelConfig",
    "ModelManager",
    "ModelSpec",
    "PredictCall",
    "Prediction",
    "Repository",
    "RepositoryOptions",
    "Server",
    "ServerOptions",
    "Specific",
]
