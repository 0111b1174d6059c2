"""The algorithm: plan, events, state, cohorts, what comes next, and the seeds of it all.

Knows values, and turns them into values: the whole outcome of a run is decided here.
Must not know of files, processes, clocks or the user's code; nothing here has an effect.
"""
