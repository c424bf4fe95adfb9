"""One bar over all parts of a comparison, whose sizes are known beforehand."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class TotalBar:
    """Prints "part k of n" as each begins, above one bar for all of them, to standard error.

    Args:
        sizes: of each part, in order, in one unit for all.
        console: where it is shown instead.
    """

    def __init__(self, sizes: Mapping[str, int], console: Console | None = None) -> None:
        self.sizes, self._end = dict(sizes), 0
        columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Progress(TextColumn("{task.description}"), *columns, console=console or Console(stderr=True))
        self._task = self._bar.add_task("", total=sum(self.sizes.values()))

    @contextmanager
    def shown(self) -> Iterator["TotalBar"]:
        """The bar stays on the screen meanwhile."""
        with self._bar:
            yield self

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Meanwhile that part is done; at its end the bar stands there, whatever was counted."""
        place = list(self.sizes).index(name) + 1
        self._bar.console.print(f"part {place} of {len(self.sizes)}: {name}", highlight=False)
        self._bar.update(self._task, description=name)
        self._end = sum(list(self.sizes.values())[:place])
        yield
        self._bar.update(self._task, completed=self._end)

    @property
    def done(self) -> float:
        """The share of all that is done."""
        return self._bar.tasks[0].percentage / 100

    def advance(self, amount: int = 1) -> None:
        """So much of the present part was done; more than its size is not counted."""
        task = self._bar.tasks[0]
        self._bar.update(self._task, completed=min(task.completed + amount, self._end))
