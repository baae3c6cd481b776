"""How many labelled images are needed?

    python -m benchmarks.learning_curve DATA

holds back a fifth of a folder's images for the test and trains the notebook on
50, 100, 200, 400 and all of the others; a tenth of them is used for early
stopping. The rows are appended to benchmarks/results/learning_curve.jsonl, the
figure is saved as docs/learning_curve.png.
"""

import argparse
import sys

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, ScalarFormatter

import utils
from benchmarks.study import SEED, measure_held_out, rows_table
from training import PROJECT, parameters, plots

COUNTS = (50, 100, 200, 400)
COLUMNS = {
    "images given": "{images given}",
    "exact match (95% interval)": (
        "{test[right]} of {test[images]}, {test[exact_match]:.1%} "
        "({test[interval][0]:.1%}–{test[interval][1]:.1%})"
    ),
    "character error rate": "{test[character_error_rate]:.2%}",
    "epochs (best)": "{epochs} ({best epoch})",
    "seconds": "{seconds:.0f}",
}
"""The table's columns, as in `study.rows_table`."""


def draw(rows):
    """Draws exact match over the number of images; returns a matplotlib `Figure`."""
    figure = Figure(figsize=(6, 3.6), dpi=100, layout="constrained")
    axis = figure.subplots()
    counts = [row["images given"] for row in rows]
    exact = [row["test"]["exact_match"] for row in rows]
    ends = zip(*(row["test"]["interval"] for row in rows), strict=True)  # all lower ends, all upper ends
    errors = [[abs(end - match) for end, match in zip(side, exact, strict=True)] for side in ends]
    axis.errorbar(counts, exact, errors, color=plots.BLUE, marker="o", capsize=4)
    axis.set(xscale="log", xlabel="labelled images given", ylim=(-0.02, 1.02))
    axis.set(ylabel=f"exact match on {rows[0]['test']['images']} others")
    axis.set_xticks(counts)
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.minorticks_off()
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.grid(alpha=0.3)
    return figure


def main(arguments=None):
    """Runs the study and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning_curve",
        description="Measures exact match over the number of labelled images.",
    )
    parser.add_argument("data", metavar="DATA", help="the folder of labelled images")
    options = parser.parse_args(arguments)
    data_dir = parameters.resolve(options.data)
    samples, _ = utils.find_images(data_dir)
    training, validation, held_out = utils.split_data(samples, SEED, test_share=0.2)
    given = training + validation
    rows = [
        measure_held_out("learning_curve", {"images given": count}, given[:count], held_out, data_dir.name)
        for count in (*COUNTS, len(given))
        if count <= len(given)
    ]
    print(rows_table(COLUMNS, rows))
    draw(rows).savefig(PROJECT / "docs" / "learning_curve.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
