"""The journal: the one SQLite file that holds a run, its schema, and the lock of its owner.

Knows SQL, which nothing else does, and how a row becomes durable.
Must not know why something is recorded, nor unpickle what it keeps.
"""
