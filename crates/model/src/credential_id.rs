//! Which credential let a client in.

use std::fmt;

/// A credential's fingerprint: equal for the same credential of the same principal, different once it is replaced.
///
/// It tells nothing of the credential itself. The default is that of a client without one.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CredentialId([u8; 16]);

impl CredentialId {
    /// Takes a fingerprint.
    pub fn new(fingerprint: [u8; 16]) -> Self {
        Self(fingerprint)
    }
}

impl fmt::Debug for CredentialId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CredentialId({:032x})", u128::from_be_bytes(self.0))
    }
}
