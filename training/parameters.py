"""The notebook's settings: their values from the environment, and their limits.

The notebook's cell tagged `parameters`, as papermill requires, defines names, types and defaults. `OCR_`
variables override the defaults, and papermill's `-p` overrides both.
"""

import ast
import configparser
import contextlib
import difflib
import json
import os
import re
from pathlib import Path

from training import PROJECT
from training.labels import MAX_ROWS

NOTEBOOK = PROJECT / "ocr.ipynb"
PREFIX = "OCR_"
MAX_NAME_BYTES = 200  # of a run: file systems allow 255, and a number is appended
KINDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
LIMITS = {  # the minimum and maximum of each number; if the default is 0, 0 is also allowed
    "validation_share": (0.01, 0.45),
    "test_share": (0.01, 0.45),
    "folds": (2, 1_000_000),
    "fold": (1, 1_000_000),
    "seed": (0, 2**31 - 1),
    "rows": (1, MAX_ROWS),
    "image_width": (16, 4096),
    "image_height": (8, 1024),
    "augmentation": (0, 3),
    "epochs": (1, 1_000_000),
    "batch_size": (1, 1_000_000),
    "min_steps_per_epoch": (1, 1_000_000),
    "max_steps_per_epoch": (1, 1_000_000_000),
    "learning_rate": (1e-7, 1),
    "warmup_epochs": (0, 1_000_000),
    "dropout": (0, 0.9),
    "patience": (1, 1_000_000),
    "unlabelled_rounds": (1, 10),
    "target_precision": (0.5, 0.9999),
}
CHOICES = {"label_order": ("auto", "logical", "visual")}


def defaults():
    """Returns a dictionary from the names of all settings to their defaults, in the notebook's order."""
    assignments = [node for node in ast.parse(_cell()).body if isinstance(node, ast.Assign)]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in assignments}


def changed(settings):
    """Returns the settings that differ from their defaults."""
    return {name: value for name, value in settings.items() if value != defaults()[name]}


def _cell():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    (cell,) = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    return "".join(cell["source"])


def table():
    """Returns a Markdown table of the settings. Their meanings are the comments in the notebook's cell."""
    comments = dict(re.findall(r"(?m)^(\w+) = .*?  # (.*)$", _cell()))
    lines = ["| variable | default | values | meaning |", "| --- | --- | --- | --- |"]
    for name, default in defaults().items():
        value = "empty" if default == "" else f"`{json.dumps(default)}`"
        row = f"`{PREFIX}{name.upper()}`", value, _possible_values(name, default), comments.get(name, "")
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def from_environment(environment=os.environ):
    """Returns a dictionary of the settings that are set by environment variables, converted to their types.

    Raises ValueError with a line for each `OCR_` variable that is no setting or whose value is invalid.
    """
    values, problems = {}, []
    variables = {PREFIX + name.upper(): (name, default) for name, default in defaults().items()}
    for variable, text in sorted(environment.items()):
        if variable in variables:
            name, default = variables[variable]
            values[name] = _parse(text, type(default))
            if not _is_possible(name, values[name], default):
                problems.append(f"{variable}: expected {_possible_values(name, default)}. Received: {text!r}")
        elif variable.startswith(PREFIX):
            close = difflib.get_close_matches(variable.upper(), variables, n=1)
            suggestion = f" Did you mean {close[0]}?" if close else ""
            problems.append(f"{variable} is not a setting.{suggestion}")
    if problems:
        raise ValueError("\n".join([*problems, f"The settings are: {', '.join(variables)}."]))
    return values


def _parse(text, kind):
    """Converts a text to a type; returns None if that is not possible."""
    if kind is bool:
        return configparser.ConfigParser.BOOLEAN_STATES.get(text.lower())  # 1, yes, true, on, 0, no, …
    with contextlib.suppress(ValueError):
        return kind(text)


def validate(values):
    """Returns a dictionary of all settings in the notebook's order; `values` may be its `globals()`.

    Raises ValueError with a line for each setting that is missing or invalid.
    """
    problems, settings = [], {}
    for name, default in defaults().items():
        value = values.get(name)
        settings[name] = float(value) if type(default) is float and type(value) is int else value
        if not _is_possible(name, settings[name], default):
            problems.append(f"{name}: expected {_possible_values(name, default)}. Received: {value!r}")
    if not problems:
        problems = list(_conflicts(**settings))
    if problems:
        raise ValueError("\n".join(problems))
    return settings


def _conflicts(*, validation_share, test_share, fold, folds, run_name, **others):
    """Yields the problems of values that are valid alone but not together."""
    if validation_share + test_share > 0.8:
        yield "validation_share and test_share: expected at most 0.8 together."
    if others["min_steps_per_epoch"] > others["max_steps_per_epoch"]:
        yield "min_steps_per_epoch: expected at most max_steps_per_epoch."
    if not min(folds, 1) <= fold <= folds:
        yield f"fold: expected 1 to folds, or 0 for both. Received: fold {fold} and folds {folds}"
    if set(run_name) & set("/\\\0") or run_name in (".", ".."):
        yield f"run_name: expected a name, not a path. Received: {run_name!r}"
    if len(os.fsencode(run_name)) > MAX_NAME_BYTES:
        yield f"run_name: expected at most {MAX_NAME_BYTES} bytes. Received: {run_name!r}"


def _possible_values(name, default):
    """Describes the possible values of a setting, such as "a number from 0 to 3"."""
    kind = KINDS[type(default)]
    if name in CHOICES:
        return " or ".join(CHOICES[name])
    if name not in LIMITS:
        return "text, not empty" if name == "data_dir" else kind
    low, high = LIMITS[name]
    return f"{kind} from {low} to {high}{', or 0' if default == 0 < low else ''}"


def _is_possible(name, value, default):
    if type(value) is not type(default):
        return False
    if name in CHOICES:
        return value in CHOICES[name]
    if name not in LIMITS:
        return value != "" or name != "data_dir"
    low, high = LIMITS[name]
    return low <= value <= high or value == default == 0


def resolve(path):
    """Returns an absolute `Path`. Relative paths start at the project's folder; `~` is the home folder.

    Raises ValueError if the path starts with `~` and the name of a user who does not exist.
    """
    try:
        return PROJECT / Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"Expected a path or ~/ and a path. Received: {path!r}. {error}") from error


if __name__ == "__main__":
    print(table())
