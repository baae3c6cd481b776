"""Seven mistakes in `CTCLayer`: its tests must notice each."""

import subprocess
import sys

import pytest

from conftest import PROJECT

MUTANTS = {
    "padding counts as text": (
        'ops.sum(ops.cast(ops.not_equal(label, BLANK), "int32"), axis=1)',
        "ops.full_like(label[:, 0], label.shape[1])",
    ),
    "sum over the batch": (" / ops.maximum(ops.sum(counts), 1.0))", ")"),
    "padding rows count": ("ops.sum(losses * counts)", "ops.sum(losses)"),
    "one time step too few": ("ops.shape(logits)[1])", "ops.shape(logits)[1] - 1)"),
    "probabilities instead of logits": ("output=logits,", "output=ops.softmax(logits),"),
    "blank is the last class": ("mask_index=BLANK,", "mask_index=logits.shape[2] - 1,"),
    "layer returns probabilities": ("return logits\n", "return ops.softmax(logits)\n"),
}


def run_tests(project):
    """Runs the tests of `CTCLayer` on a copy of the project, and returns the finished process."""
    tests = PROJECT / "tests" / "test_CTCLayer.py"
    # The copy comes first on the path. The quotes are needed because its path contains a space.
    options = ["-q", "-p", "no:cacheprovider", "--override-ini", f"pythonpath='{project}'"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, tests], cwd=PROJECT, capture_output=True, text=True
    )


def test_tests_pass_without_a_mistake(project):
    done = run_tests(project)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", MUTANTS)
def test_mistake_makes_a_test_fail(name, project):
    before, after = MUTANTS[name]
    source = (project / "CTCLayer.py").read_text(encoding="utf-8")
    assert source.count(before) == 1
    (project / "CTCLayer.py").write_text(source.replace(before, after), encoding="utf-8")
    done = run_tests(project)
    assert done.returncode == 1, done.stdout
    assert " failed" in done.stdout
