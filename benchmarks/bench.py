"""All benchmarks of training speed.

    python -m benchmarks.bench [DATA] [--quick]

runs `benchmarks.speed` and `benchmarks.cost` (hours), writes the results into
the section "Speed" of benchmarks/RESULTS.md, and draws docs/speed.png. An
interrupted run resumes: rows in benchmarks/results/ are not measured again. To
measure on another machine, delete speed.jsonl and cost.jsonl there first.
`--quick` takes about ten minutes and writes no file except new rows: it trains
each system once, only long enough to show the main ratios.
"""

import argparse
import sys

from benchmarks import cost, speed
from benchmarks.study import RESULTS, add_data_argument, use_defaults
from training import PROJECT, parameters

BEGIN, END = "<!-- benchmarks.bench writes from here … -->", "<!-- … to here -->"
SEEDS, TIME_LIMIT = (1, 2, 3), 300
QUICK_TIME_LIMITS = {
    speed.NOTEBOOK: 120,
    speed.FROM_SCRATCH: 120,
    speed.ANCESTOR: 30,
    speed.EXAMPLE: 210,
    speed.PLATES: 220,
}
"""Seconds of each system's training with `--quick`."""


def section(rows, cost_row):
    """Returns the section of RESULTS.md, in Markdown."""
    first = rows[0]
    versions = ", ".join(f"{name} {first[name]}" for name in ("python", "tensorflow", "keras"))
    dates = sorted({row["date"] for row in rows})
    intro = (
        f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))}; {first['machine']}; {versions}. "
        f"Images: {first['images'].rsplit(' ', 1)[0]}, {first['training']} for training and "
        f"{first['unseen']} unseen, the same for all systems; seeds {', '.join(map(str, SEEDS))} choose them "
        "and the first weights. Medians over the seeds. Seconds count from the start of the training and "
        f"include reading the unseen images after each epoch; a training ends at {speed.MILESTONES[-1]:.0%}, "
        f"after {TIME_LIMIT} s, or with its own last epoch."
    )
    figure = "![Exact match over seconds of training](../docs/speed.png)"
    return "\n\n".join([intro, speed.table(rows), figure, cost.table(cost_row)])


def split_at_marks(file):
    """Returns the text before `BEGIN` and the text after `END` in a file; raises ValueError without them."""
    before, begin, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(
            f"Expected the lines {BEGIN} and {END} in {file}. Put them where the section belongs."
        )
    return before, after


def replace_section(file, text):
    """Replaces the text between the two marks of a file."""
    before, after = split_at_marks(file)
    file.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main(arguments=None):
    """Runs the benchmarks and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench", description="Runs all benchmarks of training speed."
    )
    add_data_argument(parser)
    parser.add_argument("--quick", action="store_true", help="only the main ratios, in about ten minutes")
    options = parser.parse_args(arguments)
    use_defaults()
    data_dir = parameters.resolve(options.data)
    if options.quick:
        limits = QUICK_TIME_LIMITS.items()
        print(speed.table([speed.train(system, data_dir, 1, limit) for system, limit in limits]))
        return 0
    results, figure = RESULTS.parent / "RESULTS.md", PROJECT / "docs" / "speed.png"
    split_at_marks(results)  # fails now, not after hours
    rows = [speed.train(system, data_dir, seed, TIME_LIMIT) for seed in SEEDS for system in speed.SYSTEMS]
    speed.draw(rows).savefig(figure)
    replace_section(results, section(rows, cost.train(data_dir)))
    print(f"written: {results} and {figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
