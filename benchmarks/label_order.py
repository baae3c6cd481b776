"""How often do few images show whether right-to-left labels are in logical or in visual order?

    python -m benchmarks.label_order FOLDER [--counts 40 50 70 100 200] [--draws 40] [--ridge 0.03 1.0]

takes the order that all images of a folder show for the right one, and asks `training.label_order` again
about random subsets. The rows are appended to benchmarks/results/label_order.jsonl.
"""

import argparse
import sys

import utils
from benchmarks.learning_curve import choose
from benchmarks.study import markdown_table, name_images, record
from training import label_order, parameters

COUNTS, RIDGES = (40, 50, 70, 100, 200), (0.03, 0.1, 1.0)


def measure(samples, right, count, draws):
    """Returns in how many random subsets of `count` images the order `right` is found."""
    orders = (label_order.find_order(choose(samples, count, seed))[0] for seed in range(draws))
    return {"right": sum(order == right for order in orders)}


def main(arguments=None):
    """Runs the benchmark and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.label_order", description=__doc__.split("\n")[0]
    )
    parser.add_argument("folder", metavar="FOLDER", help="labelled images of a right-to-left script")
    parser.add_argument("--counts", metavar="N", nargs="+", type=int, default=COUNTS, help="subset sizes")
    parser.add_argument("--draws", metavar="N", type=int, default=40, help="subsets (default: 40)")
    parser.add_argument("--ridge", metavar="X", nargs="+", type=float, default=RIDGES, help="penalties")
    options = parser.parse_args(arguments)
    folder = parameters.resolve(options.folder)
    samples, _ = utils.find_images(folder)
    right, line = label_order.find_order(samples)
    print(line)
    label_order.MIN_IMAGES = 0
    lines = []
    for ridge in options.ridge:
        label_order.RIDGE = ridge
        for count in options.counts:
            identity = {"ridge": ridge, "images": count, "draws": options.draws, "order": right}
            identity |= {"set": name_images(folder.parent.name, samples)}
            row = record("label_order", identity, lambda n=count: measure(samples, right, n, options.draws))
            lines.append([ridge, count, f"{row['right']} of {options.draws}"])
    print(markdown_table(["ridge", "images", "order found"], lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
