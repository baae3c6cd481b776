"""Trains the notebook's model for some steps on the devices there are, and stores the losses.

python train_on_devices.py STEPS TENSORFLOW_CPUS OUT
"""

import functools
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import utils
from snippet_ocr.alphabet import Alphabet
from tools.notebook import load_build_model
from training import PROJECT, devices, metrics


class Losses(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.all = []

    def on_epoch_end(self, epoch, logs=None):
        self.all.append(logs["loss"])


def main():
    steps, cpus, out = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    if cpus > 1:
        configuration = [tf.config.LogicalDeviceConfiguration()] * cpus
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], configuration)
    print(devices.connect(batch_size=16), flush=True)
    paths = sorted((PROJECT / "captcha_images").glob("*.png"))[:100]
    samples = [utils.Sample(path, path.stem[:5], (200, 50), path.stem) for path in paths]
    alphabet = Alphabet.from_labels([sample.label for sample in samples])
    encode = functools.partial(
        utils.encode_single_sample, alphabet=alphabet, image_width=80, image_height=20, max_label_length=5
    )
    keras.utils.set_random_seed(1)
    model = load_build_model()(80, 20, 5, alphabet.number_of_classes, 4, dropout=0.0)
    optimizer = keras.optimizers.Adam(0.003, global_clipnorm=1.0, use_ema=True, ema_momentum=0.98)
    model.compile(optimizer, metrics=[metrics.ExactMatch(), metrics.ClippedLoss()])
    model = devices.over_all_devices(model)
    losses = Losses()
    data = utils.get_data(samples[:96], encode, 16, seed=1)
    model.fit(data, steps_per_epoch=1, epochs=steps, callbacks=[losses], shuffle=False, verbose=0)
    # 99 images: the last batch cannot be divided as it is.
    evaluation = model.evaluate(utils.get_data(samples[:99], encode, 16), verbose=0, return_dict=True)
    evaluation.pop("loss")
    alone = devices.on_one_device(model)
    images = np.stack([encode(sample)["image"] for sample in samples[:3]])
    reading = keras.Model(alone.inputs[0], alone.get_layer("logits").output)
    logits = reading.predict_on_batch(images)
    spread = np.array([evaluation[name] for name in sorted(evaluation)])
    np.savez(out, losses=losses.all, evaluation=spread, logits=logits)


if __name__ == "__main__":
    main()
