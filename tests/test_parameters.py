import re
from pathlib import Path

import nbformat
import pytest

from training import parameters
from training.parameters import NOTEBOOK


def defaults():
    """The values of the notebook's parameters cell, without the environment."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    names = {}
    exec(re.sub(r"(?m)^globals\(\).*", "", cell.source), names)
    return {name: value for name, value in names.items() if not name.startswith("__")}


def test_notebook_sets_exactly_the_parameters_in_bounds():
    assert list(defaults()) == list(parameters.PARAMETERS)
    assert parameters.validate(defaults()) == defaults()


def test_environment_sets_values_of_the_parameters_types():
    environment = {
        "OCR_EPOCHS": "2",
        "OCR_LEARNING_RATE": "1e-3",
        "OCR_DATA_DIR": "~/my images",
        "OCR_DROP_COPY_NUMBER": "false",
        "PATH": "/bin",
    }
    assert parameters.from_environment(environment) == {
        "epochs": 2,
        "learning_rate": 0.001,
        "data_dir": "~/my images",
        "drop_copy_number": False,
    }


@pytest.mark.parametrize("name", parameters.PARAMETERS)
def test_every_parameter_can_be_set_from_the_environment(name):
    value = defaults()[name]
    assert parameters.from_environment({f"OCR_{name.upper()}": str(value)}) == {name: value}


@pytest.mark.parametrize("variable", ["OCR_EPOCH", "OCR_epochs", "OCR_BATCHSIZE"])
def test_near_miss_is_an_error_that_suggests_and_lists_the_valid_ones(variable):
    with pytest.raises(ValueError, match=rf"(?s){variable} is not.*Did you mean OCR_\w+\?.*OCR_DATA_DIR, "):
        parameters.from_environment({variable: "3"})


@pytest.mark.parametrize(
    ("variable", "text"), [("OCR_EPOCHS", "many"), ("OCR_SEED", "1.5"), ("OCR_DROPOUT", "")]
)
def test_text_of_the_wrong_type_is_an_error_that_names_it(variable, text):
    with pytest.raises(ValueError, match=rf"{variable}: expected a .*number.*Received: '{text}'"):
        parameters.from_environment({variable: text})


def test_image_size_may_be_0_for_chosen_from_the_images_but_not_tiny():
    assert parameters.validate(defaults() | {"image_width": 0, "image_height": 32})["image_height"] == 32
    with pytest.raises(
        ValueError, match="image_width: expected a whole number from 16 to 4096, or 0. Received: 3"
    ):
        parameters.validate(defaults() | {"image_width": 3})


def test_all_problems_are_told_at_once():
    values = defaults() | {
        "epochs": 0,
        "dropout": 2.0,
        "data_dir": "",
        "seed": True,
        "learning_rate": float("nan"),
    }
    with pytest.raises(ValueError) as error:
        parameters.validate(values)
    lines = str(error.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "data_dir",
        "seed",
        "epochs",
        "learning_rate",
        "dropout",
    ]
    assert "epochs: expected a whole number of 1 or more. Received: 0" in lines


@pytest.mark.parametrize(
    "wrong",
    [
        {"validation_share": 0.45, "test_share": 0.45},
        {"run_name": "a/b"},
        {"run_name": ".."},
        {"fold": 1},
        {"fold": 6, "folds": 5},
        {"fold": 0, "folds": 5},
    ],
)
def test_values_that_do_not_fit_together_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        parameters.validate(defaults() | wrong)


def test_fold_of_several_folds_is_accepted():
    assert parameters.validate(defaults() | {"fold": 5, "folds": 5})["fold"] == 5


def test_relative_paths_start_at_the_project_s_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert parameters.resolve("captcha_images") == NOTEBOOK.parent / "captcha_images"
    assert parameters.resolve("/elsewhere") == Path("/elsewhere")
    assert parameters.resolve("~") == Path.home()
