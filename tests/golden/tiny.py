"""The name by which pickles in golden journals know the params of a small trainer."""

from small_trainers import Point

__all__ = ["Point"]
