"""Shows how far a load is, by tqdm where that is installed."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator

from .load_state import LoadProgress, ProgressLike


@contextlib.contextmanager
def show_progress(progress: ProgressLike, rows: Any) -> Iterator[Callable[[LoadProgress], None]]:
    """Yields what takes the progress: the caller's own function, a bar of tqdm for True, otherwise nothing."""
    if callable(progress):
        yield progress
        return
    bar = None
    if progress:
        with contextlib.suppress(ImportError):
            from tqdm.auto import tqdm

            bar = tqdm(total=len(rows) if hasattr(rows, "__len__") else None, unit="row", unit_scale=True)
    if bar is None:
        yield lambda _: None
        return
    with bar:
        yield lambda now: bar.update(now.rows_committed - bar.n)
