"""A layer and a model of somebody's own, registered as Keras wants it."""

import keras


@keras.saving.register_keras_serializable("doubling")
class Doubling(keras.layers.Layer):
    """Twice its input."""

    def call(self, inputs):
        return inputs * 2


@keras.saving.register_keras_serializable("doubling")
class Coded(keras.Model):
    """A subclassed model with a dict of inputs and a dict of outputs."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = keras.layers.Dense(3)

    def call(self, inputs, training=False):
        return {"sum": self.dense(inputs["left"]) + inputs["right"], "left": inputs["left"]}
