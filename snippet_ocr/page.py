"""Writes a reader as one HTML page, which reads images in a browser without a server."""

import base64
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from snippet_ocr import files, images, model_file
from snippet_ocr.errors import Error, ReaderError
from snippet_ocr.reader import Reader

VERSION = "1.30.0"  # of onnxruntime-web (MIT), a package of npm
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
RUNTIME = {"runtime": "ort.wasm.bundle.min.mjs", "wasm": "ort-wasm-simd-threaded.wasm"}  # without WebGPU


def write(model, out=None, trusted=False):
    """Writes a page that contains a reader and onnxruntime-web; returns its absolute path.

    Args:
        model, trusted: the path of a `reader.onnx`, or `"base"`; the arguments of `Reader.load`.
        out: the path of a new file. By default, it is next to the reader, with the suffix `.html`, or
            `base.html` in the current folder.

    Raises:
        Error: if the reader is refused or cannot read in a page, if the page exists, or without npm.
        OSError: if the page cannot be written.
    """
    reader, path = Reader.load(model, trusted), model_file.locate(model)
    if path.suffix != ".onnx" or reader.alphabet.logical:
        raise ReaderError(f"Expected a reader.onnx of a left-to-right script for a page. {path} is not one.")
    out = Path(
        out or ("base.html" if str(model) == model_file.BASE else path.with_suffix(".html"))
    ).absolute()
    if out.suffix != ".html" or out.exists():
        raise Error(f"Expected a new file that ends in .html. Delete {out}, or choose another --out.")
    names = ("alphabet", "widths", "image_height", "threshold")
    settings = {name: reader.metadata()[name] for name in names} | {"max_pixels": images.MAX_PIXELS}
    parts = {"settings": json.dumps(settings).replace("<", r"\u003c"), "version": VERSION}
    for name, content in (_runtime() | {"model": path.read_bytes()}).items():
        parts[name] = base64.b64encode(gzip.compress(content, mtime=0)).decode()
    page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    with files.atomic_write(out) as unfinished:
        unfinished.write_text(re.sub(r"@(\w+)@", lambda found: parts[found[1]], page), encoding="utf-8")
    return out


def _runtime():
    """Returns the files of `RUNTIME` as bytes by name, after a download to the user's cache if needed."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "snippet-ocr"
    archive = cache / f"onnxruntime-web-{VERSION}.tgz"
    if not archive.exists():
        if (npm := shutil.which("npm")) is None:
            raise Error("Expected npm, which downloads onnxruntime-web for the page. Install Node.js.")
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            command = [npm, "pack", f"onnxruntime-web@{VERSION}", "--pack-destination", folder]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            if done.returncode:
                raise Error(f"npm cannot download onnxruntime-web {VERSION}: {done.stderr.strip()[-500:]}")
            os.replace(Path(folder, archive.name), archive)
    content = archive.read_bytes()
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != SHA512:
        raise Error(f"Expected {archive} to be the published version {VERSION}. It is not. Delete it.")
    with tarfile.open(fileobj=io.BytesIO(content)) as members:
        return {name: members.extractfile(f"package/dist/{file}").read() for name, file in RUNTIME.items()}
