"""The notebook and the commands connect to nothing but this machine.

A spy in the processes notes every connection. Where the system allows it, the
processes also run without any network except loopback.
"""

import shutil
import subprocess
import sys

import pytest

from conftest import PROJECT, TINY, user_environment

SPY = """
import sys

def note(event, arguments):
    if event in ("socket.connect", "socket.connect_ex", "socket.sendto", "socket.getaddrinfo"):
        address = arguments[1] if event != "socket.getaddrinfo" else arguments[:1]
        host = address[0] if isinstance(address, tuple) else "a local socket"
        with open(LOG, "a") as log:
            print(host, file=log)

sys.addaudithook(note)
"""
LOCAL = {"127.0.0.1", "::1", "localhost", "a local socket"}
LOOPBACK_ONLY = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
"""Runs a command without any network except loopback."""


@pytest.fixture(scope="module")
def prefix():
    """The start of a command that isolates it from the network; empty where the system does not allow it."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return []
    works = subprocess.run([*LOOPBACK_ONLY, "true"], capture_output=True).returncode == 0
    return LOOPBACK_ONLY if works else []


@pytest.fixture
def hosts_of(tmp_path, prefix):
    """Returns a function that runs a command and returns the hosts that it tried to reach."""
    spy, log = tmp_path / "spy", tmp_path / "log"
    spy.mkdir()
    (spy / "sitecustomize.py").write_text(f"LOG = {str(log)!r}\n{SPY}")

    def run(*command, cwd=PROJECT, **variables):
        log.unlink(missing_ok=True)
        environment = user_environment(PYTHONPATH=str(spy), IPYTHONDIR=str(tmp_path / "ipython"), **variables)
        done = subprocess.run(
            [*prefix, sys.executable, *map(str, command)],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return set(log.read_text().splitlines()) if log.exists() else set()

    return run


def test_spy_notes_a_connection(hosts_of):
    connect = "import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('127.0.0.9', 9))"
    assert hosts_of("-c", connect) == {"127.0.0.9"}


def test_training_exporting_and_reading_stay_local(hosts_of, project, image_folder, tmp_path):
    variables = TINY | {"OCR_EPOCHS": "1", "OCR_DATA_DIR": str(image_folder), "OCR_RUN_NAME": "run"}
    notebook = ("-m", "jupyter", "execute", "ocr.ipynb")
    assert hosts_of(*notebook, cwd=project, **variables) <= LOCAL
    reader, exported = project / "runs" / "run" / "reader.keras", tmp_path / "reader.onnx"
    assert hosts_of("-m", "tools.export", reader, "--out", exported) <= LOCAL
    image = next(image_folder.iterdir())
    assert hosts_of("-m", "snippet_ocr", "read", exported, image) == set()
    assert hosts_of("-m", "snippet_ocr", "info", exported) == set()
