"""Where pmtutrace keeps what it can make again.

One folder for images, symbol ranges and fetched kernels: ``$PMTUTRACE_CACHE``, else
``$XDG_CACHE_HOME/pmtutrace``, else ``~/.cache/pmtutrace`` (XDG Base Directory Specification).
"""

from __future__ import annotations

import os
from pathlib import Path


def cache(*parts: str) -> Path:
    """Return a folder below the cache, made with mode 0700 if it is not there.

    Kernel addresses are kept in it, so nobody but its owner may read it.
    """
    named = os.environ.get("PMTUTRACE_CACHE")
    base = (
        Path(named)
        if named
        else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pmtutrace"
    )
    folder = base.joinpath(*parts)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
