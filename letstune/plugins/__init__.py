"""Plugins: what can be plugged in, what is there, and what letstune itself plugs in.

Knows hooks, entry points and factories, and imports a plugin only when it is named.
Must not know what a run does with what it makes.
"""
