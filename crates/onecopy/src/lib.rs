//! One copy of your data, every process.
