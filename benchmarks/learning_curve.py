"""How many labelled images does it take?

    python -m benchmarks.learning_curve DATA

holds back a fifth of a folder's images for the test and trains the notebook on
50, 100, 200, 400 and all of the others (a tenth of them to watch for early
stopping). The rows are appended to benchmarks/results/learning_curve.jsonl, the
figure goes to docs/learning_curve.png.
"""

import argparse
import sys

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, ScalarFormatter

import utils
from benchmarks.study import SEED, measure_on
from training import PROJECT, parameters, plots

COUNTS = (50, 100, 200, 400)


def draw(rows):
    """Draws exact match over the number of images: a matplotlib `Figure`."""
    figure = Figure(figsize=(6, 3.6), dpi=100, layout="constrained")
    axis = figure.subplots()
    counts = [row["images given"] for row in rows]
    exact = [row["test"]["exact_match"] for row in rows]
    ends = zip(*(row["test"]["interval"] for row in rows), strict=True)
    errors = [[abs(end - middle) for end, middle in zip(side, exact, strict=True)] for side in ends]
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
        prog="learning_curve", description="Measures exact match over the number of labelled images."
    )
    parser.add_argument("data", metavar="DATA", help="the folder of labelled images")
    options = parser.parse_args(arguments)
    data_dir = parameters.resolve(options.data)
    samples, _ = utils.find_images(data_dir)
    training, validation, test = utils.split_data(samples, SEED, test_share=0.2)
    given = training + validation
    rows = [
        measure_on("learning_curve", {"images given": count}, given[:count], test, data_dir.name)
        for count in (*COUNTS, len(given))
        if count <= len(given)
    ]
    print("| images given | exact match (95 % interval) | character error rate | epochs (best) | seconds |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        score = row["test"]
        low, high = score["interval"]
        cells = [
            row["images given"],
            f"{score['right']} of {score['images']}, {score['exact_match']:.1%} ({low:.1%}–{high:.1%})",
            f"{score['character_error_rate']:.2%}",
            f"{row['epochs']} ({row['best epoch']})",
            f"{row['seconds']:.0f}",
        ]
        print(f"| {' | '.join(map(str, cells))} |")
    draw(rows).savefig(PROJECT / "docs" / "learning_curve.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
