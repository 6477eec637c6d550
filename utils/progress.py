"""Progress bars that can be switched off from outside."""

import os
from typing import Any

from tqdm.auto import tqdm


def progress_bar(**options: Any) -> tqdm:
    """Return a tqdm bar that is cleared at the end, and silent where `$TQDM_DISABLE` says so.

    tqdm heeds that variable in a terminal, but its bar for notebooks does not (tqdm 4.70): in a stored
    notebook it would stay as a dead widget.

    Args:
        **options: As for `tqdm.auto.tqdm`.
    """
    if os.environ.get("TQDM_DISABLE", "0") not in ("", "0"):
        options["disable"] = True
    return tqdm(**{"leave": False, **options})
