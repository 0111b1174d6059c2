"""Results: read-only views of a run's trials and epochs.

Knows the journal and the state that it leads to.
Must not write or train, nor unpickle anything but a checkpoint that is asked for.
"""
