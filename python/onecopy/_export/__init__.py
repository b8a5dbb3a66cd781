"""Arrays as files of other formats, by the packages that keep these: pyarrow and zarr."""

from onecopy._export.tables import to_ipc, to_parquet
from onecopy._export.zarr_store import to_zarr

__all__ = ["to_ipc", "to_parquet", "to_zarr"]
