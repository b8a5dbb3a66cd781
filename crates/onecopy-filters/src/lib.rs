//! Chunk filters of HDF5 (shuffle, deflate) on all cores.
