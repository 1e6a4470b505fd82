//! Reading the records of many takers in one pass.

use std::collections::HashMap;
use std::io;

use crate::catalog::Catalog;
use crate::file_system::FileSystem;
use crate::format::{FrameKind, Op, Ops};
use crate::input::Malformed;
use crate::position::{Position, Seq, TakerId};
use crate::reader::Item;
use crate::scanner::{Frame, Scanner, Step};

impl<F: FileSystem> Catalog<F> {
    /// Yields what each taker has after its position, and moves the positions behind it.
    ///
    /// Each segment is read once, however many takers have records in it; those without any are passed
    /// over. A taker's items come in order. What is missing is told, as by a [`Reader`](crate::Reader),
    /// but its range of numbers may be wider.
    ///
    /// # Errors
    ///
    /// The storage failed.
    pub fn sweep(
        &self,
        positions: &mut HashMap<TakerId, Position>,
        mut each: impl FnMut(TakerId, Item),
    ) -> io::Result<()> {
        let mut number = 0;
        let after = positions.values().map(|position| position.seq).min().unwrap_or_default();
        while let Some(segment) = self.first_after(number, after) {
            number = segment.entry.number;
            let footer = if segment.closed { self.footer(&segment.entry)? } else { None };
            let holds_something = footer.as_ref().is_none_or(|footer| {
                footer.takers.iter().any(|(taker, held)| {
                    positions
                        .get(taker)
                        .is_some_and(|position| held.last.ordinal > position.ordinal)
                })
            });
            if !holds_something {
                continue;
            }
            let Some(mut scanner) = self.scanner(&segment.entry)? else { continue };
            loop {
                match scanner.next()? {
                    Step::End => break,
                    Step::Frame(frame) if frame.kind == FrameKind::Transaction => {
                        // What is malformed is missing, which the ordinals tell.
                        let _ = sweep_transaction(&scanner, &frame, positions, &mut each);
                    }
                    Step::Frame(_) | Step::Bad { .. } => {}
                }
            }
            for (taker, held) in footer.iter().flat_map(|footer| &footer.takers) {
                if let Some(position) = positions.get_mut(taker) {
                    tell_loss(*taker, position, held.last, &mut each);
                }
            }
        }
        for (taker, position) in positions {
            tell_loss(*taker, position, self.recovered(*taker), &mut each);
        }
        Ok(())
    }
}

fn sweep_transaction<I: crate::file_system::File>(
    scanner: &Scanner<I>,
    frame: &Frame,
    positions: &mut HashMap<TakerId, Position>,
    each: &mut impl FnMut(TakerId, Item),
) -> Result<(), Malformed> {
    let mut ops = Ops::new(scanner.payload(frame));
    while let Some(op) = ops.next()? {
        let Op::Append { seq, mut takers, body } = op else { continue };
        while let Some((taker, ordinal)) = takers.next()? {
            let Some(position) = positions.get_mut(&taker) else { continue };
            // After a failed sync a group may stand in two segments.
            if seq <= position.seq {
                continue;
            }
            let before = Position { seq: seq.previous(), ordinal: ordinal.saturating_sub(1) };
            tell_loss(taker, position, before, each);
            *position = Position { seq, ordinal };
            each(taker, Item::Record { seq, ordinal, body: scanner.share(body) });
        }
    }
    Ok(())
}

/// Tells the records up to `last` that did not come.
fn tell_loss(
    taker: TakerId,
    position: &mut Position,
    last: Position,
    each: &mut impl FnMut(TakerId, Item),
) {
    let Some(records) = last.ordinal.checked_sub(position.ordinal).filter(|count| *count > 0)
    else {
        return;
    };
    let first_seq: Seq = position.seq.next();
    *position = last;
    each(taker, Item::Damaged { first_seq, last_seq: last.seq, records, position: last });
}
