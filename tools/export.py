"""Exports a reader.keras to one ONNX file, or a reader.onnx to one HTML file that reads in a browser.

The notebook exports its reader to ONNX itself. Before an ONNX file is saved, up to 200 images are read with
onnxruntime and with Keras, and compared.
"""

import argparse
import contextlib
import sys
from pathlib import Path

from snippet_ocr import Reader, images, page
from training import PROJECT, parameters

MAX_IMAGES = 200  # to compare


def prepare(paths, reader):
    """Prepares the first `MAX_IMAGES` readable images; returns a list of them, as `Reader.prepare` does."""
    prepared = []
    for path in paths:
        with contextlib.suppress(ValueError):
            prepared.append(images.load_fitted(path, reader.widths, reader.image_height))
        if len(prepared) == MAX_IMAGES:
            break
    if not prepared:
        raise ValueError(f"Expected images to compare. None of {len(paths)} can be read. Set --images.")
    return prepared


def training_folder(reader):
    """Returns the folder of images that a reader was trained on, or `captcha_images` if it is missing."""
    with contextlib.suppress(KeyError, TypeError):  # not every reader was trained by the notebook
        folder = parameters.resolve(reader.provenance["parameters"]["data_dir"])
        if folder.is_dir():
            return folder
    return PROJECT / "captcha_images"


def main(arguments=None):
    """Runs the command line and returns the exit code."""
    example = "Example: python -m tools.export runs/meters-1/reader.keras --images ~/meters"
    parser = argparse.ArgumentParser("python -m tools.export", description=__doc__, epilog=example)
    option = parser.add_argument
    option("reader", metavar="READER", type=Path, help="the reader to export")
    option("--to", choices=("onnx", "html"), default="onnx", help="the format (default: onnx)")
    option("--out", metavar="FILE", type=Path, help="the new file (default: next to the reader)")
    images_help = "images for the comparison (default: the training's if found, otherwise captcha_images)"
    option("--images", metavar="FOLDER", type=Path, help=images_help)
    option("--trust", action="store_true", help="open the reader without checks: it is your own")
    options = parser.parse_args(arguments)
    try:
        if options.to == "html":
            print(f"exported: {page.write(options.reader, options.out, options.trust)}")
            return 0
        from training.export import export  # --help does not wait for Keras

        reader = Reader.load(options.reader, options.trust)
        out = (options.out or options.reader.with_suffix(".onnx")).absolute()
        if out.suffix != ".onnx" or out.exists():
            raise ValueError(
                f"Expected a new file that ends in .onnx. Delete {out}, or choose another --out."
            )
        folder = options.images or training_folder(reader)
        prepared = prepare(images.find_files([folder]), reader)
        difference = export(reader, out, prepared)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"compared {len(prepared)} images of {folder}: same texts, probabilities ± {difference:.1e}")
    print(f"exported: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
