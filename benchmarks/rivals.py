"""The systems that `benchmarks.kinds` compares: how each is installed, trained and called.

Each one but Tesseract has a virtual environment of its own, `make .venv-NAME/installed`, from
benchmarks/requirements-NAME.txt. Tesseract is Debian's package tesseract-ocr.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

from benchmarks import reading
from benchmarks.clock import read_curve
from training import PROJECT, label_order

SCRATCH, TRANSFER, BASE = "scratch", "transfer", "base"
PLATES, KRAKEN, RAPIDOCR, TESSERACT, DDDDOCR = "fast-plate-ocr", "kraken", "rapidocr", "tesseract", "ddddocr"
TITLES = {
    SCRATCH: "this notebook, from scratch",
    TRANSFER: "this notebook, from the base reader",
    BASE: "base reader, untrained",
    PLATES: "fast-plate-ocr {version}, trained",
    KRAKEN: "kraken {version}, trained",
    RAPIDOCR: "PP-OCRv6 small (rapidocr {version}), untrained",
    TESSERACT: "Tesseract {version}, untrained",
    DDDDOCR: "ddddocr {version}, untrained",
}
"""The systems, in the order of the table. Untrained means: as it comes, not trained on images of the set."""

UNAVAILABLE = {
    "PP-OCRv6 small, fine-tuned": "not installed: no package contains its training code; paddleocr 3.7 only "
    "reads, and paddlex 3.7 clones the repository PaddleOCR to train"
}
FILES = {
    BASE: "snippet_ocr/base.onnx",
    RAPIDOCR: ".venv-rapidocr/lib/*/site-packages/rapidocr/models/PP-OCRv6_rec_small.onnx",
    DDDDOCR: ".venv-ddddocr/lib/*/site-packages/ddddocr/common.onnx",
}
"""The models of systems that read untrained, as patterns of paths in the project."""

TESSDATA = "/usr/share/tesseract-ocr/5/tessdata"
LANGUAGES = {"ARABIC": "ara", "CJK": "chi_sim"}  # words in the names of characters → Tesseract's languages
MAX_EPOCHS = 150  # of fast-plate-ocr, its default


def environment(system):
    """Returns the folder of a system's virtual environment."""
    return PROJECT / f".venv-{system}"


def requirements(system):
    """Returns the file of a system's requirements. It does not exist for a system without environment."""
    return PROJECT / "benchmarks" / f"requirements-{system}.txt"


def python(system):
    """Returns the Python that runs a system."""
    return environment(system) / "bin" / "python" if requirements(system).exists() else sys.executable


def reason_not_installed(system):
    """Returns why a system cannot be used, in a line; an empty string if it is installed."""
    if system == TESSERACT and shutil.which("tesseract") is None:
        return "apt-get install tesseract-ocr tesseract-ocr-ara tesseract-ocr-chi-sim"
    if not requirements(system).exists() or (environment(system) / "installed").exists():
        return ""
    log = environment(system) / "install.log"
    lines = log.read_text(encoding="utf-8").strip().splitlines() if log.exists() else []
    return lines[-1].strip() if lines else f"make .venv-{system}/installed"


def version(system):
    """Returns the version of a system: of its package or program, or a hash of the base reader."""
    if system == BASE:
        return hashlib.sha256((PROJECT / FILES[BASE]).read_bytes()).hexdigest()[:8]
    if system == TESSERACT:
        return subprocess.run(["tesseract", "--version"], capture_output=True, text=True).stdout.split()[1]
    pins = requirements(system).read_text(encoding="utf-8")
    return re.search(rf"^{system}==(.*)$", pins, re.MULTILINE)[1]


def prepare_untrained(system, labels):
    """Returns how a system reads without training.

    Args:
        system: `BASE`, `RAPIDOCR`, `TESSERACT` or `DDDDOCR`.
        labels: the labels of a set, which decide Tesseract's language.

    Returns:
        A tuple of the system's name in `benchmarks.read_with`, its arguments, and the `Path`s of its models.
    """
    if system == TESSERACT:
        names = " ".join(unicodedata.name(character, "") for character in set("".join(labels)))
        language = next((code for word, code in LANGUAGES.items() if word in names), "eng")
        # Mode 7 is a single line of text.
        return system, ["--psm", 7, "-l", language], [Path(TESSDATA, f"{language}.traineddata")]
    files = list(PROJECT.glob(FILES[system]))
    return ("reader", files, files) if system == BASE else (system, [], files)


def affordable_epochs(curve, limit):
    """Returns the number of epochs that fit into a time, from 1 to `MAX_EPOCHS`.

    Args:
        curve: the seconds and the exact match of one or two epochs, as `read_curve` returns them.
        limit: the time in seconds.
    """
    first, second = curve[0][0], curve[-1][0]
    epoch = second - first or first  # seconds; the first epoch takes longer, because it traces the graph
    return max(1, min(MAX_EPOCHS, 1 + int((limit - first) / epoch)))


def train_plates(folder, seed, limit, samples):
    """Trains fast-plate-ocr for a limited time.

    Its learning rate falls until the last epoch, so its epochs are those that fit into the time. Images have
    the height and the colours of its own configurations, and their width for texts of up to 10 characters;
    longer texts have as many pixels per character.

    Args:
        folder: the `Path` of a folder that `write_split` filled with `training` and `unseen`.
        seed: an integer.
        limit: seconds.
        samples: the `utils.Sample`s of both splits.

    Returns:
        A tuple as `prepare_untrained` returns it.
    """
    slots = max(10, *(len(sample.label) for sample in samples))
    size = ("--height", 64, "--width", 32 * -(-slots * 4 // 10), "--color", "rgb")
    # No exact match ends the training: a validation split may be small.
    options = ("--seed", seed, "--target", 2, "--limit", limit, *size)
    reading.run_plates(folder, *options, "--epochs", 2)
    epochs = affordable_epochs(read_curve(folder / "curve.csv"), limit)
    shutil.rmtree(folder / "trained")
    files = reading.train_plates(folder, folder / "kept", *options, "--epochs", epochs)
    return "plates", files, files[:1]


def train_kraken(folder, seed, limit, samples):
    """Trains kraken for a limited time; arguments and result are those of `train_plates`."""
    order, _ = label_order.find_order(samples)
    options = ["--seed", str(seed), "--limit", str(limit), "--order", order]
    command = [python(KRAKEN), "-m", "benchmarks.kraken_baseline", folder, *options]
    subprocess.run(command, cwd=PROJECT, check=True)
    (model,) = (folder / "model").glob("best_*")
    return "kraken", [model, order], [model]


TRAINERS = {PLATES: train_plates, KRAKEN: train_kraken}
