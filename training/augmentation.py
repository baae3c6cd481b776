"""Small random changes to the training images."""

import numpy as np
import tensorflow as tf


def augment(image, seed, strength=1.0):
    """Shifts, rotates, shears and scales each image a little.

    Each image gets its own affine map, drawn uniformly: rotated by up to 4°, sheared by up to 0.15, scaled
    by up to 10% in width and in height, and shifted by up to 4% of the width and 8% of the height. Beyond
    the edge of the old image, its edge pixels are repeated.

    Args:
        image: float32 of shape `(batch, image_width, image_height, 1)`, like the result.
        seed: two integers; the same seed gives the same maps.
        strength: a factor for all bounds; 0 leaves the images unchanged.
    """
    batch, width, height = tf.shape(image)[0], image.shape[1], image.shape[2]
    random = strength * tf.random.stateless_uniform((6, batch), seed, -1.0, 1.0)  # (6, batch)
    angle, shear = random[0] * np.radians(4.0), random[1] * 0.15  # (batch,), like all below
    scale_x, scale_y = 1.0 + 0.1 * random[2], 1.0 + 0.1 * random[3]
    shift_x, shift_y = 0.04 * width * random[4], 0.08 * height * random[5]
    cos, sin = tf.cos(angle), tf.sin(angle)
    # From a point of the new image to a point (x, y) of the old one, about the centre of the image.
    y_from_y, y_from_x = scale_y * cos, -scale_y * sin
    x_from_y, x_from_x = scale_x * (sin + shear * cos), scale_x * (cos - shear * sin)
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    offset_y = centre_y + shift_y - y_from_y * centre_y - y_from_x * centre_x
    offset_x = centre_x + shift_x - x_from_y * centre_y - x_from_x * centre_x
    zero = tf.zeros_like(angle)
    # The op calls the last axis of an image x. Here that is the height, so y comes first.
    transforms = [y_from_y, y_from_x, offset_y, x_from_y, x_from_x, offset_x, zero, zero]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image,
        transforms=tf.stack(transforms, axis=1),  # (batch, 8)
        output_shape=(width, height),
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )
