//! Server side of SCRAM-SHA-256 (RFC 5802, RFC 7677), without I/O, clock or random source.
//!
//! The client proves that it knows a password, the server that it knows what is kept of it; neither tells the
//! other, nor anybody who listens. What the server keeps is a [`Verifier`]. A [`ClientFirst`] begins an
//! [`Exchange`], whose end is the principal's name proven or a [`ScramError`].
//!
//! Channel binding is not offered: `n` and `y` are taken, `p=` is not.

mod exchange;
mod message;
mod verifier;

pub use exchange::{ClientFirst, Exchange, SERVER_NONCE_BYTES};
pub use message::{MESSAGE_BYTES_MAX, ScramError};
pub use verifier::{
    Decoys, ITERATIONS, ITERATIONS_DEFAULT, InvalidVerifier, PasswordError, SALT_BYTES, Verifier,
};

/// The name of the method, as SASL and MQTT know it.
pub const METHOD: &str = "SCRAM-SHA-256";

#[cfg(test)]
mod tests;
