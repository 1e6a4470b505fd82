//! Changes that count together or not at all.

use crate::damage::DamageId;
use crate::format::{self, FRAME_HEADER_BYTES, FrameKind};
use crate::position::{Seq, TakerId};

/// The largest body of a data record: a message of 1 MiB and what surrounds it.
pub const BODY_BYTES_MAX: usize = (1 << 20) + (128 << 10);
/// The longest key of the state.
pub const KEY_BYTES_MAX: usize = 8 << 10;
/// The largest value of the state.
pub const VALUE_BYTES_MAX: usize = (1 << 20) + (128 << 10);
/// The most that one transaction may hold.
pub const TRANSACTION_BYTES_MAX: usize = 16 << 20;

/// An operation was not added to a transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// The body of a record is larger than [`BODY_BYTES_MAX`].
    #[error("a record of {bytes} bytes is larger than the limit of {BODY_BYTES_MAX}")]
    BodyTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A key is empty or longer than [`KEY_BYTES_MAX`].
    #[error("a key must have between 1 and {KEY_BYTES_MAX} bytes, not {bytes}")]
    KeyLength {
        /// Its length.
        bytes: usize,
    },
    /// A value is larger than [`VALUE_BYTES_MAX`].
    #[error("a value of {bytes} bytes is larger than the limit of {VALUE_BYTES_MAX}")]
    ValueTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The transaction would be larger than [`TRANSACTION_BYTES_MAX`].
    #[error("a transaction holds at most {TRANSACTION_BYTES_MAX} bytes")]
    TransactionTooLarge,
}

/// Changes to the log and the state that count together or not at all.
///
/// A transaction may be built on any thread; it is encoded as it is built. After an error it holds
/// what it held before.
///
/// # Examples
///
/// ```
/// # use tidegate_store::{Seq, TakerId, Transaction};
/// let mut transaction = Transaction::new();
/// transaction.append(Seq::new(1), &[(TakerId::new(7), 1)], b"21.5")?;
/// transaction.put(b"stream/hall1/press-1", b"1")?;
/// assert_eq!(transaction.records(), 1);
/// # Ok::<(), tidegate_store::TransactionError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    ops: Vec<u8>,
    records: u32,
}

impl Transaction {
    /// Starts an empty transaction.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts an empty transaction with room for about `bytes`.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { ops: Vec::with_capacity(bytes), records: 0 }
    }

    /// Adds a data record for `takers`, each with its ordinal.
    ///
    /// `seq` must be higher than that of every record before it in the order of the log, and each
    /// ordinal the one after the taker's last; [`Journal::write`](crate::Journal::write) asserts
    /// both. A taker's ordinals start at 1.
    ///
    /// # Errors
    ///
    /// [`TransactionError::BodyTooLarge`] and [`TransactionError::TransactionTooLarge`].
    pub fn append(
        &mut self,
        seq: Seq,
        takers: &[(TakerId, u64)],
        body: &[u8],
    ) -> Result<(), TransactionError> {
        if body.len() > BODY_BYTES_MAX {
            return Err(TransactionError::BodyTooLarge { bytes: body.len() });
        }
        self.reserve(body.len() + takers.len() * 15)?;
        format::put_append(&mut self.ops, seq, takers, body);
        self.records += 1;
        Ok(())
    }

    /// Sets a key of the state.
    ///
    /// # Errors
    ///
    /// [`TransactionError::KeyLength`], [`TransactionError::ValueTooLarge`] and
    /// [`TransactionError::TransactionTooLarge`].
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), TransactionError> {
        check_key(key)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(TransactionError::ValueTooLarge { bytes: value.len() });
        }
        self.reserve(key.len() + value.len())?;
        format::put_value(&mut self.ops, key, value);
        Ok(())
    }

    /// Removes a key of the state; it need not be there.
    ///
    /// # Errors
    ///
    /// [`TransactionError::KeyLength`] and [`TransactionError::TransactionTooLarge`].
    pub fn delete(&mut self, key: &[u8]) -> Result<(), TransactionError> {
        check_key(key)?;
        self.reserve(key.len())?;
        format::put_delete(&mut self.ops, key);
        Ok(())
    }

    /// Forgets a taker: its last position is no longer part of the state.
    ///
    /// # Errors
    ///
    /// [`TransactionError::TransactionTooLarge`].
    pub fn retire(&mut self, taker: TakerId) -> Result<(), TransactionError> {
        self.reserve(0)?;
        format::put_retire(&mut self.ops, taker);
        Ok(())
    }

    /// Strikes a damage off the list, now that it has been counted or told.
    ///
    /// # Errors
    ///
    /// [`TransactionError::TransactionTooLarge`].
    pub fn settle(&mut self, damage: DamageId) -> Result<(), TransactionError> {
        self.reserve(0)?;
        format::put_settle(&mut self.ops, damage);
        Ok(())
    }

    /// Returns the number of data records.
    #[must_use]
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Returns how many bytes the transaction takes up in the log.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        FRAME_HEADER_BYTES + self.ops.len()
    }

    /// Returns whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    pub(crate) fn release(first_segment: u64) -> Self {
        let mut transaction = Self::new();
        format::put_release(&mut transaction.ops, first_segment);
        transaction
    }

    pub(crate) fn ops(&self) -> &[u8] {
        &self.ops
    }

    /// Appends the frame, but for its place in a segment.
    pub(crate) fn write_to(&self, buffer: &mut Vec<u8>) {
        format::write_frame(buffer, FrameKind::Transaction, |buffer| {
            buffer.extend_from_slice(&self.ops);
        });
    }

    fn reserve(&self, bytes: usize) -> Result<(), TransactionError> {
        const OP_BYTES_MAX: usize = 32;
        if self.ops.len() + bytes + OP_BYTES_MAX > TRANSACTION_BYTES_MAX {
            return Err(TransactionError::TransactionTooLarge);
        }
        Ok(())
    }
}

fn check_key(key: &[u8]) -> Result<(), TransactionError> {
    match key.len() {
        1..=KEY_BYTES_MAX => Ok(()),
        bytes => Err(TransactionError::KeyLength { bytes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_refused_and_leaves_the_transaction_as_it_was() {
        let mut transaction = Transaction::new();
        let large = vec![0; BODY_BYTES_MAX + 1];
        assert_eq!(
            transaction.append(Seq::FIRST, &[], &large),
            Err(TransactionError::BodyTooLarge { bytes: large.len() })
        );
        assert_eq!(transaction.put(b"", b""), Err(TransactionError::KeyLength { bytes: 0 }));
        assert!(transaction.is_empty());
        let mut added = 0;
        while transaction.put(b"key", &large[..VALUE_BYTES_MAX]).is_ok() {
            added += 1;
        }
        assert!(added > 1 && transaction.encoded_len() <= TRANSACTION_BYTES_MAX);
    }
}
