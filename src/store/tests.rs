//! The writer thread over simulated storage and over real files.
