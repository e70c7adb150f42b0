"""keraship.exporter: a Keras model to artifacts that are proven to answer as it does.

    from keraship.exporter import export

    exported = export("run/best.keras", "repo", name="digits", evaluate="run/test.npz")

1. load     a .keras or .h5 file, safely, a SavedModel, or a model in memory
2. trace    at inference, with the signature's names
3. sample   golden inputs, and the Keras model's answers to them and to the user's data
4. freeze   the weights become constants of one graph
5. fold     normalisation and bias go into the weights
6. write    each format, as it is and quantized by each scheme
7. verify   each artifact in a fresh process that has neither Keras nor the model's code
8. gate     what quantized artifacts lose against what they may lose
9. publish  the versions appear in the repository, whole and together

TensorFlow is imported when `export` runs, not before.
"""

from keraship.exporter.export import Exported, export
from keraship.exporter.formats import FORMATS, SCHEMES
from keraship.exporter.outcome import Outcome, Row
from keraship.exporter.verify import Verified, verify

__all__ = ["FORMATS", "SCHEMES", "Exported", "Outcome", "Row", "Verified", "export", "verify"]
