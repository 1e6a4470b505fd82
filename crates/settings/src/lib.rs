//! Files that people write: one tree with spans from TOML or YAML, and a typed reader over it.
