"""Two hosts that train one model are killed, and go on."""

import re
import sys

import numpy as np

from conftest import TINY, weights_of
from hosts import hosts_of, start


def test_killed_hosts_go_on_and_end_with_the_weights_of_hosts_that_never_were_killed(project, image_folder):
    notebook = [sys.executable, "-m", "IPython", project / "ocr.ipynb"]
    variables = TINY | {"OCR_EPOCHS": "3", "OCR_DATA_DIR": str(image_folder), "OCR_RUN_NAME": "run"}

    def hosts():
        return [start(notebook, environment | variables, project) for environment in hosts_of(2)]

    def finish(running):
        outputs = [process.communicate(timeout=300)[0] for process in running]
        assert [process.returncode for process in running] == [0, 0], outputs
        return outputs

    finish(hosts())
    whole = (project / "runs" / "run").rename(project / "runs" / "whole")
    running = hosts()
    for line in running[0].stdout:
        if re.match("epoch +1/3", line):
            break
    for process in running:
        process.kill()
        process.communicate()
    first, second = finish(hosts())
    assert f"goes on with the unfinished run: {project / 'runs' / 'run'}" in first
    assert "the first host keeps what the training leaves" in second
    for output in (first, second):
        assert len(re.findall("(?m)^epoch ", output)) == 2
    assert sorted(path.name for path in (project / "runs").iterdir()) == ["run", "whole"]
    expected, found = weights_of(whole), weights_of(project / "runs" / "run")
    assert expected.keys() == found.keys()
    for name in expected:
        np.testing.assert_array_equal(expected[name], found[name], name)
