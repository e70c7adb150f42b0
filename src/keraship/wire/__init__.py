"""TensorFlow Serving's messages without TensorFlow: the message classes, and numpy arrays to and from TensorProto.

`messages` holds the classes, `tensor` the codec, `signatures` turns SignatureDefs into our Signature and back.
"""

from keraship.wire.tensor import to_array, to_tensor

__all__ = ["to_array", "to_tensor"]
