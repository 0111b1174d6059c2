"""Failures that are alike: of one cause, as far as their texts tell."""

from __future__ import annotations

import re

from letstune.rounds.events import TrialFailed

_FRAME = re.compile(r'^  File "(.+)", line (\d+), in (\S+)', re.MULTILINE)
_NUMBER = r"0x[0-9a-f]+|-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_LIBRARIES = r"[/\\](site-packages|dist-packages|letstune|lib[/\\]python3[^/\\]*)[/\\]"


def signature(failure: TrialFailed) -> tuple[str, str, str]:
    """Return what failures that are alike have in common.

    That is: the kind and the type of the exception, its message with all numbers masked, and the
    innermost line of the user's code.

    >>> told = 'Traceback ...\\n  File "/home/me/net.py", line 12, in train_epoch\\n'
    >>> signature(TrialFailed(3, 1, "raised", "ValueError: 17 rows", told))
    ('raised ValueError', ' # rows', '/home/me/net.py:12 train_epoch')
    """
    name, _, message = failure.message.partition(":")
    frames = [frame.groups() for frame in _FRAME.finditer(failure.traceback)]
    users = [frame for frame in frames if not re.search(_LIBRARIES, frame[0])]
    file, line, function = (users or frames or [("", "", "")])[-1]
    where = f"{file}:{line} {function}" if file else ""
    return f"{failure.kind} {name}", re.sub(_NUMBER, "#", message), where
