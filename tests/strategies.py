"""Hypothesis strategies for the tests: those that letstune ships."""

from letstune.testing.spaces import Color, declarations, distributions, params_classes, spaces

__all__ = ["Color", "declarations", "distributions", "params_classes", "spaces"]
