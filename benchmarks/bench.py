"""Everything about speed, side by side.

    python -m benchmarks.bench [DATA] [--quick]

runs `benchmarks.speed` and `benchmarks.cost`, writes what they found into the
section "Speed" of benchmarks/RESULTS.md and into docs/speed.png, and goes on
where it was if it is stopped. What benchmarks/results/ holds already is not
measured again: to measure another machine, delete speed.jsonl and cost.jsonl
there first. `--quick` takes about ten minutes and rewrites nothing: one
training of each system, for as long as it takes to see the main ratios.
"""

import argparse
import sys

from benchmarks import cost, speed
from benchmarks.study import RESULTS, use_defaults
from training import PROJECT, parameters

BEGIN, END = "<!-- benchmarks.bench writes from here … -->", "<!-- … to here -->"
SEEDS, LIMIT = (1, 2, 3), 1200
QUICK = {speed.NOTEBOOK: 120, speed.ANCESTOR: 30, speed.EXAMPLE: 210, speed.PLATES: 220}
"""The seconds of each system's training."""


def section(rows, cost_row):
    """Writes the section of RESULTS.md, in Markdown."""
    row = rows[0]
    versions = ", ".join(f"{name} {row[name]}" for name in ("python", "tensorflow", "keras"))
    dates = sorted({one["date"] for one in rows})
    intro = (
        f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))}; {row['machine']}; {versions}. "
        f"Images: {row['images'].rsplit(' ', 1)[0]}, {row['training']} for training and {row['unseen']} "
        f"unseen, the same for all systems; seeds {', '.join(map(str, SEEDS))} choose them and the first "
        "weights. Medians over the seeds. Seconds count from the beginning of the training, reading the "
        f"unseen images after each epoch included; a training ends at {speed.MILESTONES[-1]:.0%}, "
        f"after {LIMIT} s, or with its own last epoch."
    )
    figure = "![Exact match over seconds of training](../docs/speed.png)"
    return "\n\n".join([intro, speed.table(rows), figure, cost.table(cost_row)])


def split_at_marks(file):
    """What stands before and after the section of a file.

    Args:
        file: the `Path` of a text that holds `BEGIN` and `END`.

    Returns:
        A tuple of two strings.

    Raises:
        ValueError: if the marks are not there.
    """
    before, begin, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"Expected {BEGIN} and {END} in {file}.")
    return before, after


def rewrite(file, text):
    """Replaces what stands between the two marks of a file."""
    before, after = split_at_marks(file)
    file.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main(arguments=None):
    """Runs the benchmarks and returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench", description="Runs all benchmarks of speed.")
    parser.add_argument("data", metavar="DATA", nargs="?", default="captcha_images")
    parser.add_argument("--quick", action="store_true", help="the main ratios, in ten minutes")
    options = parser.parse_args(arguments)
    use_defaults()
    data_dir = parameters.resolve(options.data)
    if options.quick:
        print(speed.table([speed.train(system, data_dir, 1, limit) for system, limit in QUICK.items()]))
        return 0
    results = RESULTS.parent / "RESULTS.md"
    split_at_marks(results)  # better now than after hours
    rows = [speed.train(system, data_dir, seed, LIMIT) for seed in SEEDS for system in speed.SYSTEMS]
    speed.draw(rows).savefig(PROJECT / "docs" / "speed.png")
    rewrite(results, section(rows, cost.train(data_dir)))
    print(f"written: {results} and {PROJECT / 'docs' / 'speed.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
