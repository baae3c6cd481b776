"""The parts of `tools.label`."""
