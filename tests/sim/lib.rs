//! Deterministic simulator of a mesh: world, network, faults, oracle.
