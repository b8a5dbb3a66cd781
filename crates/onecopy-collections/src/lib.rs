//! Containers in shared memory: by offset and block, never by pointer, and whole after the death of anybody who used
//! them.
//!
//! What is here are the shared parts, made of atomics, and what a process does with them. Which block of the arena one
//! lives in, and how others find it, is the caller's affair.
//!
//! **Invariant:** whatever lies in shared memory may be anybody's: lengths and positions are read once and checked
//! before use, and damage is an error.

pub mod container;
mod door;
pub mod list;
pub mod map;
#[cfg(all(test, loom))]
mod models;
pub mod queue;
#[cfg(loom)]
mod stand_in;
