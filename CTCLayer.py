"""The CTC loss as a layer of the model."""

import keras
from keras import ops

from snippet_ocr.alphabet import BLANK

NO_IMAGE = -1  # the label of a padding row, in all places; an image without text has a label of blanks


@keras.saving.register_keras_serializable(package="ocr")
class CTCLayer(keras.layers.Layer):
    """Adds the mean CTC loss of a batch to the model's losses and returns the logits unchanged.

    Connectionist temporal classification (CTC) sums the probabilities of all alignments of a label to the
    time steps:

    `loss(label) = -log(sum over alignments a of label: product over steps t of p(a_t | t))`

    An alignment repeats characters and inserts blanks; a blank is required between repeated characters. Class
    0 is both the blank and the padding of labels. The loss is the mean over the images; padding rows do not
    count. An image without text has an empty label; its only alignment is blank at every step.

    A label needs one step per character, and one more per repeated character. With fewer steps, the loss is a
    large, meaningless number, and no error. `utils.find_images` rejects such labels before training.

    Source: Graves et al., "Connectionist Temporal Classification: Labelling Unsegmented Sequence Data with
    Recurrent Neural Networks", ICML 2006.

    Call arguments:
        label: integers of shape `(batch, max_label_length)`, padded with 0 at the end of each row; `NO_IMAGE`
            in padding rows.
        logits: floats of shape `(batch, steps, classes)`, before the softmax.

    Examples:
        >>> image = keras.Input((50, 200), dtype="uint8", name="image")
        >>> label = keras.Input((None,), dtype="int32", name="label")
        >>> logits = network(image)
        >>> model = keras.Model([image, label], CTCLayer()(label, logits))
        >>> model.compile(optimizer="adam")  # no loss: it is part of the model
    """

    def call(self, label, logits):
        losses, counts = ctc_losses(label, logits), is_image(label)  # (batch,), (batch,)
        # `add_loss` would sum a vector, so take the mean here.
        self.add_loss(ops.sum(losses * counts) / ops.maximum(ops.sum(counts), 1.0))
        return logits

    def compute_output_shape(self, label_shape, logits_shape):
        return logits_shape


def is_image(label):
    """Returns 1.0 for each label of an image and 0.0 for each padding row, of shape `(batch,)`.

    Padding rows fill the last batch when several devices share it. Loss and metrics ignore them.
    """
    return ops.cast(ops.not_equal(label[:, 0], NO_IMAGE), "float32")


def ctc_losses(label, logits):
    """Returns the CTC loss of each label, in nats, of shape `(batch,)`; arguments as for `CTCLayer`."""
    label = ops.maximum(label, BLANK)  # padding rows become empty labels
    return ops.ctc_loss(
        target=label,
        output=logits,
        target_length=ops.sum(ops.cast(ops.not_equal(label, BLANK), "int32"), axis=1),  # (batch,)
        output_length=ops.full_like(label[:, 0], ops.shape(logits)[1]),  # (batch,)
        mask_index=BLANK,
    )
