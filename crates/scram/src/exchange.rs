//! From the client's first message to the server's last.

use std::fmt;

use data_encoding::{BASE64, BASE64_NOPAD};
use ring::hmac::{self, HMAC_SHA256};

use crate::{
    message::{Final, First, ScramError},
    verifier::{Key, Verifier, hash, sign},
};

/// How many random bytes the server adds to each exchange.
pub const SERVER_NONCE_BYTES: usize = 24;

/// A client's first message: who it wants to be.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientFirst {
    header: String,
    bare: String,
    name: String,
    nonce: String,
}

impl ClientFirst {
    /// Reads the message.
    ///
    /// # Errors
    ///
    /// [`ScramError`]: the client is refused without an answer of SCRAM.
    pub fn parse(message: &[u8]) -> Result<Self, ScramError> {
        let First { header, bare, name, nonce } = First::parse(message)?;
        let (header, bare, nonce) = (header.to_owned(), bare.to_owned(), nonce.to_owned());
        Ok(Self { header, bare, name, nonce })
    }

    /// Returns who the client wants to be.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the answer, and what waits for the client's second message.
    ///
    /// `random` is new for each exchange. Who has no verifier gets a [decoy](crate::Decoys).
    pub fn challenge(
        self,
        verifier: Verifier,
        random: &[u8; SERVER_NONCE_BYTES],
    ) -> (String, Exchange) {
        let Self { header, bare, name, nonce } = self;
        let nonce = format!("{nonce}{}", BASE64_NOPAD.encode(random));
        let salt = BASE64.encode(&verifier.salt);
        let answer = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let signed = format!("{bare},{answer},");
        (answer, Exchange { header, name, nonce, signed, verifier })
    }
}

impl fmt::Debug for ClientFirst {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClientFirst").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An exchange that waits for the client's second message.
pub struct Exchange {
    header: String,
    name: String,
    nonce: String,
    /// What client and server sign, up to the client's second message.
    signed: String,
    verifier: Verifier,
}

impl Exchange {
    /// Returns who the client wants to be.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what the client is checked with.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Checks the client's second message, and returns the server's last, by which the client knows the server.
    ///
    /// Takes two keyed hashes and two plain ones, in the same time for every proof that is wrong.
    ///
    /// # Errors
    ///
    /// [`ScramError`]: the client is refused, with [`ScramError::server_final`].
    pub fn finish(self, message: &[u8]) -> Result<String, ScramError> {
        let Final { header, nonce, without_proof, proof } = Final::parse(message)?;
        if header != self.header.as_bytes() {
            return Err(ScramError::ChannelBindingMismatch);
        }
        if nonce != self.nonce {
            return Err(ScramError::Nonce);
        }
        let signed = [self.signed.as_bytes(), without_proof.as_bytes()];
        let Verifier { stored_key, server_key, .. } = &self.verifier;
        let mut client_key = sign(stored_key, &signed);
        for (byte, proven) in client_key.iter_mut().zip(proof) {
            *byte ^= proven;
        }
        if !are_equal(&hash(&client_key), stored_key) {
            return Err(ScramError::Proof);
        }
        Ok(format!("v={}", BASE64.encode(&sign(server_key, &signed))))
    }
}

#[cfg(test)]
impl Exchange {
    /// Puts the nonce of a standard's example in the place of ours.
    pub(crate) fn nonce_for_test(&mut self, nonce: &str) {
        self.signed = self.signed.replace(&self.nonce, nonce);
        nonce.clone_into(&mut self.nonce);
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Exchange").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Compares in constant time: `ring` compares the tags of both so.
fn are_equal(one: &Key, other: &Key) -> bool {
    let key = hmac::Key::new(HMAC_SHA256, &[]);
    hmac::verify(&key, one, hmac::sign(&key, other).as_ref()).is_ok()
}
