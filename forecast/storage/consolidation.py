"""The metadata of all arrays of a store in one place, its root, where xarray looks for them."""

from __future__ import annotations

import warnings

import zarr


def consolidate(url: str) -> None:
    """Writes a copy of the metadata of all arrays into the root metadata of a store.

    ``xarray.open_zarr`` warns where it is missing, and needs a request for every array of an object
    store. Call it once everything is laid out: what is changed later is not in the copy.

    Args:
        url: Local path or fsspec URL of a zarr v3 store.
    """
    with warnings.catch_warnings():
        # zarr warns that other programs may not read the copy; they need not.
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
        zarr.consolidate_metadata(url, zarr_format=3)
