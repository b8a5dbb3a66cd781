"""Arrays to and from HDF5 files: h5py is the container, the chunks are filtered on all cores."""

from onecopy._hdf5.arrays import to_hdf5
from onecopy._hdf5.joining import join_hdf5
from onecopy._hdf5.reader import from_hdf5

__all__ = ["from_hdf5", "join_hdf5", "to_hdf5"]
