"""keraship: from a trained Keras model to a served prediction, with proof at every step that it is the same model."""

import os

__version__ = "0.1.0"

# ONNX Runtime's wheels report usage to their maker, from a device id that they keep in the user's home. What we start
# does not, unless whoever runs it has set this to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
