import json
import subprocess
import sys

import pytest

from conftest import PROJECT

TOOLS = ["calibrate", "crop", "crossval", "draw_text", "export", "label", "notebook"]
SHOW_HELP = """
import contextlib, io, json, runpy, sys
shown = {}
for name in sys.argv[1:]:
    sys.argv = [name, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            runpy.run_module(f"tools.{name}", run_name="__main__")
        except SystemExit as end:
            shown[name] = end.code, out.getvalue()
print(json.dumps([shown, [name for name in ("keras", "tensorflow") if name in sys.modules]]))
"""


@pytest.fixture(scope="module")
def shown():
    """The exit code and the output of `--help` for each tool, and which heavy packages were imported."""
    command = [sys.executable, "-c", SHOW_HELP, *TOOLS]
    return json.loads(subprocess.run(command, cwd=PROJECT, capture_output=True, check=True).stdout)


@pytest.mark.parametrize("name", TOOLS)
def test_help_shows_the_command_and_its_options(shown, name):
    code, text = shown[0][name]
    assert code == 0
    assert text.startswith(f"usage: python -m tools.{name} [-h]")
    options = text.partition("\noptions:\n")[2].split("\n  -")
    assert all(len(option.split()) >= 4 for option in options)  # each with a description


def test_help_imports_neither_keras_nor_tensorflow(shown):
    assert shown[1] == []


def test_notebook_command_refuses_unknown_arguments(capsys):
    from tools import notebook

    with pytest.raises(SystemExit) as ended:
        notebook.main(["--epochs", "1"])
    assert ended.value.code == 2
    assert "unrecognized arguments: --epochs 1" in capsys.readouterr().err
