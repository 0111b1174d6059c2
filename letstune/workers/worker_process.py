"""A worker process, seen from its owner: started fresh, spoken to, and never left behind.

Not `multiprocessing`: its processes import the user's script again, which must then be guarded;
cannot be started by its own daemonic processes, as Dask's workers are; and leave their children
behind. Of it, only the connection is used.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from letstune.errors import WorkerError
from letstune.telling.lines import say
from letstune.training import supervisor
from letstune.workers import import_order
from letstune.workers.messages import Message
from letstune.workers.output import Output

MARK: Final = "LETSTUNE_WORKER"
"""The environment variable by which a worker, and all that it starts, is known."""

LAST: Final = 2 * supervisor.PATIENCE + 5.0
"""How long it takes at most until a supervisor has killed its worker, or given up, in seconds."""

_STACK_LIMIT: Final = 100_000


class Ended(NamedTuple):
    """How a process ended: its exit code, or minus the signal's number; its peak memory, if known.

    ``memory`` is in bytes.
    """

    code: int
    memory: int | None


def _supervise(
    control: int, files: list[int], code: str, environment: Mapping[str, str], printed: int | None
) -> subprocess.Popen[bytes]:
    """Start a supervisor, which starts a worker that runs the code and has the files open.

    Raises:
        OSError: it cannot be started.
    """
    usual = subprocess.DEVNULL if sys.__stderr__ is None else 2
    return subprocess.Popen(
        [
            *(sys.executable, "-I", "-S", str(Path(supervisor.__file__))),
            *("worker", ",".join(map(str, [control, *files]))),
            *(sys.executable, "-P", "-c", code),
        ],
        env=environment,
        stdin=subprocess.DEVNULL,
        # A program's output is not for what its workers print.
        stdout=usual if printed is None else printed,
        stderr=printed,
        pass_fds=[control, *files],
        start_new_session=True,
    )


class WorkerProcess:
    """A process that trains, and whatever that starts. All of it ends with this process.

    Args:
        job: a file from `Job.spool`.
        token: names the worker; no other one, of any run, has the same.
        environment: variables of its own.
        told: whether it shall tell of each call of the trainer that may take too long.
        kept: whether what it prints is for `printed`; else, it goes to this program's stderr.
        main: the module of what runs in it.

    Attributes:
        trial: the one that it trains, or has trained last; -1 if there was none.
        signals: those that came to it from outside, as far as `ended` has heard.

    Raises:
        WorkerError: it cannot be started.
    """

    def __init__(
        self,
        job: IO[bytes],
        token: str,
        environment: Mapping[str, str],
        *,
        told: bool = False,
        kept: bool = False,
        main: str = import_order.MAIN,
    ) -> None:
        if os.name == "nt":
            raise WorkerError(
                "Worker processes need Linux, macOS or another POSIX system; this is Windows. "
                "Leave workers and timeouts out, to train in this process."
            )
        self.token = token
        self.pid = 0
        self.trial = -1
        self.signals: list[int] = []
        self._heard = b""
        self._ended: Ended | None = None
        self._output = _output() if kept else None
        mine, data = socket.socketpair()
        self.control, control = socket.socketpair()
        self._log = tempfile.TemporaryFile(prefix="letstune-")  # noqa: SIM115 (lives as long as this)
        files = [data.fileno(), self._log.fileno(), job.fileno()]
        code = import_order.code((*files, token, told), main)
        with data, control, _blocked_signals():
            try:
                self._supervisor = _supervise(
                    control.fileno(),
                    files,
                    code,
                    {**os.environ, **environment, MARK: token},
                    None if self._output is None else self._output.file,
                )
            except OSError as error:
                mine.close()
                self.control.close()
                self._log.close()
                self.let_go()
                raise _unstartable(error) from error
        self.control.setblocking(False)
        self.connection = Connection(mine.detach())

    def send(self, message: object) -> None:
        """Send a value, unless nobody is there to take it; then `ended` is going to tell so."""
        with suppress(OSError):
            self.connection.send(message)

    def receive(self) -> list[Message]:
        """Return all that has arrived."""
        messages: list[Message] = []
        try:
            while not self.connection.closed and self.connection.poll():
                messages.append(self.connection.recv())
        except (EOFError, OSError):
            self.connection.close()
        return messages

    def printed(self) -> Iterator[bytes]:
        """Yield what it has printed since the last call."""
        if self._output is not None:
            yield from self._output.read()

    def let_go(self) -> None:
        """Let what it prints from now on be lost."""
        if self._output is not None:
            self._output.close()
            self._output = None

    @property
    def waitables(self) -> list[Any]:
        """What becomes readable when there is news; for `multiprocessing.connection.wait`."""
        return [self.control, *([] if self.connection.closed else [self.connection])]

    def dump_stacks(self) -> None:
        """Have it write the stacks of its threads, for `stack`, whatever it is doing."""
        self._say(b"S")

    def terminate(self) -> None:
        """End it, and ask all that it started to end."""
        self._say(b"T")

    def kill(self) -> None:
        """End it, and all that it started."""
        self._say(b"K")

    def _say(self, word: bytes) -> None:
        with suppress(OSError):
            self.control.send(word)

    def ended(self) -> Ended | None:
        """Return how it ended, once neither it nor anything that it started is there any more."""
        if self._ended is None:
            try:
                while heard := self.control.recv(100):
                    self._heard += heard
            except BlockingIOError:
                return self._understand()
            except ConnectionError:
                pass
            self._ended = self._understand() or self._orphaned()
        return self._ended

    def _understand(self) -> Ended | None:
        *lines, rest = self._heard.split(b"\n")
        self.signals += [int(line[1:]) for line in lines if line.startswith(b"!")]
        lines = [line for line in lines if not line.startswith(b"!")]
        self._heard = b"\n".join([*lines, rest])
        self.pid = int(lines[0]) if lines else 0
        if len(lines) < 2:
            return None
        code, memory = map(int, lines[1].split())
        self._ended = Ended(code, memory)
        return self._ended

    def abandon(self) -> None:
        """End it, and all that it started, without its supervisor, which does not answer."""
        self._supervisor.kill()  # and with it, the worker
        self._ended = self._ended or self._orphaned()

    def _orphaned(self) -> Ended:
        """Clean up after a supervisor that was killed, and with it the worker, or that gave up."""
        if self.pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        # Whoever left the group has still inherited the variable; where there is /proc, it tells.
        mark = f"{MARK}={self.token}".encode()
        for file in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):  # somebody else's, or it has just ended
                if mark in file.read_bytes().split(b"\0"):
                    os.kill(int(file.parent.name), signal.SIGKILL)
        return Ended(-signal.SIGKILL, None)

    def stack(self) -> str:
        """Return what it has told of its stacks, on demand or when it crashed."""
        return os.pread(self._log.fileno(), _STACK_LIMIT, 0).decode(errors="replace").strip()

    def hang_up(self) -> None:
        """Let it know that there is no more work: then it ends, once it is idle."""
        self.connection.close()

    def end(self, timeout: float) -> None:
        """Wait until it has ended; begin to kill it if it takes longer than that, in seconds."""
        self.hang_up()
        if not self._over(timeout):
            self.kill()

    def close(self, timeout: float) -> None:
        """Wait until all of it has ended, and kill it if it takes longer than that, in seconds.

        What cannot be killed is told on stderr, and left behind.
        """
        self.end(timeout)
        if not self._over(LAST):
            self.abandon()
            if not self._over(LAST):
                say(supervisor.STUCK.format(self._supervisor.pid).strip())
        self.control.close()
        self._log.close()

    @property
    def stopped(self) -> bool:
        """Whether it is stopped, as by SIGSTOP; no, where there is no /proc to tell."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_bytes()
        except OSError:
            return False
        return stat.rpartition(b")")[2].split()[0] == b"T"

    def _over(self, timeout: float) -> bool:
        """Wait until the supervisor has ended, and so all else, for some seconds at most."""
        with suppress(subprocess.TimeoutExpired):
            self._supervisor.wait(timeout)
        return self._supervisor.returncode is not None


def _output() -> Output:
    try:
        return Output()
    except OSError as error:
        raise _unstartable(error) from error


def _unstartable(error: OSError) -> WorkerError:
    return WorkerError(
        f"A worker process cannot be started: {error}. Nothing is lost: resume with "
        "fewer workers, or when there is room."
    )


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Hold back the signals that ask for a stop.

    A process that is started meanwhile inherits that, and so none of them can end it before it
    has handlers of its own.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, supervisor.OUTSIDE)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
