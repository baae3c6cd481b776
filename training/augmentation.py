"""Small random changes to the training images."""

import numpy as np
import tensorflow as tf


def augment(image, seed, strength=1.0):
    """Applies to each image an affine map of its own, drawn uniformly; edge pixels are repeated beyond the
    edge.

    The bounds are 4° of rotation, a shear of 0.15, 10% in width and height, and shifts of 4% and 8% of them.

    Args:
        image: uint8 of shape `(batch, height, width)`, like the result.
        seed: two integers; the same seed gives the same maps.
        strength: a factor for all bounds; 0 leaves the images unchanged.
    """
    batch, height, width = tf.unstack(tf.shape(image))
    random = strength * tf.random.stateless_uniform((6, batch), seed, -1.0, 1.0)  # (6, batch)
    angle, shear = random[0] * np.radians(4.0), random[1] * 0.15  # (batch,), like all below
    scale_x, scale_y = 1.0 + 0.1 * random[2], 1.0 + 0.1 * random[3]
    last_x, last_y = tf.cast(width - 1, tf.float32), tf.cast(height - 1, tf.float32)
    shift_x, shift_y = 0.04 * (last_x + 1) * random[4], 0.08 * (last_y + 1) * random[5]
    cos, sin = tf.cos(angle), tf.sin(angle)
    # From a point of the new image to a point (x, y) of the old one, about the centre of the image.
    x_from_x, x_from_y = scale_x * (cos - shear * sin), scale_x * (sin + shear * cos)
    y_from_x, y_from_y = -scale_y * sin, scale_y * cos
    centre_x, centre_y = last_x / 2, last_y / 2
    offset_x = centre_x + shift_x - x_from_x * centre_x - x_from_y * centre_y
    offset_y = centre_y + shift_y - y_from_x * centre_x - y_from_y * centre_y
    zero = tf.zeros_like(angle)
    transforms = [x_from_x, x_from_y, offset_x, y_from_x, y_from_y, offset_y, zero, zero]
    # As floats, because the op truncates results of uint8.
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(image[..., None], tf.float32),  # (batch, height, width, 1)
        transforms=tf.stack(transforms, axis=1),  # (batch, 8)
        output_shape=(height, width),
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )
    return tf.saturate_cast(tf.round(moved[..., 0]), tf.uint8)
