"""What leaves for people's eyes: progress, observers, and rows as text.

Knows terminals, notebooks and logs, and the state of the run that it tells of.
Must not change that run, nor end it when nobody can be told.
"""
