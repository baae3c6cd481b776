"""Two hosts that train one model together are killed and started again."""

import re
import sys

import numpy as np

from conftest import TINY, weights_of
from hosts import host_environments, start


def finish(processes):
    """Waits for processes to end and returns their outputs."""
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    return outputs


def test_killed_hosts_resume_to_the_same_weights(project, image_folder):
    notebook = [sys.executable, "-m", "IPython", project / "ocr.ipynb"]
    variables = TINY | {"OCR_EPOCHS": "3", "OCR_DATA_DIR": str(image_folder), "OCR_RUN_NAME": "run"}

    def start_hosts():
        return [start(notebook, environment | variables, project) for environment in host_environments(2)]

    runs = project / "runs"
    finish(start_hosts())
    (runs / "run").rename(runs / "uninterrupted")
    killed = start_hosts()
    next(line for line in killed[0].stdout if re.match("epoch +1/3", line))
    for process in killed:
        process.kill()
        process.communicate()
    for output in finish(start_hosts()):
        assert len(re.findall("(?m)^epoch ", output)) == 2  # the first epoch is not trained again
    assert sorted(path.name for path in runs.iterdir()) == ["run", "uninterrupted"]
    expected, found = weights_of(runs / "uninterrupted"), weights_of(runs / "run")
    assert expected.keys() == found.keys()
    for name in expected:
        np.testing.assert_array_equal(expected[name], found[name], name)
