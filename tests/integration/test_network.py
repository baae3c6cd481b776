"""Nothing talks to the outside: notebook and commands, spied on, on a machine without a network."""

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
        host = address[0] if isinstance(address, tuple) else "a socket of this machine"
        with open(LOG, "a") as log:
            print(host, file=log)

sys.addaudithook(note)
"""
HERE = {"127.0.0.1", "::1", "localhost", "a socket of this machine"}
LO_ONLY = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
"""Runs a command where there is no other network than the machine's own."""


def network_namespaces():
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return subprocess.run([*LO_ONLY, "true"], capture_output=True).returncode == 0


@pytest.fixture
def run(tmp_path):
    """Runs a command with only the loopback network, and returns whom it tried to reach."""
    (tmp_path / "spy").mkdir()
    log = tmp_path / "log"
    (tmp_path / "spy" / "sitecustomize.py").write_text(f"LOG = {str(log)!r}\n{SPY}")

    def run(command, cwd=PROJECT, **variables):
        log.unlink(missing_ok=True)
        prefix = LO_ONLY if network_namespaces() else []
        environment = user_environment(PYTHONPATH=str(tmp_path / "spy"), **variables)
        done = subprocess.run(
            [*prefix, *map(str, command)],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return set(log.read_text().splitlines()) if log.exists() else set()

    return run


def test_the_spy_notices(run):
    command = [
        sys.executable,
        "-c",
        "import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('127.0.0.9', 9))",
    ]
    assert run(command) == {"127.0.0.9"}


def test_notebook_reaches_nobody(run, project, image_folder, tmp_path):
    variables = TINY | {
        "OCR_EPOCHS": "1",
        "OCR_DATA_DIR": str(image_folder),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    command = [sys.executable, "-m", "jupyter", "execute", "ocr.ipynb"]
    assert run(command, cwd=project, **variables) <= HERE


def test_reading_and_exporting_reach_nobody(run, saved, shipped, tmp_path):
    onnx = tmp_path / "reader.onnx"
    assert run([sys.executable, "-m", "tools.export", saved, "--to", "onnx", "--out", onnx]) <= HERE
    for reader in (saved, onnx):
        assert run([sys.executable, "-m", "snippet_ocr", reader, shipped[0]]) <= HERE
    assert run([sys.executable, "-m", "snippet_ocr", "--info", onnx]) == set()
