"""What leaves for people's eyes: progress, observers, and rows as text.

Knows terminals, notebooks and logs, and the state of a run that it tells of.
Must not change what it tells of, nor end a run that cannot be told of.
"""
