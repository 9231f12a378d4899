"""JSON files from unknown sources."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from forecast.errors import DataError, reason_of
from forecast.storage.files import filesystem, refuse_pointer


def read_json(path: str, keep: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """The content of a JSON file.

    Args:
        path: Local path or fsspec URL.
        keep: What to keep of each object in it, innermost first, instead of all; so that a
            table of a million records needs memory only for those wanted.

    Raises:
        DataError: The file is missing, cut off, no JSON, or nested beyond reason.
    """
    system, inner = filesystem(path)
    try:
        content = system.cat_file(inner)
        refuse_pointer(content, path)
        return json.loads(content, object_hook=keep)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError("a JSON file", f"{path} ({reason_of(error)})", "restore it") from error
