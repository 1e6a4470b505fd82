//! The mapping language: parse with spans, compile at load, apply to readings.
