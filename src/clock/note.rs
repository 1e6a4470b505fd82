//! What a run leaves of its clocks to the next one.

use std::time::Duration;

use tidegate_model::Timestamp;
use tidegate_store::Transaction;
use tracing::info;

use super::Clock;
use crate::config::TimeConfig;

/// Its key in the journal's state.
const KEY: &[u8] = b"tc";
/// A wall clock that differs from before by less has not been set, but drifts.
const STEP: Duration = Duration::from_secs(5);
/// How old a note is at most, where there are any: a quarter of the time that the run has lasted, within these bounds. So
/// much of it the next run may not know of.
const RENEWAL: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(3_600)];

/// No clock that is right shows an earlier time: 2025.
const EARLIEST: Timestamp = Timestamp::from_unix_millis(1_735_689_600_000);

/// How the two clocks stood to each other at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    steady: Timestamp,
    /// By how many microseconds the wall's time was later than the steady one.
    ahead: i64,
    /// Whether the wall's time was known to be right.
    is_trusted: bool,
}

impl Note {
    /// Finds the note of the run before in the journal's state. One that cannot be read counts as none.
    pub fn find<'s>(mut state: impl Iterator<Item = (&'s [u8], &'s [u8])>) -> Option<Self> {
        let (_, value) = state.find(|(key, _)| *key == KEY)?;
        let (steady, rest) = value.split_first_chunk()?;
        let (ahead, rest) = rest.split_first_chunk()?;
        let &[is_trusted] = rest else { return None };
        Some(Self {
            steady: Timestamp::from_unix_micros(i64::from_be_bytes(*steady)),
            ahead: i64::from_be_bytes(*ahead),
            is_trusted: is_trusted != 0,
        })
    }

    fn now(clock: Clock, is_trusted: bool) -> Self {
        let (steady, wall) = (clock.steady(), clock.wall());
        let ahead = wall.as_unix_micros().saturating_sub(steady.as_unix_micros());
        Self { steady, ahead, is_trusted }
    }

    /// Returns the steady time at a start at which the wall shows `wall`.
    pub(super) fn resume(self, wall: Timestamp, is_trusted: bool) -> Timestamp {
        if !(is_trusted && self.is_trusted) {
            return self.steady;
        }
        let passed = wall.as_unix_micros().saturating_sub(self.ahead);
        self.steady.max(Timestamp::from_unix_micros(passed))
    }

    /// Returns whether a wall that shows `wall` at a start is behind what the run before knew for right.
    fn is_behind(self, wall: Timestamp) -> bool {
        let known = self.steady.as_unix_micros().saturating_add(self.ahead);
        self.is_trusted && wall.saturating_add(STEP) < Timestamp::from_unix_micros(known)
    }

    fn to_bytes(self) -> Vec<u8> {
        let (steady, ahead) =
            (self.steady.as_unix_micros().to_be_bytes(), self.ahead.to_be_bytes());
        [&steady[..], &ahead, &[u8::from(self.is_trusted)]].concat()
    }

    fn put(self) -> Transaction {
        let mut transaction = Transaction::new();
        transaction.put(KEY, &self.to_bytes()).expect("a few bytes fit");
        transaction
    }
}

/// Knows when a note is due: at the start, when the wall clock is set or becomes right, and when the last is old. A clock
/// that is right by configuration, and was never set, needs none.
#[derive(Debug)]
pub struct NoteKeeper {
    is_needed: bool,
    /// Whether the wall shows a time that it can have.
    is_plausible: bool,
    ahead: i64,
    last: Option<Note>,
}

impl NoteKeeper {
    /// Begins with what the start found.
    pub fn new(config: &TimeConfig, found: Option<Note>, clock: Clock) -> Self {
        let is_needed = *config != TimeConfig::Trusted || found.is_some();
        // A clock that stood at some earlier time when the process started will be set, whatever vouches for it.
        let is_behind = found.is_some_and(|note| note.is_behind(clock.wall_at_start));
        let is_plausible = clock.wall_at_start >= EARLIEST && !is_behind;
        Self { is_needed, is_plausible, ahead: Note::now(clock, false).ahead, last: None }
    }

    /// Looks at the clocks, says if the wall clock was set, and returns the note that is due.
    pub fn look(&mut self, clock: Clock, is_trusted: bool) -> Option<Transaction> {
        let mut note = Note::now(clock, is_trusted);
        let stepped = note.ahead.abs_diff(self.ahead) >= STEP.as_micros() as u64;
        if stepped {
            #[expect(clippy::cast_precision_loss, reason = "a number for people")]
            let seconds = note.ahead.saturating_sub(self.ahead) as f64 / 1e6;
            info!(seconds, "The wall clock was set; sessions and expiries go on as before");
            self.ahead = note.ahead;
            self.is_needed = true;
            self.is_plausible = clock.wall() >= EARLIEST;
        }
        note.is_trusted &= self.is_plausible;
        let is_due = self.last.is_none_or(|last| {
            stepped
                || last.is_trusted != note.is_trusted
                || note.steady.saturating_since(last.steady)
                    >= (clock.uptime() / 4).clamp(RENEWAL[0], RENEWAL[1])
        });
        (self.is_needed && is_due).then(|| {
            self.last = Some(note);
            note.put()
        })
    }

    /// Returns the note of a run that ends, if it left any.
    pub fn end(&self, clock: Clock, is_trusted: bool) -> Option<Transaction> {
        self.last.map(|_| Note::now(clock, is_trusted && self.is_plausible).put())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_millis(seconds * 1_000)
    }

    fn note(steady: i64, wall: i64, is_trusted: bool) -> Note {
        Note { steady: at(steady), ahead: (wall - steady) * 1_000_000, is_trusted }
    }

    /// A6: time that was spent switched off counts if both runs knew the time.
    #[test]
    fn a6_the_steady_clock_goes_on_where_it_stood() {
        // The run before began an hour early, and was set right.
        assert_eq!(note(1_000, 4_600, true).resume(at(4_700), true), at(1_100));
        // One of both does not know the time.
        assert_eq!(note(1_000, 4_600, true).resume(at(99), false), at(1_000));
        assert_eq!(note(1_000, 1_000, false).resume(at(4_700), true), at(1_000));
        // A clock that is set back makes nothing young again.
        assert_eq!(note(1_000, 4_600, true).resume(at(4_000), true), at(1_000));
    }

    #[test]
    fn a_note_is_found_again_and_a_broken_one_is_none() {
        let note = note(1_000, -5, true);
        let value = note.to_bytes();
        let state = [(&b"ci"[..], &b"x"[..]), (KEY, &value)];
        assert_eq!(Note::find(state.into_iter()), Some(note));
        assert_eq!(Note::find([(KEY, &value[..16])].into_iter()), None);
    }

    /// A clock that always was right costs no write at all.
    #[test]
    fn notes_are_written_where_they_are_needed() {
        let clock = Clock::start();
        let mut trusted = NoteKeeper::new(&TimeConfig::Trusted, None, clock);
        assert!(trusted.look(clock, true).is_none());
        assert!(trusted.end(clock, true).is_none());
        let mut service = NoteKeeper::new(&TimeConfig::default(), None, clock);
        assert!(service.look(clock, false).is_some(), "at the start");
        assert!(service.look(clock, false).is_none());
        assert!(service.look(clock, true).is_some(), "it became right");
        assert!(service.end(clock, true).is_some());
        let before = Note { steady: at(0), ahead: 0, is_trusted: true };
        let set = clock.resumed(before, false);
        assert!(trusted.look(set, true).is_some(), "it was set");
    }

    /// A6: a start at which the wall shows an earlier time than the run before knew vouches for nothing: once the wall is set,
    /// the next start must not take the difference for time that has passed.
    #[test]
    fn a6_a_clock_that_starts_in_the_past_is_not_believed() {
        let right = Clock::start();
        let before = Note { steady: right.wall(), ahead: 0, is_trusted: true };
        let year = Duration::from_secs(365 * 86_400);
        let past = Timestamp::from_unix_micros(
            right.wall().as_unix_micros() - i64::try_from(year.as_micros()).unwrap(),
        );
        let wrong = Clock { wall_at_start: past, ..right };
        for (found, start) in
            [(Some(before), wrong), (None, Clock { wall_at_start: at(0), ..right })]
        {
            let mut keeper = NoteKeeper::new(&TimeConfig::default(), found, start);
            keeper.look(start, true);
            assert!(!keeper.last.unwrap().is_trusted, "{found:?}");
        }
        let mut keeper = NoteKeeper::new(&TimeConfig::default(), Some(before), right);
        keeper.look(right, true);
        assert!(keeper.last.unwrap().is_trusted);
    }
}
