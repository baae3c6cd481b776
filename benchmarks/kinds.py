"""How good is a reader on each kind of image, next to what people would use instead?

    make kinds DATA="FOLDER …" [OPTIONS="--systems scratch rapidocr --sets NAME --seeds 1 --labels 100"]

Each FOLDER is a folder of sets with the subfolders `train` and `test`, or one such set, or a folder of
labelled images, of which a fifth is held back. The notebook is trained on each set with its defaults, from
scratch and from the base reader. The other systems read the same held-out images, in their own environments.
Those that train have the same images and as much time as the notebook took from scratch.

Each row is appended to benchmarks/results/kinds.jsonl as soon as it is measured, and is not measured again.
The table of all recorded rows is written to benchmarks/results/kinds.md. A system that is not installed is
listed there with the reason.
"""

import argparse
import statistics
import sys
import tempfile
import time
import traceback
import unicodedata
from pathlib import Path
from typing import NamedTuple

import utils
from benchmarks import rivals, study
from benchmarks.learning_curve import base_version, choose, split
from benchmarks.reading import run_system
from benchmarks.rivals import SCRATCH, TITLES, TRANSFER
from benchmarks.speed import write_split
from snippet_ocr.alphabet import reorder
from training import metrics, parameters

OURS = {SCRATCH: "", TRANSFER: "auto"}  # the setting `base_reader`
SINGLE = 50  # images that are read one by one, for the milliseconds
KRAKEN_SETS = 2  # sets on which kraken is trained, unless --systems asks for it: those with the longest texts
NOTES = """Written by `make kinds` from kinds.jsonl. All systems read the same images, which no training saw.
Trained systems have the same labels, and as many seconds as the notebook took from scratch. Scores are those
of the median seed; seconds and milliseconds are medians. Before a text is compared, it is put into Unicode's
form NFKC, and characters that no label of the set has are removed: a system that does not know the alphabet
also reads separators and logos. Unseen texts are the label of no image to train on. The size is that of the
files that read, in MB; milliseconds are those of images read one by one, from their files."""


class Kind(NamedTuple):
    """A set of labelled images: its name, the `utils.Sample`s to train on, and those that are held out."""

    name: str
    given: list
    held_out: list


def find_kinds(folders):
    """Finds the sets in folders; returns a list of `Kind`s. Raises ValueError if two have the same name."""
    found = {}
    for folder in map(parameters.resolve, folders):
        sets = sorted(path.parent for path in folder.glob("*/train") if (path.parent / "test").is_dir())
        for path in sets or [folder]:
            if path.name in found:
                raise ValueError(f"Expected sets with different names. Found two named {path.name}.")
            found[path.name] = Kind(path.name, *split(path))
    return list(found.values())


def normalise(text, characters):
    """Returns a text in Unicode's form NFKC, without characters that no label of a set has in either case.

    A system that does not know the alphabet of a set also reads separators and logos.
    """
    known = set(characters.casefold())
    text = "".join(
        one for one in unicodedata.normalize("NFKC", text) if one.isspace() or one.casefold() in known
    )
    return (" " if " " in known else "").join(text.split())


def score(kind, texts, given):
    """Scores the readings of a set's held-out images.

    Args:
        kind: a `Kind`.
        texts: the readings, a list of strings.
        given: the `utils.Sample`s whose texts are not unseen.

    Returns:
        A dictionary: `test`, as `metrics.score` returns it, and exact match `regardless of case`.
    """
    characters = "".join(sample.label for sample in kind.given + kind.held_out)
    characters = unicodedata.normalize("NFKC", characters)
    labels = [normalise(sample.label, characters) for sample in kind.held_out]
    texts = [normalise(text, characters) for text in texts]
    # Labels of a right-to-left script may be in either order.
    pairs = list(zip(labels, texts, strict=True))
    texts = [reorder(text) if reorder(text) == label else text for label, text in pairs]
    known = {normalise(sample.label, characters) for sample in given}
    folded = [list(map(str.casefold, one)) for one in (labels, texts)]
    return {
        "test": metrics.score(labels, texts, known),
        "regardless of case": metrics.score(*folded)["exact_match"],
    }


def read(system, kind, given, reader, arguments, files):
    """Reads the held-out images of a `Kind` with a system in its own environment; returns the figures.

    Args:
        system: a name in `TITLES`.
        kind, given: as in `score`.
        reader, arguments, files: as `rivals.prepare_untrained` returns them.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_split(Path(folder), {"test": kind.held_out})
        command = [rivals.python(system), "-m", "benchmarks.read_with", reader, folder, SINGLE, 0, *arguments]
        found = run_system(f"{kind.name}: {system}", command)
    labels = [sample.label for sample in kind.held_out]
    print("  ".join(f"{label!r} {text!r}" for label, text in zip(labels[:8], found["texts"], strict=False)))
    return {
        **score(kind, found["texts"], given),
        "milliseconds": round(statistics.median(found["milliseconds"]), 2),
        "megabytes": round(sum(file.stat().st_size for file in files) / 1e6, 1),
    }


def measure_ours(system, kind, seed, count):
    """Trains the notebook on `count` images of a `Kind` (None: on all), unless recorded; returns the row."""
    chosen, base = choose(kind.given, count, seed), OURS[system]
    case = {"system": system, "set": kind.name, "seed": seed, "labels": len(chosen)}
    case |= {"base file": base_version(base), "held out": study.name_images(kind.name, kind.held_out)}

    def finish(run_dir):
        files = [run_dir / "reader.onnx"]
        return read(system, kind, chosen, "reader", files, files)

    settings = {"seed": seed, "base_reader": base}
    return study.measure_held_out("kinds", case, chosen, kind.held_out, kind.name, finish=finish, **settings)


def measure_trained(system, kind, seed, count):
    """Trains another system on the images of `measure_ours`, unless recorded; returns the row."""
    chosen = choose(kind.given, count, seed)
    identity = {"system": system, "set": kind.name, "seed": seed, "labels": len(chosen)}
    identity |= {"images": study.name_images(kind.name, chosen), "version": rivals.version(system)}
    limit = measure_ours(SCRATCH, kind, seed, count)["seconds"]
    identity |= {"held out": study.name_images(kind.name, kind.held_out), "limit": limit}

    def train():
        training, validation, rest = utils.split_data(chosen, seed, test_share=0.01)
        print(f"{kind.name}: {system}, seed {seed}, {limit:.0f} s of training", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            write_split(Path(folder), {"training": training + rest, "unseen": validation})
            started = time.monotonic()
            prepared = rivals.TRAINERS[system](Path(folder), seed, limit, chosen)
            seconds = round(min(limit, time.monotonic() - started), 1)
            return {"seconds": seconds, **read(system, kind, chosen, *prepared)}

    return study.record("kinds", identity, train)


def measure_untrained(system, kind):
    """Reads the held-out images of a `Kind` with a system as it comes, unless recorded; returns the row."""
    identity = {"system": system, "set": kind.name, "seed": None, "labels": 0}
    identity |= {"version": rivals.version(system), "held out": study.name_images(kind.name, kind.held_out)}
    labels = [sample.label for sample in kind.given]
    return study.record(
        "kinds", identity, lambda: read(system, kind, kind.given, *rivals.prepare_untrained(system, labels))
    )


def measure(system, kind, seeds, count):
    """Measures a system on a `Kind`, with each seed if it is trained."""
    if system not in OURS and system not in rivals.TRAINERS:
        measure_untrained(system, kind)
        return
    for seed in seeds:
        (measure_ours if system in OURS else measure_trained)(system, kind, seed, count)


def is_measured(system, kind, kinds, asked):
    """Returns whether a system is measured on one of all sets; `asked` are the systems of --systems."""
    if asked:
        return system in asked
    if system == rivals.KRAKEN:
        lengths = {one.name: statistics.mean(len(sample.label) for sample in one.given) for one in kinds}
        return kind.name in sorted(lengths, key=lengths.get)[-KRAKEN_SETS:]
    return system != rivals.DDDDOCR or "captcha" in kind.name


def measure_all(kinds, options):
    """Measures systems on sets as the options say; returns `(set, system, reason)` for those that failed."""
    failed = []
    for kind in kinds:
        if kind.name not in (options.sets or [kind.name]):
            continue
        for system in TITLES:
            if not is_measured(system, kind, kinds, options.systems) or rivals.reason_not_installed(system):
                continue
            try:
                measure(system, kind, options.seeds, options.labels)
            except Exception as error:  # a system that fails, in whatever way, does not stop the others
                traceback.print_exc()
                failed.append(
                    (kind.name, system, f"failed: {(str(error).strip() or repr(error)).splitlines()[-1]}")
                )
    return failed


def table(rows, problems=()):
    """Formats rows as a Markdown table: a line for each set, number of labels and system, with all seeds.

    Args:
        rows: a list of dictionaries. Of several rows of the same training, the last one counts.
        problems: a list of tuples `(set, system, reason)` for systems that were not measured.
    """
    latest = {tuple(row[name] for name in ("set", "labels", "system", "seed")): row for row in rows}
    order = list(TITLES)
    groups = {}  # set, labels and system → the rows of all seeds
    for *key, seed in sorted(latest, key=lambda key: (key[0], -key[1], order.index(key[2]), key[3] or 0)):
        groups.setdefault(tuple(key), []).append(latest[*key, seed])
    header = ["set", "system", "labels", "texts correct, by seed", "exact match (95% interval)"]
    header += ["regardless of case", "character error rate", "unseen texts", "seconds of training"]
    header += ["MB", "ms an image"]
    lines = [_line(*key, same) for key, same in groups.items()]
    lines += [[name, system, "–", reason, *["–"] * 7] for name, system, reason in problems]
    return study.markdown_table(header, lines)


def _line(name, labels, system, rows):
    """Formats the rows of all seeds: the scores of the median seed, median seconds and milliseconds."""
    row = sorted(rows, key=lambda row: row["test"]["right"])[(len(rows) - 1) // 2]
    test, unseen = row["test"], row["test"]["unseen"]
    low, high = test["interval"]
    return [
        name,
        TITLES[system].format(**row),
        labels or "–",
        f"{' / '.join(str(one['test']['right']) for one in rows)} of {test['images']}",
        f"{test['exact_match']:.1%} ({low:.1%}–{high:.1%})",
        f"{row['regardless of case']:.1%}",
        f"{test['character_error_rate']:.2%}",
        f"{unseen['right'] / unseen['images']:.1%} of {unseen['images']}" if unseen["images"] else "–",
        f"{statistics.median(one['seconds'] for one in rows):.0f}" if labels else "–",
        row["megabytes"],
        f"{statistics.median(one['milliseconds'] for one in rows):.1f}",
    ]


def main(arguments=None):
    """Runs the benchmark and returns the exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.kinds", description=__doc__.split("\n")[0])
    parser.add_argument("folders", metavar="FOLDER", nargs="+", help="a folder of sets, or of images")
    systems = "default: all; kraken only on the two sets with the longest texts, ddddocr only on captchas"
    parser.add_argument("--systems", nargs="+", choices=list(TITLES), help=systems)
    parser.add_argument("--sets", metavar="NAME", nargs="+", help="default: all sets of the folders")
    parser.add_argument("--seeds", metavar="N", nargs="+", type=int, default=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument("--labels", metavar="N", type=int, help="train on N images of each set; default: all")
    options = parser.parse_args(arguments)
    study.use_defaults()
    kinds = find_kinds(options.folders)
    names = [kind.name for kind in kinds]
    if unknown := set(options.sets or names) - set(names):
        parser.error(f"expected --sets among {', '.join(names)}, found {', '.join(sorted(unknown))}")
    failed = measure_all(kinds, options)
    missing = [("all", title, reason) for title, reason in rivals.UNAVAILABLE.items()]
    for system in TITLES:
        if reason := rivals.reason_not_installed(system):
            missing.append(("all", system, f"not installed: {reason}"))
    found = table(study.recorded_rows("kinds"), missing + failed)
    (study.RESULTS / "kinds.md").write_text(f"{NOTES}\n\n{found}\n", encoding="utf-8")
    print(found)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
