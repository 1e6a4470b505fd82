//! How a journal is opened.

/// What the caller decides about a journal.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// The identity a new journal gets: random, so that files of two journals cannot be mixed.
    ///
    /// An existing journal keeps its own.
    pub epoch: u64,
    /// A segment that has reached this size is sealed; it may be passed by one commit. The state
    /// written at its start also counts, and a segment is never smaller than four times that state.
    pub segment_bytes: u64,
    /// The most that copies of damaged bytes may take up; what is beyond is reported, not kept.
    pub quarantine_bytes_max: u64,
    /// What readers are shown.
    pub visibility: Visibility,
}

impl JournalOptions {
    /// The default of [`segment_bytes`](Self::segment_bytes).
    pub const SEGMENT_BYTES_DEFAULT: u64 = 8 << 20;
    /// The default of [`quarantine_bytes_max`](Self::quarantine_bytes_max).
    pub const QUARANTINE_BYTES_MAX_DEFAULT: u64 = 32 << 20;

    /// Takes the defaults, and the identity for a new journal.
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        Self {
            epoch,
            segment_bytes: Self::SEGMENT_BYTES_DEFAULT,
            quarantine_bytes_max: Self::QUARANTINE_BYTES_MAX_DEFAULT,
            visibility: Visibility::Synced,
        }
    }
}

/// Which records readers are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Those that a sync has covered.
    Synced,
    /// Those that were handed to the operating system, for the weaker durability modes.
    Written,
}
