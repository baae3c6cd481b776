"""The loss of connectionist temporal classification, as a layer of the model."""

import keras
from keras import ops

from snippet_ocr.alphabet import BLANK


@keras.saving.register_keras_serializable(package="ocr")
class CTCLayer(keras.layers.Layer):
    """Adds the CTC loss of a batch to the model and passes the logits on.

    CTC sums the probability of every alignment of a label to the time steps
    and takes minus its logarithm:

    `loss(label) = -log(sum over alignments a of label: product over steps t of p(a_t | t))`

    An alignment repeats characters and puts blanks between them; a blank is
    a must between two equal neighbours. The layer adds the mean over the
    rows of the batch that hold a label. Class 0 is the blank, and the padding
    of labels too: the loss sees only the characters of a label, never its padding.

    A label must fit: its length plus its number of equal neighbours must not
    exceed the time steps. No backend raises for a label that does not; the
    loss is then a large, meaningless number. `utils.find_images` finds such
    labels before training.

    Source: Graves et al., "Connectionist Temporal Classification: Labelling
    Unsegmented Sequence Data with Recurrent Neural Networks", ICML 2006.

    Args:
        **kwargs: the arguments of `keras.layers.Layer`, such as `name`.

    Call arguments:
        label: integers of shape `(batch, longest label)`, each row a label
            from its first column on, padded with 0.
        logits: floats of shape `(batch, steps, classes)`, before the softmax.

    Returns:
        `logits`, unchanged.

    Example:

    >>> image = keras.Input((200, 50, 1), name="image")
    >>> label = keras.Input((None,), dtype="int32", name="label")
    >>> logits = network(image)
    >>> model = keras.Model([image, label], CTCLayer()(label, logits))
    >>> model.compile(optimizer="adam")  # no loss: it is part of the model
    """

    def call(self, label, logits):
        losses, counts = ctc_losses(label, logits), has_text(label)
        # The mean, not the vector: Keras would add up the losses of the batch.
        self.add_loss(ops.sum(losses * counts) / ops.maximum(ops.sum(counts), 1.0))
        return logits

    def compute_output_shape(self, label_shape, logits_shape):
        return logits_shape


def has_text(label):
    """Which rows of a batch hold a label.

    Where several devices share a batch, rows without one may fill it up. They
    are no images, and count nothing: neither for the loss nor for a metric.

    Args:
        label: as in `CTCLayer`.

    Returns:
        Floats of shape `(batch,)`: 1 for a row with text, 0 for one of padding alone.
    """
    return ops.cast(ops.any(ops.not_equal(label, BLANK), axis=1), "float32")


def ctc_losses(label, logits):
    """The CTC loss of each label.

    Args:
        label: as in `CTCLayer`.
        logits: as in `CTCLayer`.

    Returns:
        Floats of shape `(batch,)`, in nats.
    """
    return ops.ctc_loss(
        target=label,
        output=logits,
        target_length=ops.sum(ops.cast(ops.not_equal(label, BLANK), "int32"), axis=1),
        output_length=ops.full_like(label[:, 0], logits.shape[1]),
        mask_index=BLANK,
    )
