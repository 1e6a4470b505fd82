//! A decided batch on its way.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tidegate_model::Timestamp;
use tidegate_store::Position;

use super::{Core, SendId};
use crate::{content::Content, decision::GapEntry, encoder::Publication, ledger::Outcomes};

use super::dead_letters::DeadLetter;

/// A batch whose decisions are final.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) number: u64,
    /// Its last record.
    pub(super) to: Position,
    /// How many of the uplink's ordinals it spans.
    pub(super) ordinals: u64,
    /// The size of its records.
    pub(super) bytes: u64,
    /// When its oldest record arrived.
    pub(super) oldest: Option<Timestamp>,
    /// When its newest record arrived.
    pub(super) newest: Option<Timestamp>,
    /// What became of its records so far.
    pub(super) outcomes: Outcomes,
    /// Which of its records wait in rules, by the name under which they will count.
    pub(super) held: BTreeMap<Arc<str>, u64>,
    /// How many records, of it or before it, that waited wait no longer.
    pub(super) freed: BTreeMap<Arc<str>, u64>,
    /// What is published for it, in order.
    pub(super) parts: Vec<Part>,
    /// How many parts are neither acknowledged nor given up.
    pub(super) open_parts: usize,
    /// Whether its decisions are durable.
    pub(super) journalled: bool,
    /// Numbers that were found lost after they had been given; they become gaps with the cursor's move.
    pub(super) lost: Vec<GapEntry>,
    /// Payloads that the cloud refused for good.
    pub(super) dead: Vec<DeadLetter>,
}

impl Batch {
    /// Returns whether the cursor may pass it.
    pub(super) fn is_resolved(&self) -> bool {
        self.journalled && self.open_parts == 0
    }

    pub(super) fn part(&self, id: SendId) -> Option<usize> {
        self.parts.iter().position(|part| part.id == id)
    }
}

/// One publication of a batch.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) id: SendId,
    pub(super) publication: Publication,
    /// What it says.
    pub(super) content: Content,
    pub(super) state: PartState,
    /// How many connections running were closed on it.
    pub(super) strikes: u8,
    /// When the first of them was, by the steady clock.
    pub(super) struck: Option<Duration>,
    /// Whether it was on its way when a connection was closed.
    pub(super) is_suspect: bool,
}

/// How far a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartState {
    Waiting,
    Sent,
    /// Acknowledged or given up.
    Done,
}

impl Core {
    /// Encodes the content of a batch and puts it at the end of the window.
    pub(super) fn add_batch(&mut self, mut batch: Batch, content: Content) {
        debug_assert!(self.window.back().is_none_or(|last| last.number + 1 == batch.number));
        if !content.is_empty() {
            batch.parts = self.encode_parts(batch.number, content);
            batch.open_parts = batch.parts.len();
        }
        self.window.push_back(batch);
    }

    /// Encodes content as one part, or one part for each reading.
    pub(super) fn encode_parts(&mut self, batch: u64, content: Content) -> Vec<Part> {
        let publications = self.encoder.encode(batch, &content);
        let contents = if self.encoder.is_per_reading() {
            content.split(content.readings())
        } else {
            vec![content]
        };
        let parts = publications.into_iter().zip(contents).map(|(publication, content)| {
            let part = self.next_part;
            self.next_part += 1;
            Part {
                id: SendId { batch, part },
                publication,
                content,
                state: PartState::Waiting,
                strikes: 0,
                struck: None,
                is_suspect: false,
            }
        });
        parts.collect()
    }
}
