"""A command that runs: what it prints, what it tells, and how it ends, with all that it started.

It is started by a supervisor, as a worker is, and so ends with this process whatever happens.
Nothing here reads in a thread, of which forks in a trainer would warn: what the command prints
waits in its pipes while nobody looks, which is while an epoch is being recorded.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

from letstune.errors import CommandError, TrainerError
from letstune.training import supervisor
from letstune.training.epochs import ANSWERS, END, HELLO, REPORTS

_TAIL: Final = 4000
"""How many bytes of stderr an error repeats."""

_TURNS: Final = 100

_SOONEST, _LATEST = 0.005, 0.1
"""How often the file of metric values is looked at, in seconds: less and less."""


class CommandProcess:
    """A process, and all that it starts.

    Args:
        words: the program and its arguments.
        folder: where it runs.
        environment: its variables.
        workplace: a private folder, in which this may make files whose names begin with `name`.
        name: of this process.
        metric: which JSON objects on stdout are metric values: those that have it; None if these
            come in the file ``workplace/name.jsonl`` instead.

    Attributes:
        helped: whether the command uses `letstune.epochs`.
        code: the exit code, or minus the number of the signal that ended it; None while it runs.

    Raises:
        CommandError: it cannot be started.
    """

    def __init__(
        self,
        words: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        *,
        place: Path,
        metric: str | None,
    ) -> None:
        self.words = words
        self.helped = False
        self.code: int | None = None
        self.lines: list[Any] = []  # the metric values so far, one for each JSON line
        self._file = place.with_suffix(".jsonl")
        self._metric = metric
        self._size = 0
        self._heard = self._out = self._told = self._tail = b""
        self._pause = _SOONEST
        fifos = {REPORTS: place.with_suffix(".reports"), ANSWERS: place.with_suffix(".answers")}
        for path in fifos.values():
            os.mkfifo(path, 0o600)
        # For both, so that neither waits for the other side, nor sees it end.
        self._reports, self._answers = (
            os.open(path, os.O_RDWR | os.O_NONBLOCK) for path in fifos.values()
        )
        try:
            self._start(folder, {**environment, **{name: str(p) for name, p in fifos.items()}})
        except (OSError, ValueError) as error:  # ValueError: a NUL character
            self._close_fifos()
            raise CommandError(f"The command {self.shown} cannot be started: {error}.") from error

    def _start(self, folder: Path, environment: Mapping[str, str]) -> None:
        program = self.words[0]
        if os.sep in program:
            found = str(folder / program)
        else:
            found = shutil.which(program, path=environment.get("PATH")) or ""
        if not os.access(found, os.X_OK):
            raise FileNotFoundError(f"there is no program {program!r} (looked at from {folder})")
        self._control, control = socket.socketpair()
        self._control.setblocking(False)
        with control, ExitStack() as undone:
            undone.callback(self._control.close)
            self._supervisor = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", str(Path(supervisor.__file__))),
                    *("script", str(control.fileno()), found, *self.words[1:]),
                ],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[control.fileno()],
                start_new_session=True,
            )
            undone.pop_all()
        streams = [self._supervisor.stdout, self._supervisor.stderr]
        self._stdout, self._stderr = (stream.fileno() for stream in streams if stream is not None)
        self._open = {self._stdout, self._stderr, self._control.fileno(), self._reports}
        for file in self._open:
            os.set_blocking(file, False)

    @property
    def shown(self) -> str:
        """The command for people."""
        return f"{' '.join(self.words)!r:.500}"

    def answer(self, line: str) -> None:
        """Tell the command which epoch to train, if it asks."""
        with suppress(OSError):  # its place is limited; who does not read has not asked
            os.write(self._answers, line.encode())

    def wait(self) -> None:
        """Wait for news for a moment, and take note of all there is."""
        if self.code is None:
            readable, _, _ = select.select(self._open, [], [], self._pause)
            self._pause = _SOONEST if readable else min(2 * self._pause, _LATEST)
        self._read()

    def _read(self) -> None:
        ended = self._hear()  # first, so that all that came before is read
        turns = 0  # of one that prints without end, not all can be read
        while self._forward(self._stdout, 1) | self._forward(self._stderr, 2):
            if (turns := turns + 1) > _TURNS and not ended:
                break
        self._collect()
        if self._metric is None and not self.helped:
            self._look(ended)
        if ended:
            self._take(self._out)
            self._out = b""

    def _hear(self) -> bool:
        """Listen to the supervisor; tell whether all is over."""
        if self.code is not None:
            return True
        try:
            while heard := os.read(self._control.fileno(), 1000):
                self._heard += heard
        except BlockingIOError:
            return False
        except OSError:
            pass
        *lines, _ = self._heard.split(b"\n")
        lines = [line for line in lines if not line.startswith(b"!")]  # of signals from outside
        self.code = int(lines[1].split()[0]) if len(lines) > 1 else -signal.SIGKILL
        self._supervisor.wait()
        return True

    def _forward(self, file: int, to: int) -> bool:
        """Pass on what the command prints, and keep what is wanted; tell whether there was any."""
        if file not in self._open:
            return False
        try:
            data = os.read(file, 2**16)
        except BlockingIOError:
            return False
        if not data:
            self._open.discard(file)
            return False
        with suppress(OSError):
            rest = memoryview(data)
            while rest:  # as if the command wrote there itself
                rest = rest[os.write(to, rest) :]
        if to == 2:
            self._tail = (self._tail + data)[-_TAIL:]
        elif self._metric is not None:
            *lines, self._out = (self._out + data).split(b"\n")
            for line in lines:
                self._take(line)
        return True

    def _take(self, line: bytes) -> None:
        """Take a line of stdout for metric values, if it is."""
        if self._metric is None or self.helped or not line.lstrip().startswith(b"{"):
            return
        with suppress(ValueError):
            values = json.loads(line)
            if self._metric in values:
                self.lines.append(values)

    def _collect(self) -> None:
        """Hear what `letstune.epochs` tells."""
        with suppress(BlockingIOError):
            while data := os.read(self._reports, 2**16):
                self._told += data
        *lines, self._told = self._told.split(b"\n")
        for line in lines:
            if line == HELLO.encode():
                self.helped, self.lines = True, []
            else:
                self.lines.append(json.loads(line))

    def _look(self, ended: bool) -> None:
        """Look into the file of metric values.

        All of it, if it has changed, since some programs write it anew each time. A line counts
        once it has its end, or the command has ended.
        """
        try:
            if self._file.stat().st_size == self._size and not ended:
                return
            data = self._file.read_bytes()
        except FileNotFoundError:
            return
        self._size = len(data)
        *lines, rest = data.split(b"\n")
        if ended:
            lines.append(rest)
        texts = [line for line in lines if line.strip()]
        for number, line in enumerate(texts[len(self.lines) :], len(self.lines) + 1):
            try:
                self.lines.append(json.loads(line))
            except ValueError as error:
                raise TrainerError(
                    f"Line {number} of the command's {{metrics}} file is {line!r:.200}, which is "
                    f'no JSON: {error}. Expected a line an epoch, such as {{"loss": 0.5}}.'
                ) from error

    def failure(self) -> CommandError:
        """Return an error that tells how it ended, with the end of what it wrote to stderr."""
        tail = self._tail.decode(errors="replace").strip()
        code = self.code or 0
        how = f"exited with {code}" if code >= 0 else f"was ended by signal {-code}"
        return CommandError(
            f"The command {self.shown} {how}. "
            + (f"The end of its stderr:\n{tail}" if tail else "It wrote nothing to stderr.")
        )

    def finish(self, seconds: float) -> bool:
        """Let the loop over `letstune.epochs` end; tell whether the process has in that time."""
        self.answer(END)
        until = time.monotonic() + seconds
        while self.code is None and time.monotonic() < until:
            self.wait()
        return self.code is not None

    def close(self) -> None:
        """End it, and all that it started, at once."""
        with suppress(OSError):
            self._control.send(b"K")
        with suppress(subprocess.TimeoutExpired):
            self._supervisor.wait(2 * supervisor.PATIENCE + 5)
        with suppress(OSError, TrainerError):
            self._read()  # its last words
        self._control.close()
        for stream in (self._supervisor.stdout, self._supervisor.stderr):
            if stream is not None:
                stream.close()
        self._close_fifos()

    def _close_fifos(self) -> None:
        os.close(self._reports)
        os.close(self._answers)
