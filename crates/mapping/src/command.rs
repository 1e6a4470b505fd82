//! The way back: from a topic to an address, and which values may be written there.

use std::cmp::Ordering;

use thiserror::Error;
use tidegate_model::{Captures, Glob, Principal, TypeMismatch, Value};

use crate::Entry;
use tidegate_expression::compare;

/// What may be written to an address, and by whom.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Writable {
    /// The smallest number.
    pub min: Option<f64>,
    /// The largest number.
    pub max: Option<f64>,
    /// Who may write; `None` leaves it to the access rules alone.
    pub principals: Option<Vec<Glob>>,
}

/// Who may call a method.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Callable {
    /// Who may; `None` leaves it to the access rules alone.
    pub principals: Option<Vec<Glob>>,
}

/// The address that a command is for.
#[derive(Clone, Debug)]
pub struct CommandTarget<'m> {
    /// The entry, which is writable or has a method.
    pub entry: &'m Entry,
    /// What the captures of its address stand for, in the order of the address.
    pub captures: Captures,
}

/// Why a value is not written.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum CommandRefusal {
    /// The entry takes no commands.
    #[error("the mapping is not writable")]
    NotWritable,
    /// The entry has no method.
    #[error("the point takes writes only (…/set)")]
    NotCallable,
    /// The entry takes commands from others only.
    #[error("`{principal}` may not command here")]
    Principal {
        /// Who wanted to.
        principal: Principal,
    },
    /// The value is not of the type of the entry.
    #[error(transparent)]
    Type(#[from] TypeMismatch),
    /// The entry has limits, and the value is no number that could be compared with them.
    #[error("expected a number, found {found}")]
    NotANumber {
        /// What kind of value there was.
        found: &'static str,
    },
    /// The value is beyond a limit.
    #[error("{value} is {} {limit}", if *.above { "above the maximum of" } else { "below the minimum of" })]
    OutOfRange {
        /// The value, as JSON.
        value: String,
        /// The limit.
        limit: f64,
        /// Whether the limit is the upper one.
        above: bool,
    },
}

impl Entry {
    /// Checks a value that somebody wants to write, and returns it as the type of the entry.
    ///
    /// # Errors
    ///
    /// [`CommandRefusal`] says why it must not be written.
    pub fn check_command(
        &self,
        value: &Value,
        principal: &Principal,
    ) -> Result<Value, CommandRefusal> {
        let writable = self.writable.as_ref().ok_or(CommandRefusal::NotWritable)?;
        check_principal(writable.principals.as_deref(), principal)?;
        let value = match self.value_type {
            Some(wanted) => wanted.pin(value.clone())?,
            None => value.clone(),
        };
        writable.check_limits(&value)?;
        Ok(value)
    }
}

impl Entry {
    /// Checks whether somebody may call the method of the entry. Its arguments are the adapter's to check.
    ///
    /// # Errors
    ///
    /// [`CommandRefusal`] says why it must not be called.
    pub fn check_call(&self, principal: &Principal) -> Result<(), CommandRefusal> {
        let callable = self.callable.as_ref().ok_or(CommandRefusal::NotCallable)?;
        check_principal(callable.principals.as_deref(), principal)
    }
}

fn check_principal(
    principals: Option<&[Glob]>,
    principal: &Principal,
) -> Result<(), CommandRefusal> {
    let may = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(principal.as_str()));
    if principals.is_none_or(may) {
        return Ok(());
    }
    Err(CommandRefusal::Principal { principal: principal.clone() })
}

impl Writable {
    fn check_limits(&self, value: &Value) -> Result<(), CommandRefusal> {
        for (limit, beyond) in [(self.min, Ordering::Less), (self.max, Ordering::Greater)] {
            let Some(limit) = limit else { continue };
            let order = compare(value, limit);
            let order = order.ok_or(CommandRefusal::NotANumber { found: value.type_name() })?;
            if order == beyond {
                let above = beyond == Ordering::Greater;
                return Err(CommandRefusal::OutOfRange { value: value.to_string(), limit, above });
            }
        }
        Ok(())
    }
}
