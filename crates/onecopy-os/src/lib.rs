//! Operating system layer: memory files, mappings, futexes, process liveness, memory figures.
