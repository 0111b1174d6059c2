"""Runs: a request is checked, agreed with the journal, and trained to its end, in one loop.

Knows all wings below, and puts them together; here alone is anything done that lasts.
Must not decide what comes next: that is of `rounds`.
"""
