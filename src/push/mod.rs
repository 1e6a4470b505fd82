//! Sets of mapping files that are sent to the gateway: looked at, tried, confirmed, or put back.
//!
//! [`PushedSet`] is what is sent, [`Folder`] where sets and the [`Note`] on them are kept, [`Report`] what a set would
//! change, and [`PushDesk`] takes what is asked. Which set is in force stands in the note alone, whose replacement by a
//! rename is the switch from one set to another.

mod answer;
mod desk;
mod folder;
mod guard;
mod note;
mod report;
mod request;
mod set;
mod trial;

pub use self::{
    answer::{Answer, Sender},
    desk::{PushDesk, Surroundings},
    folder::{FOLDER, Folder, FolderError, put_back, settle},
    note::{Ending, Entry, Note, Restart, Trial},
    report::Report,
    request::{Action, Request},
    set::{PushedSet, SetError},
};

#[cfg(test)]
mod tests;
