//! The uplinks' part of the journal's state, and changes of it.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
};

use tidegate_model::UplinkName;
use tidegate_store::{Transaction, TransactionError};
use tidegate_uplink::{Change, renew, retire};

use super::task::UplinkError;

/// Entries of the journal's state, by key.
pub type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// Begins another epoch for each of the uplinks `names`, as the journal's state may have lost
/// something: in `entries`, the state as recovery found it, and in `transaction`, which must be
/// durable before [`new`](super::new) and should settle the damage.
///
/// # Errors
///
/// [`UplinkError`] if what the journal keeps for an uplink is malformed.
pub fn renew_epochs(
    names: &[UplinkName],
    directory_epoch: i64,
    entries: &mut Entries,
    transaction: &mut Transaction,
) -> Result<(), UplinkError> {
    for name in names {
        let random = RandomState::new().hash_one(name.as_str());
        let pairs = entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        let changes = renew(name, pairs, directory_epoch, random)?;
        apply(changes, entries, transaction)?;
    }
    Ok(())
}

/// Forgets an uplink that is no longer configured, but for the numbers of its streams: if it ever
/// comes back, they go on. Its taker is retired apart.
///
/// # Errors
///
/// [`UplinkError`] if what the journal keeps for it is malformed.
pub fn forget(
    name: &UplinkName,
    entries: &mut Entries,
    transaction: &mut Transaction,
) -> Result<(), UplinkError> {
    let pairs = entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
    let changes = retire(name, pairs)?;
    apply(changes, entries, transaction)?;
    Ok(())
}

/// Puts changes into a transaction and into a copy of the state: all, or after an error none into the
/// copy.
pub(super) fn apply(
    changes: Vec<Change>,
    entries: &mut Entries,
    transaction: &mut Transaction,
) -> Result<(), TransactionError> {
    for change in &changes {
        match change {
            Change::Put { key, value } => transaction.put(key, value)?,
            Change::Delete { key } => transaction.delete(key)?,
        }
    }
    for change in changes {
        match change {
            Change::Put { key, value } => drop(entries.insert(key, value)),
            Change::Delete { key } => drop(entries.remove(&key)),
        }
    }
    Ok(())
}
