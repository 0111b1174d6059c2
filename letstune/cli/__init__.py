"""The command line: click's commands, a file for each group of them.

Knows how to read arguments, and how to print what comes of them.
Must not have logic of its own: each command calls what a Python user calls.
"""
