"""The notebook's parameters: what may be set, from where, and within which bounds.

Defaults are in the notebook's parameters cell. An environment variable
`OCR_…` (the parameter's name in capitals) overrides a default; papermill's
`-p` overrides both.
"""

import configparser
import difflib
import math
import os
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).absolute().parent.parent
"""The project's folder. Relative paths in parameters are taken from it."""

PREFIX = "OCR_"


class Bounds(NamedTuple):
    """What a parameter may be.

    Attributes:
        type: `str`, `bool`, `int` or `float`.
        low: the smallest value of a number; for `str` the fewest characters.
        high: the largest value of a number.
        or_zero: whether 0 is a value too, though below `low`.
    """

    type: type
    low: float = 0
    high: float = math.inf
    or_zero: bool = False

    def hold(self, value):
        """Whether a value is of the type and within the bounds."""
        if type(value) is not self.type:
            return False
        size = len(value) if self.type is str else value
        return self.low <= size <= self.high or (self.or_zero and size == 0)

    def __str__(self):
        if self.type is bool:
            return "true or false"
        if self.type is str:
            return "some text" if self.low else "text, which may be empty"
        bounds = (
            f"of {self.low:g} or more" if math.isinf(self.high) else f"from {self.low:g} to {self.high:g}"
        )
        return f"{'a whole number' if self.type is int else 'a number'} {bounds}{', or 0' * self.or_zero}"


PARAMETERS = {
    "data_dir": Bounds(str, 1),
    "start_from": Bounds(str),
    "drop_copy_number": Bounds(bool),
    "validation_share": Bounds(float, 0.01, 0.45),
    "test_share": Bounds(float, 0.01, 0.45),
    "folds": Bounds(int, 2, or_zero=True),
    "fold": Bounds(int, 1, or_zero=True),
    "run_name": Bounds(str),
    "seed": Bounds(int, 0, 2**31 - 1),
    "image_width": Bounds(int, 16, 4096, or_zero=True),
    "image_height": Bounds(int, 8, 1024, or_zero=True),
    "augmentation": Bounds(float, 0, 3),
    "epochs": Bounds(int, 1),
    "batch_size": Bounds(int, 1),
    "least_batches": Bounds(int, 1),
    "learning_rate": Bounds(float, 1e-7, 1),
    "warmup_epochs": Bounds(int, 0),
    "dropout": Bounds(float, 0, 0.9),
    "patience": Bounds(int, 1),
    "target_precision": Bounds(float, 0.5, 0.9999),
}


def from_environment(environment=None):
    """Reads the parameters that the environment sets.

    Args:
        environment: a mapping of names to texts; `os.environ` if None.

    Returns:
        A dictionary from the names of parameters to values of their types.

    Raises:
        ValueError: if a variable begins with `OCR_` and is no parameter, or
            if its text is not a value of the parameter's type.
    """
    environment = os.environ if environment is None else environment
    given = {name: text for name, text in environment.items() if name.startswith(PREFIX)}
    values, problems = {}, []
    for variable, text in sorted(given.items()):
        name = variable.removeprefix(PREFIX).lower()
        if variable != PREFIX + name.upper() or name not in PARAMETERS:
            problems.append(f"{variable} is not a parameter.{_suggestion(variable)}")
            continue
        try:
            values[name] = _parse(text, PARAMETERS[name].type)
        except ValueError:
            problems.append(f"{variable}: expected {PARAMETERS[name]}. Received: {text!r}")
    if problems:
        valid = ", ".join(PREFIX + name.upper() for name in PARAMETERS)
        raise ValueError("\n".join([*problems, f"The parameters are: {valid}."]))
    return values


def _suggestion(variable):
    close = difflib.get_close_matches(variable.upper(), [PREFIX + name.upper() for name in PARAMETERS], n=1)
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
        values: a mapping that holds a value for each name in `PARAMETERS`;
            other names in it, as in a notebook's `globals()`, are left aside.

    Returns:
        A dictionary of the parameters alone, in the order of `PARAMETERS`.

    Raises:
        ValueError: a line for each parameter that is missing or out of bounds.
    """
    problems = []
    parameters = {name: values.get(name) for name in PARAMETERS}
    for name, bounds in PARAMETERS.items():
        value = parameters[name]
        if bounds.type is float and type(value) is int:
            value = parameters[name] = float(value)
        if not bounds.hold(value):
            problems.append(f"{name}: expected {bounds}. Received: {value!r}")
    if not problems and parameters["validation_share"] + parameters["test_share"] > 0.8:
        problems.append(
            "validation_share and test_share: expected at most 0.8 together, so that there is training."
        )
    fold, folds = parameters["fold"], parameters["folds"]
    if not problems and not min(folds, 1) <= fold <= folds:
        problems.append(
            f"fold: expected from 1 to folds, or 0 for both. Received: fold {fold} of {folds} folds"
        )
    if not problems and (set(parameters["run_name"]) & set("/\\\0") or parameters["run_name"] in (".", "..")):
        problems.append(f"run_name: expected a name, not a path. Received: {parameters['run_name']!r}")
    if problems:
        raise ValueError("\n".join(problems))
    return parameters


def resolve(path):
    """The absolute form of a path that is relative to the project's folder.

    Args:
        path: a path; `~` stands for the home folder.

    Returns:
        An absolute `Path`.
    """
    return PROJECT / Path(path).expanduser()
