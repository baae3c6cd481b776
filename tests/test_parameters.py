import re
import subprocess
from pathlib import Path

import nbformat
import pytest

from conftest import PROJECT
from training import parameters

DEFAULTS = parameters.defaults()


def test_defaults_are_those_of_the_notebook_s_cell():
    notebook = nbformat.read(parameters.NOTEBOOK, as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    names = {}
    exec(cell.source, {"parameters": parameters, "globals": dict}, names)
    assert list(DEFAULTS.items()) == list(names.items())


def test_defaults_are_possible_and_every_number_has_limits():
    assert parameters.validate(DEFAULTS) == DEFAULTS
    numbers = {name for name, value in DEFAULTS.items() if type(value) in (int, float)}
    assert numbers == set(parameters.LIMITS)


def test_environment_sets_values_of_the_default_s_type():
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


@pytest.mark.parametrize("name", DEFAULTS)
def test_environment_sets_every_parameter(name, monkeypatch):
    monkeypatch.setenv(f"OCR_{name.upper()}", str(DEFAULTS[name]))
    assert parameters.from_environment()[name] == DEFAULTS[name]


@pytest.mark.parametrize("variable", ["OCR_EPOCH", "OCR_epochs", "OCR_BATCHSIZE"])
def test_misspelt_variable_is_an_error_with_a_suggestion(variable):
    with pytest.raises(ValueError, match=rf"(?s){variable} is not.*Did you mean OCR_\w+\?.*OCR_DATA_DIR, "):
        parameters.from_environment({variable: "3"})


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("OCR_EPOCHS", "many", "a whole number from 1 to 1000000"),
        ("OCR_EPOCHS", "0", "a whole number from 1 to 1000000"),
        ("OCR_SEED", "1.5", "a whole number from 0 to 2147483647"),
        ("OCR_DROPOUT", "", "a number from 0 to 0.9"),
        ("OCR_LEARNING_RATE", "nan", "a number from 1e-07 to 1, or 0"),
        ("OCR_DROP_COPY_NUMBER", "maybe", "true or false"),
        ("OCR_DATA_DIR", "", "text, not empty"),
    ],
)
def test_impossible_text_is_an_error_that_names_the_variable(variable, text, expected):
    with pytest.raises(ValueError) as error:
        parameters.from_environment({variable: text})
    assert str(error.value).startswith(f"{variable}: expected {expected}. Received: {text!r}\n")


def test_all_problems_of_the_environment_are_in_one_error():
    with pytest.raises(ValueError) as error:
        parameters.from_environment({"OCR_EPOCHS": "0", "OCR_FOO": "1", "OCR_SEED": "x"})
    lines = str(error.value).splitlines()
    assert [line.split()[0] for line in lines] == ["OCR_EPOCHS:", "OCR_FOO", "OCR_SEED:", "The"]


def test_image_size_is_0_or_within_its_limits():
    assert parameters.validate(DEFAULTS | {"image_width": 0, "image_height": 32})["image_height"] == 32
    message = "image_width: expected a whole number from 16 to 4096, or 0. Received: 3"
    with pytest.raises(ValueError, match=message):
        parameters.validate(DEFAULTS | {"image_width": 3})


def test_all_problems_of_the_values_are_in_one_error():
    wrong = {"epochs": 0, "dropout": 2.0, "data_dir": "", "seed": True, "learning_rate": float("nan")}
    with pytest.raises(ValueError) as error:
        parameters.validate(DEFAULTS | wrong)
    lines = str(error.value).splitlines()
    assert {line.split(":")[0] for line in lines} == set(wrong)
    assert "epochs: expected a whole number from 1 to 1000000. Received: 0" in lines


def test_missing_value_is_an_error():
    with pytest.raises(
        ValueError, match="^epochs: expected a whole number from 1 to 1000000. Received: None$"
    ):
        parameters.validate({name: value for name, value in DEFAULTS.items() if name != "epochs"})


def test_whole_number_is_accepted_as_a_number():
    augmentation = parameters.validate(DEFAULTS | {"augmentation": 1})["augmentation"]
    assert (augmentation, type(augmentation)) == (1.0, float)


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
def test_values_that_conflict_are_an_error(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        parameters.validate(DEFAULTS | wrong)


def test_last_fold_is_accepted():
    assert parameters.validate(DEFAULTS | {"fold": 5, "folds": 5})["fold"] == 5


def test_relative_paths_start_at_the_project_s_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert parameters.resolve("captcha_images") == PROJECT / "captcha_images"
    assert parameters.resolve("/elsewhere") == Path("/elsewhere")
    assert parameters.resolve("~") == Path.home()


def test_table_has_a_row_with_a_meaning_for_each_parameter():
    rows = [re.split(r" ?\| ?", line)[1:-1] for line in parameters.table().splitlines()[2:]]
    assert [row[0] for row in rows] == [f"`OCR_{name.upper()}`" for name in DEFAULTS]
    assert all(len(row) == 4 and all(row) for row in rows)
    assert rows[0][1:3] == ['`"captcha_images"`', "text, not empty"]


def test_docs_contain_the_table_of_settings():
    page = (PROJECT / "docs" / "settings.md").read_text(encoding="utf-8")
    found = page.partition("<!-- settings: begin -->\n")[2].partition("\n<!-- settings: end -->")[0]
    assert found == parameters.table(), (
        "docs/settings.md is out of date. Replace the lines between its two settings markers "
        "by the output of: python -m training.parameters"
    )


def test_values_without_use_are_refused_before_loading():
    values = parameters.defaults() | {"batch_size": 10**9, "run_name": 300 * "a"}
    with pytest.raises(ValueError, match="batch_size: expected a whole number from 1 to 1000000"):
        parameters.validate(values)
    with pytest.raises(ValueError, match="run_name: expected at most 200 bytes"):
        parameters.validate(values | {"batch_size": 8})


def test_home_of_an_unknown_user_is_refused():
    with pytest.raises(ValueError, match="Expected a path or ~/ and a path. Received: '~nobody-here/x'"):
        parameters.resolve("~nobody-here/x")


@pytest.mark.parametrize(
    ("data", "setting"), [("~/my meters", 'OCR_DATA_DIR="~/my meters"'), ("captcha_images", "")]
)
def test_make_trains_on_the_folder_that_it_is_given(data, setting):
    command = ["make", "--dry-run", "--old-file=.venv/installed", "train", f"DATA={data}"]
    shown = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in shown.replace("\\\n", "").splitlines() if "ipython" in line]
    assert line.partition(".venv")[0].strip(" \t@") == setting
