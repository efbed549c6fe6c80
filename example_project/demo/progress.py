"""Say how far the demo is, on a terminal only: with rich where it is installed, else a line now and then."""

import os
import time
from typing import Protocol, TextIO

LINE_INTERVAL = 5.0


class Progress(Protocol):
    """What the demo tells while it runs."""

    def say(self, step: str) -> None:
        """Name the step of the preparation that begins."""

    def start(self, seconds: float) -> None:
        """Begin the run."""

    def phase(self, name: str) -> None:
        """Name the phase that begins."""

    def sent(self, count: int) -> None:
        """Tell how many requests were sent so far."""

    def close(self) -> None:
        """Leave the terminal as it was; harmless when done twice."""


def make_progress(stream: TextIO) -> Progress:
    """Choose: quiet in CI and where the stream is no terminal."""
    if os.environ.get("CI", "").lower() in {"1", "true"} or not stream.isatty():
        return QuietProgress()
    try:
        return RichProgress(stream)
    except ImportError:
        return LineProgress(stream)


class QuietProgress:
    """Tell nothing."""

    def say(self, step: str) -> None:
        """Tell nothing."""

    def start(self, seconds: float) -> None:
        """Tell nothing."""

    def phase(self, name: str) -> None:
        """Tell nothing."""

    def sent(self, count: int) -> None:
        """Tell nothing."""

    def close(self) -> None:
        """Do nothing."""


class LineProgress:
    """Write a line for each step and phase, and every few seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._next_line = 0.0
        self._phase = ""

    def say(self, step: str) -> None:
        """Write the step."""
        self._write(step)

    def start(self, seconds: float) -> None:
        """Write for how long requests are sent."""
        self._write(f"sending requests for about {seconds:g} s")

    def phase(self, name: str) -> None:
        """Write the phase."""
        self._phase = name
        self._write(name)

    def sent(self, count: int) -> None:
        """Write the count, if the last line is some seconds old."""
        if time.monotonic() >= self._next_line:
            self._write(f"{self._phase}: {count:,} requests")

    def close(self) -> None:
        """Do nothing."""

    def _write(self, text: str) -> None:
        self._next_line = time.monotonic() + LINE_INTERVAL
        self._stream.write(f"  {text}\n")
        self._stream.flush()


class RichProgress:
    """Show one bar that moves with the time."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console  # noqa: PLC0415 (an optional dependency)
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
        from rich.progress import Progress as Bar  # noqa: PLC0415

        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._bar = Bar(*columns, console=Console(file=stream), transient=True)
        self._task = self._bar.add_task("preparing", total=None)
        self._started = 0.0
        self._phase = ""
        self._bar.start()

    def say(self, step: str) -> None:
        """Show the step."""
        self._bar.update(self._task, description=step)

    def start(self, seconds: float) -> None:
        """Start the bar."""
        self._started = time.monotonic()
        self._bar.update(self._task, total=seconds, completed=0)

    def phase(self, name: str) -> None:
        """Show the phase."""
        self._phase = name
        self._bar.update(self._task, description=name)

    def sent(self, count: int) -> None:
        """Move the bar."""
        description = f"{self._phase}: {count:,} requests"
        self._bar.update(self._task, completed=time.monotonic() - self._started, description=description)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()
