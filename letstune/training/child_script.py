"""What a child process of a trainer runs in the place of the trainer's script.

`multiprocessing` runs this module under the name ``__mp_main__``, and takes it for ``__main__``.
"""

from letstune.training.script import in_a_child

if __name__ == "__mp_main__":
    globals().update(in_a_child())
