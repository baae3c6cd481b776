import keras
import nbformat
import pytest

from tools import notebook


@pytest.fixture
def elsewhere(tmp_path, monkeypatch, project):
    """The tool works on a copy of the project."""
    monkeypatch.setattr(notebook, "PROJECT", project)
    monkeypatch.setattr(notebook, "NOTEBOOK", project / "ocr.ipynb")
    return project


@pytest.mark.parametrize("before", ["no such code", "seed"])
def test_change_that_does_not_fit_exactly_once_is_refused(before):
    with pytest.raises(ValueError, match=f"exactly once in the notebook's code: {before}"):
        notebook.run_notebook({"run_name": "never"}, [(before, "")])


def test_default_parameters_are_all_that_may_be_set_and_within_their_bounds():
    parameters = notebook.defaults()
    assert list(parameters) == list(parameters.PARAMETERS)
    assert parameters.validate(parameters) == parameters


def test_change_is_what_runs_and_the_notebook_stays_as_it_is(elsewhere):
    before = notebook.NOTEBOOK.read_bytes()
    with pytest.raises(Exception, match="ValueError: changed"):
        notebook.run_notebook({"run_name": "run"}, [("import functools\n", "raise ValueError('changed')\n")])
    assert notebook.NOTEBOOK.read_bytes() == before


def test_notebook_is_run_in_place_and_stored_without_what_differs_between_machines(elsewhere, monkeypatch):
    monkeypatch.setenv("OCR_EPOCHS", "1")
    log = "W0000 00:00:1770000000.1 a warning of TensorFlow's"
    cells = [
        nbformat.v4.new_code_cell(f"import os, sys\nprint('one')\nprint({log!r}, file=sys.stderr)"),
        nbformat.v4.new_code_cell("print(os.path.abspath('runs'), os.environ.get('OCR_EPOCHS'))"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), notebook.NOTEBOOK)
    assert notebook.main() == 0
    done = nbformat.read(notebook.NOTEBOOK, as_version=4)
    assert [[output.text for output in cell.outputs] for cell in done.cells] == [["one\n"], ["runs None\n"]]
    assert set(done.metadata) == {"kernelspec", "language_info"}
    assert all(cell.metadata == {} for cell in done.cells)


def test_code_version_follows_what_trains_and_nothing_else(elsewhere):
    version = notebook.code_version()

    def edited(file, before, after):
        path = elsewhere / file
        source = path.read_text(encoding="utf-8")
        assert before in source
        path.write_text(source.replace(before, after), encoding="utf-8")
        changed = notebook.code_version()
        path.write_text(source, encoding="utf-8")
        return changed != version

    assert edited("augmentation.py", "4.0", "5.0")
    assert edited("ocr.ipynb", "use_ema=True", "use_ema=False")
    assert not edited("augmentation.py", '"""Moves', '"""Shifts')
    assert not edited("utils.py", "import tensorflow as tf\n", "import tensorflow as tf  # the data\n")
    assert not edited("ocr.ipynb", "The loaded reader reads", "It reads")
    assert not edited("ocr.ipynb", "import functools\\n", "import functools\\nimport json\\n")
    assert not edited("plots.py", "dpi=100", "dpi=200")


def test_grus_of_the_model_are_what_cudnn_can_run():
    model = notebook.load_build_model()(64, 16, 5, 11, 4, 0.1)
    bidirectional = [layer for layer in model.layers if isinstance(layer, keras.layers.Bidirectional)]
    assert len(bidirectional) == 3
    for layer in bidirectional:
        for gru in (layer.forward_layer, layer.backward_layer):
            # https://keras.io/api/layers/recurrent_layers/gru/ lists what cuDNN asks for.
            assert type(gru) is keras.layers.GRU
            assert gru.activation is keras.activations.tanh
            assert gru.recurrent_activation is keras.activations.sigmoid
            assert gru.reset_after and gru.use_bias and not gru.unroll
            assert gru.dropout == gru.recurrent_dropout == 0
