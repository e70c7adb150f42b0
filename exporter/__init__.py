"""keraship.exporter: a Keras model to artifacts that are proven to answer as it does.

    from keraship.exporter import export

    exported = export("run/best.keras", "repo", name="digits", evaluate="run/test.npz")

1. load     a .keras or .h5 file, safely, a SavedModel, or a model in memory
2. trace    at inference, with the signature's names
3. sample   golden inputs, and the Keras model's answers to them
4. freeze   the weights become constants of one graph
5. write    a SavedModel, an ONNX model, warm-up requests
6. verify   each artifact in a fresh process that has neither Keras nor the model's code
7. publish  the version appears in the repository, whole

TensorFlow is imported when `export` runs, not before.
"""

from keraship.exporter.export import Exported, export
from keraship.exporter.formats import FORMATS, SCHEMES
from keraship.exporter.outcome import Row
from keraship.exporter.verify import Verified, verify

__all__ = ["FORMATS", "SCHEMES", "Exported", "Row", "Verified", "export", "verify"]
