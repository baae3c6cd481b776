import keras
import nbformat
import pytest

from tools import notebook


@pytest.fixture
def elsewhere(tmp_path, monkeypatch, project):
    """Makes the tool use a copy of the project."""
    monkeypatch.setattr(notebook, "PROJECT", project)
    monkeypatch.setattr(notebook, "NOTEBOOK", project / "ocr.ipynb")
    return project


@pytest.mark.parametrize("before", ["no such code", "seed"])
def test_change_that_does_not_match_exactly_once_is_refused(before):
    with pytest.raises(ValueError, match=f"exactly once in the notebook's code: {before}"):
        notebook.run_notebook({"run_name": "never"}, [(before, "")])


def test_change_applies_to_the_run_and_not_to_the_file(elsewhere):
    before = notebook.NOTEBOOK.read_bytes()
    with pytest.raises(Exception, match="ValueError: changed"):
        notebook.run_notebook({"run_name": "run"}, [("import math\n", "raise ValueError('changed')\n")])
    assert notebook.NOTEBOOK.read_bytes() == before


def test_command_stores_outputs_without_machine_details(elsewhere, monkeypatch):
    monkeypatch.setenv("OCR_EPOCHS", "1")
    log = "W0000 00:00:1770000000.1 a warning of TensorFlow's"
    cells = [
        nbformat.v4.new_code_cell(f"import os, sys\nprint('one')\nprint({log!r}, file=sys.stderr)"),
        nbformat.v4.new_code_cell("print(os.path.abspath('runs'), os.environ.get('OCR_EPOCHS'))"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), notebook.NOTEBOOK)
    assert notebook.main([]) == 0
    done = nbformat.read(notebook.NOTEBOOK, as_version=4)
    assert [[output.text for output in cell.outputs] for cell in done.cells] == [["one\n"], ["runs None\n"]]
    assert set(done.metadata) == {"kernelspec", "language_info"}
    assert all(cell.metadata == {} for cell in done.cells)


def test_code_version_changes_with_training_code_only(elsewhere):
    version = notebook.code_version()

    def changes_after(file, before, after):
        path = elsewhere / file
        source = path.read_text(encoding="utf-8")
        assert before in source
        path.write_text(source.replace(before, after, 1), encoding="utf-8")
        changed = notebook.code_version() != version
        path.write_text(source, encoding="utf-8")
        return changed

    assert changes_after("training/augmentation.py", "np.radians(4.0)", "np.radians(5.0)")
    assert changes_after("ocr.ipynb", "use_ema=True", "use_ema=False")
    assert not changes_after("training/augmentation.py", '"""', '"""Another docstring. ')
    assert not changes_after(
        "utils.py", "import numpy as np\n", "import json\nimport numpy as np  # arrays\n"
    )
    assert not changes_after("ocr.ipynb", "## Results", "## The results")
    assert not changes_after("ocr.ipynb", "metrics.table(scores)", "metrics.table({})")  # after `fit`
    assert not changes_after("ocr.ipynb", "import math\\n", "import json\\nimport math\\n")
    assert not changes_after("training/plots.py", "dpi=100", "dpi=200")


def test_grus_of_the_model_can_run_on_cudnn():
    model = notebook.load_build_model()(16, 5, 11, 0.1)
    bidirectional = [layer for layer in model.layers if isinstance(layer, keras.layers.Bidirectional)]
    assert len(bidirectional) == 3
    for layer in bidirectional:
        for gru in (layer.forward_layer, layer.backward_layer):
            # https://keras.io/api/layers/recurrent_layers/gru/ lists the requirements of cuDNN.
            assert type(gru) is keras.layers.GRU
            assert gru.activation is keras.activations.tanh
            assert gru.recurrent_activation is keras.activations.sigmoid
            assert gru.reset_after and gru.use_bias and not gru.unroll
            assert gru.dropout == gru.recurrent_dropout == 0
