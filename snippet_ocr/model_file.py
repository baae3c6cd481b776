"""A reader as a file: a Keras archive, or ONNX, with all that reading needs."""

import json
import os
import zipfile
from pathlib import Path

from snippet_ocr import files, safety

DESCRIPTION = "reader.json"
"""The member of a Keras archive, and the entry of an ONNX file's metadata, that describes the reader."""


class OnnxModel:
    """A reading model in ONNX, run by onnxruntime, with what `Reader` asks of a model of Keras.

    Args:
        path: the file that `tools.export` wrote.

    Attributes:
        description: what the file's metadata say of the reader, a text.
        input_shape, output_shape: the shapes of images and log-probabilities.
        threads, batch_size: how many batches, of how many images, are best read at once.

    Raises:
        ValueError: if the file holds anything that a reader does not need.
    """

    def __init__(self, path):
        import onnxruntime

        content = safety.check_onnx(path)
        # A thread for each batch, and several batches at once: threads within a batch would wait for
        # each other at every node.
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.threads, self.batch_size = os.cpu_count() or 1, 16
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (image,), (output,) = self._session.get_inputs(), self._session.get_outputs()
        self._name, self.input_shape, self.output_shape = image.name, tuple(image.shape), tuple(output.shape)
        self.description = self._session.get_modelmeta().custom_metadata_map[DESCRIPTION]

    def predict_on_batch(self, prepared):
        """Reads a batch: from images to the log-probabilities of each step."""
        return self._session.run(None, {self._name: prepared})[0]


def save(model, description, path):
    """Saves a reading model and its description in one Keras archive.

    The archive has one member more than Keras knows, `reader.json`; Keras
    opens it as any model. It is written beside its place and then moved
    there, so that no torn file is ever left under its name.

    Args:
        model: a model of Keras.
        description: a dictionary that JSON can hold.
        path: the file to write; its name ends in `.keras`.
    """
    with files.atomic_write(Path(path)) as unfinished:
        model.save(unfinished)
        with zipfile.ZipFile(unfinished, "a") as archive:
            archive.writestr(DESCRIPTION, json.dumps(description, indent=1, ensure_ascii=False))


def load(path):
    """Opens what `save` or `tools.export` wrote. No code of the file is run: `safety` looks through it first.

    Args:
        path: a `.keras` or an `.onnx` file; the latter needs onnxruntime in
            place of Keras.

    Returns:
        A tuple of the model and its description.

    Raises:
        ValueError: if the file is not there or is not a reader.
    """
    path = Path(path).absolute()
    if not path.is_file():
        found = "That is a folder." if path.is_dir() else "There is no such file."
        raise ValueError(f"Expected a saved reader at {path}. {found}")
    if path.suffix not in LOADERS:  # Keras takes the ending for the format, and some formats hold code
        raise not_a_reader(path, f"its name ends in none of {', '.join(LOADERS)}")
    model, text = LOADERS[path.suffix](path)
    try:
        return model, json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise not_a_reader(path, error) from error


def not_a_reader(path, error):
    """The error of a file that is no reader."""
    return ValueError(
        f"Expected a reader that this project saved, a .keras or .onnx file with {DESCRIPTION} in it. "
        f"{path} is none: {error}"
    )


def _load_keras(path):
    """Opens a Keras archive: its model and the text of its description."""
    try:
        text = safety.check_keras(path)
        import keras  # here, so that reading from ONNX lives without Keras
    except ValueError as error:
        raise not_a_reader(path, error) from error
    except ImportError as error:
        raise ValueError(
            f"Expected Keras and TensorFlow, to read with {path}. Without them, export it to ONNX."
        ) from error
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True), text
    except Exception as error:
        raise ValueError(
            f"Expected a model that Keras {keras.__version__} can open. {path}: {error}"
        ) from error


def _load_onnx(path):
    """Opens an ONNX file: its model and the text of its description."""
    try:
        model = OnnxModel(path)
    except ImportError as error:
        raise ValueError(f"Expected onnxruntime, to read with {path}: pip install onnxruntime") from error
    except Exception as error:  # onnxruntime raises many kinds.
        raise not_a_reader(path, error) from error
    return model, model.description


LOADERS = {".keras": _load_keras, ".onnx": _load_onnx}
