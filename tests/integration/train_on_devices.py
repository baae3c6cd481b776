"""Trains the notebook's model for some steps on all devices, and saves losses, metrics and logits.

python train_on_devices.py STEPS TENSORFLOW_CPUS OUT
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import utils
from snippet_ocr.alphabet import Alphabet
from snippet_ocr.images import load_fitted
from tools.notebook import load_build_model
from training import PROJECT, devices, metrics


def main():
    steps, cpus, out = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    if cpus > 1:
        configuration = [tf.config.LogicalDeviceConfiguration()] * cpus
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], configuration)
    print(devices.describe(batch_size=16), flush=True)
    paths = sorted((PROJECT / "captcha_images").glob("*.png"))[:99]
    samples = [utils.Sample(path, path.stem[:5], (200, 50), path.stem) for path in paths]
    alphabet = Alphabet.from_labels([sample.label for sample in samples])

    def encode(sample):
        width = 80 if sample.path in paths[::2] else 100
        return utils.encode_single_sample(sample, alphabet, [width], 20, 5)

    keras.utils.set_random_seed(1)
    model = load_build_model()(20, 5, alphabet.number_of_classes, dropout=0.0)
    optimizer = keras.optimizers.Adam(0.003, global_clipnorm=1.0, use_ema=True, ema_momentum=0.98)
    model.compile(optimizer, metrics=[metrics.ExactMatch(), metrics.ClippedLoss()])
    model = devices.over_all_devices(model)
    data = utils.get_data(samples[:96], encode, 16, seed=1)
    history = model.fit(data, steps_per_epoch=1, epochs=steps, shuffle=False, verbose=0).history
    # The last batch of each width has one or two images: it is padded, so that devices can share it.
    evaluation = model.evaluate(utils.get_data(samples, encode, 16), verbose=0, return_dict=True)
    evaluation.pop("loss")
    model = devices.on_one_device(model)
    image = np.stack([load_fitted(path, [80], 20) for path in paths[:3]])  # (3, 20, 80)
    logits = keras.Model(model.inputs[0], model.get_layer("logits").output).predict_on_batch(image)
    values = [evaluation[name] for name in sorted(evaluation)]
    np.savez(out, losses=history["loss"], evaluation=values, logits=logits)


if __name__ == "__main__":
    main()
