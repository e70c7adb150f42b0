"""keraship: from a trained Keras model to a served prediction, with proof at every step that it is the same model."""

__version__ = "0.1.0"
