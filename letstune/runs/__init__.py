"""Runs: a request is checked, agreed with the journal, and trained to its end, in one loop.

Knows all wings below, and puts them together; only this wing does anything that lasts.
Must not decide what comes next: `rounds` does that.
"""
