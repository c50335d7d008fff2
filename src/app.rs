//! Composition: from a configuration to running threads.
