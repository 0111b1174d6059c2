"""Results: read-only views of a run's trials and epochs.

Knows the journal and the state that it leads to.
Must not write, train, or unpickle anything but a checkpoint that is asked for.
"""
