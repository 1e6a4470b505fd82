//! Readers see what the model says.
