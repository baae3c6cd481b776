"""Everything about speed, side by side.

    python -m benchmarks.bench [DATA] [--quick]

runs `benchmarks.speed` and `benchmarks.cost`, writes what they found into the
section "Speed" of benchmarks/RESULTS.md and into docs/speed.png, and goes on
where it was if it is stopped. `--quick` takes about ten minutes: one training
of each system, the other three for 90 seconds; it only prints.
"""

import argparse
import datetime
import sys

import checkpoint
import configuration
from benchmarks import cost, speed
from benchmarks.study import RESULTS, use_defaults
from tools.notebook import PROJECT

BEGIN, END = "<!-- benchmarks.bench writes from here … -->", "<!-- … to here -->"
QUICK_LIMIT = 90
SEEDS, LIMIT = (1, 2, 3), 1200


def section(rows, cost_row):
    """Writes the section of RESULTS.md, in Markdown."""
    machine = checkpoint.environment()
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", "tensorflow", "keras"))
    row = rows[0]
    return "\n".join(
        [
            f"{datetime.date.today()}, {machine['machine']}, {versions}. Images: {row['images'].split()[0]}, "
            f"{row['training']} for training, {row['unseen']} unseen, the same for all systems; "
            f"seeds {', '.join(map(str, SEEDS))} choose them, and the first weights. "
            "Medians over the seeds; seconds from the first batch on, reading the unseen images "
            "after each epoch included.",
            "",
            speed.table(rows),
            "",
            "![Exact match over seconds of training](../docs/speed.png)",
            "",
            cost.table(cost_row),
        ]
    )


def rewrite(file, text):
    """Replaces what stands between the two marks of a file.

    Args:
        file: the `Path` of a text that holds `BEGIN` and `END` once.
        text: a string.

    Raises:
        ValueError: if the marks are not there.
    """
    before, begin, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"Expected {BEGIN} and {END} in {file}.")
    file.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main(arguments=None):
    """Runs the benchmarks and returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench", description="Runs all benchmarks of speed.")
    parser.add_argument("data", metavar="DATA", nargs="?", default="captcha_images")
    parser.add_argument("--quick", action="store_true", help="the main ratios, in ten minutes")
    options = parser.parse_args(arguments)
    use_defaults()
    data_dir = configuration.resolve(options.data)
    if options.quick:
        limits = dict.fromkeys(speed.SYSTEMS, QUICK_LIMIT) | {speed.NOTEBOOK: LIMIT}
        print(speed.table([speed.train(system, data_dir, 1, limit) for system, limit in limits.items()]))
        return 0
    rows = [speed.train(system, data_dir, seed, LIMIT) for seed in SEEDS for system in speed.SYSTEMS]
    speed.draw(rows).savefig(PROJECT / "docs" / "speed.png")
    rewrite(RESULTS.parent / "RESULTS.md", section(rows, cost.train(data_dir)))
    print(f"written: {RESULTS.parent / 'RESULTS.md'} and {PROJECT / 'docs' / 'speed.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
