"""A reader as a file: a Keras archive or an ONNX model that also contains the reader's metadata."""

import functools
import json
import os
import zipfile
from pathlib import Path

from snippet_ocr import files, safety
from snippet_ocr.errors import ImageError, ReaderError
from snippet_ocr.safety import DESCRIPTION

BASE = "base"  # the name of the base reader
MEMORY_PER_CORE = 1_000_000_000  # bytes that an untrusted ONNX model may use


class OnnxModel:
    """An ONNX model with the part of a Keras model's interface that `Reader` uses.

    Its shapes are `("batch", image_height, "width")` and `("batch", "steps", classes)`. If the file is
    `trusted`, it is opened without checks, and without a limit of the memory that it uses.
    """

    def __init__(self, path, trusted=False):
        import onnxruntime

        content, self.description = safety.read_onnx(path, trusted)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # `Reader` runs one batch per core instead
        options.log_severity_level = 4  # errors become exceptions
        limits = {}
        if not trusted:
            _limit_memory()
            options.add_session_config_entry("session.use_env_allocators", "1")
            limits["disabled_optimizers"] = ["ConstantFolding"]  # it would allocate outside of the limit
        try:
            providers = ["CPUExecutionProvider"]
            self._session = onnxruntime.InferenceSession(content, options, providers, **limits)
        except Exception as error:  # onnxruntime raises exceptions of many types
            raise ValueError(f"onnxruntime {onnxruntime.__version__} cannot load it: {error}") from error
        (image,), (output,) = self._session.get_inputs(), self._session.get_outputs()
        self._name, self.input_shape, self.output_shape = image.name, tuple(image.shape), tuple(output.shape)

    def predict_on_batch(self, prepared):
        """Returns the log-probabilities of prepared images, of shape `(batch, time_steps, classes)`."""
        try:
            return self._session.run(None, {self._name: prepared})[0]
        except Exception as error:  # onnxruntime raises exceptions of many types
            raise ImageError(f"cannot be read by the model: {error}") from error


@functools.cache
def _limit_memory():
    """Limits the memory of all sessions with untrusted models in this process: about 1 GB per core."""
    import onnxruntime

    kinds = onnxruntime.OrtAllocatorType, onnxruntime.OrtMemType
    memory = onnxruntime.OrtMemoryInfo("Cpu", kinds[0].ORT_ARENA_ALLOCATOR, 0, kinds[1].DEFAULT)
    limit = MEMORY_PER_CORE * (1 + (os.cpu_count() or 1))  # a batch per core, and the weights
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg({"max_mem": limit}))


def save(model, description, path):
    """Saves a Keras model and its metadata, a dictionary of JSON values, atomically as a `.keras` file."""
    with files.atomic_write(Path(path)) as unfinished:
        model.save(unfinished)
        with zipfile.ZipFile(unfinished, "a") as archive:
            # Keras ignores additional members.
            archive.writestr(DESCRIPTION, json.dumps(description, indent=1, ensure_ascii=False))


def description(path):
    """Returns the metadata in a `.keras` or `.onnx` file, as parsed from JSON. The model is not opened."""
    onnx = path.suffix == ".onnx"
    try:
        return safety.read_onnx(path, trusted=True)[1] if onnx else safety.read_keras(path, trusted=True)
    except ValueError as error:
        raise not_a_reader(path, error) from error


def set_description(path, description):
    """Replaces the metadata in a `.keras` or `.onnx` file, atomically."""
    content = json.dumps(description, indent=1, ensure_ascii=False)
    with files.atomic_write(path) as unfinished:
        if path.suffix == ".onnx":
            import onnx

            model = onnx.load(path)
            onnx.helper.set_model_props(model, {DESCRIPTION: content})
            onnx.save(model, unfinished)
        else:
            with zipfile.ZipFile(path) as old, zipfile.ZipFile(unfinished, "w") as new:
                for name in old.namelist():
                    new.writestr(name, content if name == DESCRIPTION else old.read(name))


def locate(name):
    """Returns the absolute `Path` of a reader's file; `"base"` is the base reader of this package."""
    return Path(__file__).with_name("base.onnx") if str(name) == BASE else Path(name).absolute()


def load(path, trusted=False):
    """Returns the model in a file and its metadata. Arguments and errors are those of `Reader.load`."""
    path = locate(path)
    if not path.is_file():
        found = "That is a folder." if path.is_dir() else "There is no such file."
        raise ReaderError(f"Expected a saved reader at {path}. {found}")
    if path.suffix not in (".keras", ".onnx"):  # Keras chooses the format by the suffix; some contain code
        raise not_a_reader(path, "its name does not end in .keras or .onnx")
    try:
        if path.suffix == ".keras":
            return _load_keras(path, trusted)
        model = OnnxModel(path, trusted)
        return model, model.description
    except ImportError as error:
        needed, remedy = "onnxruntime", "pip install onnxruntime"
        if path.suffix == ".keras":
            needed, remedy = "Keras and TensorFlow", "the reader.onnx next to it, or pip install '.[keras]'"
        raise ReaderError(f"Expected {needed}, to read {path}. {error}. Use {remedy}.") from error
    except (ValueError, OSError) as error:
        raise not_a_reader(path, error) from error


def not_a_reader(path, reason):
    return ReaderError(
        f"Expected a reader that this project saved, a .keras or .onnx file with {DESCRIPTION} in it. "
        f"{path} is not one: {reason}"
    )


def _load_keras(path, trusted):
    description = safety.read_keras(path, trusted)
    import keras  # not at the top: ONNX files are read without Keras

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=not trusted), description
    except Exception as error:
        raise ValueError(f"Keras {keras.__version__} cannot load it: {error}") from error
