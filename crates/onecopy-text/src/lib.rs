//! Parallel reader of delimited text into packed records.
