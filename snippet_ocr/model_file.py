"""A reader as a file: a Keras archive or an ONNX model that also contains the reader's metadata."""

import json
import zipfile
from pathlib import Path

from snippet_ocr import files, safety
from snippet_ocr.safety import DESCRIPTION


class OnnxModel:
    """An ONNX model with the part of a Keras model's interface that `Reader` uses.

    Its shapes are `("batch", image_height, "width")` and `("batch", "steps", classes)`.

    Raises:
        ValueError: if the file has anything that a reader does not need.
    """

    def __init__(self, path):
        import onnxruntime

        content, self.description = safety.check_onnx(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # `Reader` runs one batch per core instead
        try:
            self._session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises exceptions of many types
            raise ValueError(f"onnxruntime {onnxruntime.__version__} cannot load it: {error}") from error
        (image,), (output,) = self._session.get_inputs(), self._session.get_outputs()
        self._name, self.input_shape, self.output_shape = image.name, tuple(image.shape), tuple(output.shape)

    def predict_on_batch(self, prepared):
        """Returns the log-probabilities of prepared images, of shape `(batch, time_steps, classes)`."""
        return self._session.run(None, {self._name: prepared})[0]


def save(model, description, path):
    """Saves a Keras model and its metadata, a dictionary of JSON values, atomically; the suffix is `.keras`.

    The archive has one additional member, `reader.json`. Keras ignores it.
    """
    with files.atomic_write(Path(path)) as unfinished:
        model.save(unfinished)
        with zipfile.ZipFile(unfinished, "a") as archive:
            archive.writestr(DESCRIPTION, json.dumps(description, indent=1, ensure_ascii=False))


def load(path):
    """Returns the model in a file, after `safety` has checked it, and its metadata, as parsed from JSON.

    Argument and errors are those of `Reader.load`.
    """
    path = Path(path).absolute()
    if not path.is_file():
        found = "That is a folder." if path.is_dir() else "There is no such file."
        raise ValueError(f"Expected a saved reader at {path}. {found}")
    if path.suffix not in LOADERS:  # Keras chooses the format by the suffix, and some formats contain code
        raise not_a_reader(path, f"its name does not end in {' or '.join(LOADERS)}")
    load_model, packages, remedy = LOADERS[path.suffix]
    try:
        return load_model(path)
    except ImportError as error:
        raise ValueError(f"Expected {packages}, to read {path}. {error}. Use {remedy}.") from error
    except (ValueError, OSError) as error:
        raise not_a_reader(path, error) from error


def not_a_reader(path, reason):
    """Returns the error for a file that is not a reader."""
    return ValueError(
        f"Expected a reader that this project saved, a .keras or .onnx file with {DESCRIPTION} in it. "
        f"{path} is not one: {reason}"
    )


def _load_keras(path):
    description = safety.check_keras(path)
    import keras  # not at the top: ONNX files are read without Keras

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True), description
    except Exception as error:
        raise ValueError(f"Keras {keras.__version__} cannot load it: {error}") from error


def _load_onnx(path):
    model = OnnxModel(path)
    return model, model.description


LOADERS = {
    ".keras": (_load_keras, "Keras and TensorFlow", "pip install '.[keras]', or python -m tools.export"),
    ".onnx": (_load_onnx, "onnxruntime", "pip install onnxruntime"),
}
"""For each suffix: the function that returns the model and its metadata, the packages it needs, a remedy."""
