"""Exports a reader to ONNX, and checks that the new file reads like the Keras model."""

import numpy as np

from snippet_ocr import Reader, files, model_file
from snippet_ocr.decoding import greedy_decode
from training import onnx_graph

MAX_IMAGES, TOLERANCE = 200, 1e-3  # images to compare; accepted difference of probabilities


def export(reader, path, prepared):
    """Exports a `Reader` with a Keras model to a file, after a check that it reads `prepared` like Keras.

    Returns the maximum difference of the probabilities.

    Raises:
        ValueError: if the reader is an ONNX file already, or its model cannot be exported, with the reason.
        OSError: if the file cannot be written.
    """
    if isinstance(reader.model, model_file.OnnxModel):
        raise ValueError("Expected a .keras file. This reader is already an ONNX file.")
    reasons = []
    for by_layer in (True, False):
        try:
            return _export(reader, path, prepared, by_layer)
        except OSError:
            raise
        except Exception as error:  # Keras, tf2onnx and onnx raise exceptions of many types
            reasons.append(" ".join(f"{type(error).__name__}: {error}".split())[:300])
    reason = "; with Keras's own exporter: ".join(dict.fromkeys(reasons))
    raise ValueError(f"Expected a model that can be exported to ONNX. This one cannot: {reason}")


def _export(reader, path, prepared, by_layer):
    with files.atomic_write(path) as unfinished:
        converted = onnx_graph.write(reader.model, reader.metadata(), by_layer)
        unfinished.write_bytes(converted.SerializeToString())
        exported = Reader(model_file.OnnxModel(unfinished, trusted=True), reader.alphabet, reader.widths)
        rows = [one.log_probabilities(prepared) for one in (reader, exported)]  # (steps, classes) each
        difference = max(float(np.abs(np.exp(a) - np.exp(b)).max()) for a, b in zip(*rows, strict=True))
        texts = [greedy_decode(pair) for pair in zip(*rows, strict=True)]
        different = sum(not np.array_equal(*pair) for pair in texts)
        if different or not difference <= TOLERANCE:  # also if it is NaN
            raise ValueError(
                f"the file reads {different} of {len(prepared)} images differently than Keras; "
                f"probabilities differ by up to {difference:.1e}, not {TOLERANCE:.0e}"
            )
    return difference


def save(reader, folder, paths):
    """Saves a reader in a run's folder: `reader.keras` for training, and `reader.onnx` for reading.

    Args:
        reader, folder: a `Reader` with a Keras model, and a `Path`.
        paths: a list of at least one image, on which both files are compared.

    Returns:
        A tuple: the reader, loaded from `reader.onnx` if the model can be exported; the arguments with which
        the command opens this file, a string; and a message.
    """
    keras_file, onnx_file = folder / "reader.keras", folder / "reader.onnx"
    reader.save(keras_file)
    try:
        prepared = reader.prepare(paths[:MAX_IMAGES])
        difference = export(reader, onnx_file, prepared)
        path, message = onnx_file, f"reader.onnx: same texts as Keras, probabilities ± {difference:.1e}"
    except ValueError as error:
        onnx_file.unlink(missing_ok=True)  # of an earlier model
        path, message = keras_file, f"no reader.onnx, read with reader.keras: {error}"
    try:
        return Reader.load(path), str(path), message
    except ValueError as error:
        refused = f"{message}\n{path.name} needs --trust: {error}"
    try:
        return Reader.load(path, trusted=True), f"--trust {path}", refused
    except ValueError as error:  # Keras cannot load layers that the notebook defines
        return reader, f"--trust {path}", f"{message}\n{path.name} cannot be loaded: {error}"
