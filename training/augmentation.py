"""Small changes to the training images, anew in every epoch."""

import numpy as np
import tensorflow as tf


def augment(image, seed, strength=1.0):
    """Moves, turns, slants and stretches each image a little, anew in every epoch.

    Each image gets its own affine map, drawn uniformly: turned by up to 4°,
    slanted by up to 0.15, stretched by up to 10 % in width and in height, and
    moved by up to 4 % of the width and 8 % of the height. What comes into view
    from beyond the edge repeats the edge.

    Args:
        image: float32 of shape `(batch, image_width, image_height, 1)`.
        seed: two integers; the same seed gives the same maps.
        strength: a factor on all the bounds; 0 leaves the images as they are.

    Returns:
        float32 of the same shape.
    """
    batch, width, height = tf.shape(image)[0], image.shape[1], image.shape[2]
    drawn = strength * tf.random.stateless_uniform((6, batch), seed, -1.0, 1.0)
    angle, slant = drawn[0] * np.radians(4.0), drawn[1] * 0.15
    wider, taller = 1.0 + 0.1 * drawn[2], 1.0 + 0.1 * drawn[3]
    right, down = 0.04 * width * drawn[4], 0.08 * height * drawn[5]
    cos, sin = tf.cos(angle), tf.sin(angle)
    # The op maps each point of the new image to the point of the old one it
    # shows. Its x runs along the last axis, which here is the image's height.
    down_by_down, down_by_right = taller * cos, -taller * sin
    right_by_down, right_by_right = wider * (sin + slant * cos), wider * (cos - slant * sin)
    middle_down, middle_right = (height - 1) / 2, (width - 1) / 2
    shift_down = middle_down + down - down_by_down * middle_down - down_by_right * middle_right
    shift_right = middle_right + right - right_by_down * middle_down - right_by_right * middle_right
    zero = tf.zeros_like(angle)
    rows = [down_by_down, down_by_right, shift_down, right_by_down, right_by_right, shift_right, zero, zero]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image,
        transforms=tf.stack(rows, axis=1),
        output_shape=(width, height),
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )
