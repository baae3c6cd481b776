"""The notebook's parameters: where their values come from, and which values are possible.

Names, types and defaults are those of the notebook's cell that is tagged
`parameters`. An environment variable, `OCR_` and the name in capitals,
overrides a default; papermill's `-p` overrides both.
"""

import ast
import configparser
import difflib
import json
import math
import os
import re
from pathlib import Path

from training import PROJECT

NOTEBOOK = PROJECT / "ocr.ipynb"
PREFIX = "OCR_"
KINDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
LIMITS = {
    "validation_share": (0.01, 0.45),
    "test_share": (0.01, 0.45),
    "folds": (2, math.inf),
    "fold": (1, math.inf),
    "seed": (0, 2**31 - 1),
    "image_width": (16, 4096),
    "image_height": (8, 1024),
    "augmentation": (0, 3),
    "epochs": (1, math.inf),
    "batch_size": (1, math.inf),
    "min_steps_per_epoch": (1, math.inf),
    "learning_rate": (1e-7, 1),
    "warmup_epochs": (0, math.inf),
    "dropout": (0, 0.9),
    "patience": (1, math.inf),
    "target_precision": (0.5, 0.9999),
}
"""The smallest and the largest value of each number. A default of 0 is always possible: it means "automatic"."""


def cell():
    """Returns the source of the notebook's cell that is tagged `parameters`."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    (found,) = [one for one in cells if "parameters" in one["metadata"].get("tags", [])]
    return "".join(found["source"])


def defaults():
    """Reads the notebook's parameters.

    Returns:
        A dictionary from names to default values, in the notebook's order.
    """
    assignments = [node for node in ast.parse(cell()).body if isinstance(node, ast.Assign)]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in assignments}


def describe_limits(name, default):
    """Describes the possible values of a parameter, such as "a number from 0 to 3"."""
    kind = KINDS[type(default)]
    if name not in LIMITS:
        return kind
    low, high = LIMITS[name]
    bounds = f"of {low:g} or more" if math.isinf(high) else f"from {low:g} to {high:g}"
    return f"{kind} {bounds}{', or 0' if default == 0 < low else ''}"


def table():
    """Returns the parameters as a Markdown table, described by the comments in the notebook's cell."""
    comments = dict(re.findall(r"(?m)^(\w+) = .*  # (.*)$", cell()))
    lines = ["| variable | default | values | meaning |", "| --- | --- | --- | --- |"]
    for name, default in defaults().items():
        value = f"`{json.dumps(default)}`" if default != "" else "empty"
        row = f"`{PREFIX}{name.upper()}`", value, describe_limits(name, default), comments.get(name, "")
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def from_environment(environment=None):
    """Reads the parameters that environment variables set.

    Args:
        environment: a mapping of names to texts; `os.environ` if None.

    Returns:
        A dictionary from the names of parameters to values of their types.

    Raises:
        ValueError: if a variable starts with `OCR_` and is no parameter, or
            if its text is not a value of the parameter's type.
    """
    environment = os.environ if environment is None else environment
    values, problems, known = {}, [], defaults()
    for variable, text in sorted(environment.items()):
        name = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX):
            continue
        if variable != PREFIX + name.upper() or name not in known:
            problems.append(f"{variable} is not a parameter.{_suggestion(variable, known)}")
            continue
        try:
            values[name] = _parse(text, type(known[name]))
        except ValueError:
            limits = describe_limits(name, known[name])
            problems.append(f"{variable}: expected {limits}. Received: {text!r}")
    if problems:
        valid = ", ".join(PREFIX + name.upper() for name in known)
        raise ValueError("\n".join([*problems, f"The parameters are: {valid}."]))
    return values


def _suggestion(variable, known):
    close = difflib.get_close_matches(variable.upper(), [PREFIX + name.upper() for name in known], n=1)
    return f" Did you mean {close[0]}?" if close else ""


def _parse(text, kind):
    if kind is not bool:
        return kind(text)
    words = configparser.ConfigParser.BOOLEAN_STATES  # 1, yes, true, on and their opposites
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


def validate(values):
    """Checks all parameters at once.

    Args:
        values: a mapping with a value for each parameter, such as a notebook's
            `globals()`; other names are ignored.

    Returns:
        A dictionary of the parameters alone, in the notebook's order.

    Raises:
        ValueError: one line for each parameter that is missing or impossible.
    """
    problems, settings = [], {}
    for name, default in defaults().items():
        value = values.get(name)
        if type(default) is float and type(value) is int:
            value = float(value)
        settings[name] = value
        if not _is_possible(name, value, default):
            problems.append(f"{name}: expected {describe_limits(name, default)}. Received: {value!r}")
    if problems:
        raise ValueError("\n".join(problems))
    if settings["validation_share"] + settings["test_share"] > 0.8:
        problems.append("validation_share and test_share: expected at most 0.8 together.")
    fold, folds = settings["fold"], settings["folds"]
    if not min(folds, 1) <= fold <= folds:
        problems.append(f"fold: expected 1 to folds, or 0 for both. Received: fold {fold} of {folds} folds")
    if set(settings["run_name"]) & set("/\\\0") or settings["run_name"] in (".", ".."):
        problems.append(f"run_name: expected a name, not a path. Received: {settings['run_name']!r}")
    if problems:
        raise ValueError("\n".join(problems))
    return settings


def _is_possible(name, value, default):
    if type(value) is not type(default):
        return False
    if name not in LIMITS:
        return value != "" or default == ""  # a text without a default may be empty
    low, high = LIMITS[name]
    return low <= value <= high or value == default == 0


def resolve(path):
    """Returns an absolute `Path`: relative paths start at the project's folder, `~` is the home folder."""
    return PROJECT / Path(path).expanduser()


if __name__ == "__main__":
    print(table())
