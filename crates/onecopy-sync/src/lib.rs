//! Robust locks on futexes: the death of an owner is noticed and reported, never waited for.
