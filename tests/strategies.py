"""Hypothesis strategies for the tests: those that letstune ships."""

from letstune.testing.spaces import Color, distributions, params_classes, spaces

__all__ = ["Color", "distributions", "params_classes", "spaces"]
