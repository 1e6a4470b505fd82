//! What a broker of AMQP 0.9.1 says, on its way to the client library, which has no bounds of its own.
//!
//! The library waits for frames of any size, and keeps whatever it is sent until somebody asks for it. So frames are
//! measured here as they come: more than belongs to what was said ends the connection, and so do more deliveries than
//! may be open. A delivery whose content header announces too much goes on without its body, which nobody keeps.

use std::time::Duration;

use thiserror::Error;

/// The header of a frame: type, channel, size (AMQP 0.9.1, section 2.3.5).
const HEADER_BYTES: usize = 7;
/// The octet behind a frame.
const END_BYTES: u64 = 1;
/// The types of frames (section 2.3.5).
const METHOD: u8 = 1;
const CONTENT_HEADER: u8 = 2;
const CONTENT_BODY: u8 = 3;
/// The class `basic` and its method `deliver`.
const DELIVER: [u8; 4] = [0, 60, 0, 60];
/// Where a method has its arguments: behind the numbers of class and method.
const ARGUMENTS_AT: usize = HEADER_BYTES + 4;
/// Where a content header has the size of the body, behind class and weight; eight bytes.
const BODY_SIZE_AT: usize = HEADER_BYTES + 4;
/// What a broker says that speaks another version (section 4.2.2).
const OTHER_VERSION_BYTES: u64 = 8;
/// A body that announces more than this many bytes is no message of any broker: it would be let past for ever.
const ANNOUNCED_BYTES_MAX: u64 = 1 << 30;
/// What the broker may say beside answers to what it was sent, and beside deliveries.
const FREE_BYTES: u64 = 1 << 20;
/// … and for each second: heartbeats, and word that it takes nothing for now.
const FREE_BYTES_PER_SECOND: u64 = 1_024;

/// Why a connection is to end.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SieveError {
    /// A frame is larger than was agreed.
    #[error("a frame of {bytes} bytes is larger than was agreed")]
    FrameTooLarge {
        /// Its size.
        bytes: u32,
    },
    /// More comes than belongs to what was sent.
    #[error("the broker says more than belongs to what it was sent")]
    TooMuch,
    /// More deliveries are open than were asked for.
    #[error("the broker delivers more than it was asked for")]
    TooManyDeliveries,
    /// A delivery announces a body of more than a gigabyte.
    #[error("the broker announces a message of {bytes} bytes")]
    BodyTooLarge {
        /// Its size.
        bytes: u64,
    },
    /// A body does not fit its header.
    #[error("the broker sends more of a message than it has announced")]
    BodyTooLong,
}

/// What may be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryBounds {
    /// The largest body.
    pub body_bytes: u64,
    /// How many deliveries may be without an answer.
    pub open: u64,
}

/// A delivery that goes on without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emptied {
    /// Its delivery tag.
    pub tag: u64,
    /// How large its body was to be.
    pub bytes: u64,
}

/// Measures and sifts what comes by one connection.
#[derive(Debug)]
pub struct Sieve {
    frame_bytes_max: u32,
    bounds: DeliveryBounds,
    /// What has come, beside deliveries.
    heard: u64,
    said: u64,
    delivered: u64,
    settled: u64,
    is_first: bool,
    /// The beginning of a frame that is not told yet.
    held: Vec<u8>,
    /// What is left of the frame that was told, and what becomes of it.
    left: u64,
    fate: Fate,
    /// The delivery that is under way, and by which channel.
    content: Option<(u16, Content)>,
    emptied: Vec<Emptied>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passed,
    LeftOut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    ExpectHeader { tag: u64 },
    ExpectBody { left: u64, fate: Fate },
}

impl Sieve {
    /// Begins with a connection; `bounds` are those of deliveries, none without them.
    pub fn new(frame_bytes_max: u32, bounds: Option<DeliveryBounds>) -> Self {
        Self {
            frame_bytes_max,
            bounds: bounds.unwrap_or(DeliveryBounds { body_bytes: 0, open: 0 }),
            heard: 0,
            said: 0,
            delivered: 0,
            settled: 0,
            is_first: true,
            held: Vec::with_capacity(HEADER_BYTES),
            left: 0,
            fate: Fate::Passed,
            content: None,
            emptied: Vec::new(),
        }
    }

    /// Takes note of bytes that were sent.
    pub fn note_said(&mut self, count: usize) {
        self.said += count as u64;
    }

    /// Takes note of how many deliveries have been answered by now.
    pub fn note_settled(&mut self, settled: u64) {
        self.settled = settled;
    }

    /// Returns the deliveries that went on without their bodies since this was asked last.
    pub fn take_emptied(&mut self) -> Vec<Emptied> {
        std::mem::take(&mut self.emptied)
    }

    /// Looks at bytes that came `lasted` after the connection began, and adds to `passed` what goes on.
    ///
    /// # Errors
    ///
    /// [`SieveError`]; the connection is to end.
    pub fn handle(
        &mut self,
        mut bytes: &[u8],
        lasted: Duration,
        passed: &mut Vec<u8>,
    ) -> Result<(), SieveError> {
        if std::mem::take(&mut self.is_first) && bytes.first() == Some(&b'A') {
            // Its own version: the library says what that means.
            self.left = OTHER_VERSION_BYTES;
        }
        while !bytes.is_empty() {
            if self.left > 0 {
                let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                if self.fate == Fate::Passed {
                    passed.extend_from_slice(&bytes[..count]);
                }
                self.left -= count as u64;
                bytes = &bytes[count..];
                continue;
            }
            let count = (self.wanted() - self.held.len()).min(bytes.len());
            self.held.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if let Some((_, size)) = self.header()
                && size > self.frame_bytes_max
            {
                return Err(SieveError::FrameTooLarge { bytes: size });
            }
            if self.held.len() == self.wanted() {
                self.tell(lasted)?;
                if self.fate == Fate::Passed {
                    passed.extend_from_slice(&self.held);
                }
                self.held.clear();
            }
        }
        Ok(())
    }

    /// Returns channel and size of the frame that is held, once they are there.
    fn header(&self) -> Option<(u16, u32)> {
        let [_, channel_high, channel_low, size @ ..] = self.held.as_slice() else { return None };
        let size = size.first_chunk::<4>()?;
        Some((u16::from_be_bytes([*channel_high, *channel_low]), u32::from_be_bytes(*size)))
    }

    /// Returns how many bytes of the frame are to be held before it can be told, as far as it is known.
    fn wanted(&self) -> usize {
        let Some((channel, size)) = self.header() else { return HEADER_BYTES };
        let wanted = match self.held[0] {
            METHOD if self.bounds.open > 0 => match self.held.get(HEADER_BYTES..ARGUMENTS_AT) {
                None => ARGUMENTS_AT,
                Some(method) if *method == DELIVER => match self.held.get(ARGUMENTS_AT) {
                    None => ARGUMENTS_AT + 1,
                    // The consumer tag, then the delivery tag.
                    Some(length) => ARGUMENTS_AT + 1 + usize::from(*length) + 8,
                },
                Some(_) => ARGUMENTS_AT,
            },
            CONTENT_HEADER if self.expected_header(channel).is_some() => BODY_SIZE_AT + 8,
            _ => HEADER_BYTES,
        };
        // A frame that is too short for what it is to be is told by the library.
        wanted.min(HEADER_BYTES + size as usize)
    }

    fn expected_header(&self, channel: u16) -> Option<u64> {
        match self.content {
            Some((of, Content::ExpectHeader { tag })) if of == channel => Some(tag),
            _ => None,
        }
    }

    /// Decides what becomes of the frame whose beginning is held.
    fn tell(&mut self, lasted: Duration) -> Result<(), SieveError> {
        let Some((channel, size)) = self.header() else { return Ok(()) };
        let whole = (HEADER_BYTES as u64) + u64::from(size) + END_BYTES;
        self.left = whole - self.held.len() as u64;
        self.fate = Fate::Passed;
        let is_delivered = match self.held[0] {
            METHOD => self.tell_method(channel)?,
            CONTENT_HEADER => self.tell_header(channel)?,
            CONTENT_BODY => self.tell_body(channel, size)?,
            _ => false,
        };
        if !is_delivered {
            self.heard += whole;
            let free = FREE_BYTES.saturating_add(FREE_BYTES_PER_SECOND * lasted.as_secs());
            if self.heard > free.saturating_add(2 * self.said) {
                return Err(SieveError::TooMuch);
            }
        }
        Ok(())
    }

    fn tell_method(&mut self, channel: u16) -> Result<bool, SieveError> {
        if self.content.is_some_and(|(of, _)| of == channel) {
            // Whatever was under way there has no end.
            self.content = None;
        }
        let tag = self.held.get(HEADER_BYTES..ARGUMENTS_AT).filter(|method| **method == DELIVER);
        let tag = tag.and_then(|_| self.held.last_chunk::<8>());
        let is_whole = self.held.len() > ARGUMENTS_AT + 8;
        let Some(tag) = tag.filter(|_| is_whole) else { return Ok(false) };
        self.content = Some((channel, Content::ExpectHeader { tag: u64::from_be_bytes(*tag) }));
        self.delivered += 1;
        if self.delivered.saturating_sub(self.settled) > self.bounds.open {
            return Err(SieveError::TooManyDeliveries);
        }
        Ok(true)
    }

    fn tell_header(&mut self, channel: u16) -> Result<bool, SieveError> {
        let Some(tag) = self.expected_header(channel) else { return Ok(false) };
        let size = self.held.get_mut(BODY_SIZE_AT..).and_then(|rest| rest.first_chunk_mut::<8>());
        let Some(size) = size else { return Ok(false) };
        let bytes = u64::from_be_bytes(*size);
        if bytes > ANNOUNCED_BYTES_MAX {
            return Err(SieveError::BodyTooLarge { bytes });
        }
        let fate = if bytes > self.bounds.body_bytes {
            // The library is told that it has none.
            *size = [0; 8];
            self.emptied.push(Emptied { tag, bytes });
            Fate::LeftOut
        } else {
            Fate::Passed
        };
        let body = Content::ExpectBody { left: bytes, fate };
        self.content = Some((channel, body)).filter(|_| bytes > 0);
        Ok(true)
    }

    fn tell_body(&mut self, channel: u16, size: u32) -> Result<bool, SieveError> {
        let Some((of, Content::ExpectBody { left, fate })) = self.content else { return Ok(false) };
        if of != channel {
            return Ok(false);
        }
        let left = left.checked_sub(size.into()).ok_or(SieveError::BodyTooLong)?;
        self.fate = fate;
        self.content = Some((channel, Content::ExpectBody { left, fate })).filter(|_| left > 0);
        // A frame without a body belongs to none, however many come.
        Ok(size > 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRAME_BYTES_MAX: u32 = 4_096;
    const BOUNDS: DeliveryBounds = DeliveryBounds { body_bytes: 10_000, open: 4 };

    fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend(channel.to_be_bytes());
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend(payload);
        bytes.push(0xce);
        bytes
    }

    /// Returns a message as it is delivered, announcing `size`, in frames of `size_of_frame`.
    fn delivery(tag: u64, announced: u64, body: &[u8], size_of_frame: usize) -> Vec<u8> {
        let method =
            [&DELIVER[..], &[2, b'c', b't'], &tag.to_be_bytes(), &[0, 0, 1, b'k']].concat();
        let header = [&[0, 60, 0, 0][..], &announced.to_be_bytes(), &[0, 0]].concat();
        let mut bytes = [frame(METHOD, 1, &method), frame(CONTENT_HEADER, 1, &header)].concat();
        for part in body.chunks(size_of_frame) {
            bytes.extend(frame(CONTENT_BODY, 1, part));
        }
        bytes
    }

    fn sift(sieve: &mut Sieve, bytes: &[u8], chunk: usize) -> Result<Vec<u8>, SieveError> {
        let mut passed = Vec::new();
        for bytes in bytes.chunks(chunk) {
            sieve.handle(bytes, Duration::ZERO, &mut passed)?;
        }
        Ok(passed)
    }

    /// uplink.26: however the bytes come, frames are measured, and what no message belongs to has an end.
    #[test]
    fn hostile_brokers_are_bounded() {
        let good = [frame(1, 1, b""), frame(8, 0, &[7; 4_096]), frame(1, 1, &[0; 10])].concat();
        for bounds in [None, Some(BOUNDS)] {
            for chunk in [1, 3, 7, 100, good.len()] {
                let mut sieve = Sieve::new(FRAME_BYTES_MAX, bounds);
                assert_eq!(sift(&mut sieve, &good, chunk).unwrap(), good, "{chunk}");
                let large = frame(1, 1, &[0; 4_097]);
                let refused = sift(&mut sieve, &large, chunk).unwrap_err();
                assert_eq!(refused, SieveError::FrameTooLarge { bytes: 4_097 }, "{chunk}");
            }
            let mut sieve = Sieve::new(FRAME_BYTES_MAX, bounds);
            let other = b"AMQP\0\0\x09\x01";
            assert_eq!(sift(&mut sieve, other, 3).unwrap(), other);
            let mut sieve = Sieve::new(FRAME_BYTES_MAX, bounds);
            sieve.note_said(4_096);
            let flood = frame(1, 1, &[0; 4_096]);
            let passed = (0..1_000).take_while(|_| sift(&mut sieve, &flood, 500).is_ok()).count();
            assert!((254..260).contains(&passed), "{passed}");
        }
    }

    /// uplink.26: a delivery is open until it is answered, and no more are than were asked for.
    #[test]
    fn deliveries_are_bounded() {
        let mut sieve = Sieve::new(FRAME_BYTES_MAX, Some(BOUNDS));
        for tag in 0..40_000 {
            sieve.note_settled(tag);
            // They belong to nothing that was said.
            sift(&mut sieve, &delivery(tag, 50, &[b'x'; 50], 4_096), 4_096).unwrap();
        }
        let more = |tag| delivery(tag, 1, b"x", 1);
        assert!((0..3).all(|tag| sift(&mut sieve, &more(tag), 9).is_ok()));
        assert_eq!(sift(&mut sieve, &more(9), 9), Err(SieveError::TooManyDeliveries));
        let mut none = Sieve::new(FRAME_BYTES_MAX, None);
        let unasked = delivery(1, 4_000, &[b'x'; 4_000], 4_096);
        let passed = (0..1_000).take_while(|_| sift(&mut none, &unasked, 4_096).is_ok()).count();
        assert!((200..300).contains(&passed), "{passed}");
    }

    #[test]
    fn a_body_is_no_longer_than_announced() {
        let mut sieve = Sieve::new(FRAME_BYTES_MAX, Some(BOUNDS));
        let longer = delivery(1, 3, b"four", 4);
        assert_eq!(sift(&mut sieve, &longer, 100), Err(SieveError::BodyTooLong));
    }

    /// uplink.26: a body that never ends, in no bytes at all or in too many, ends the connection.
    #[test]
    fn a_body_has_an_end() {
        let mut sieve = Sieve::new(FRAME_BYTES_MAX, Some(BOUNDS));
        let endless = delivery(1, u64::MAX, b"", 1);
        let refused = sift(&mut sieve, &endless, 100).unwrap_err();
        assert_eq!(refused, SieveError::BodyTooLarge { bytes: u64::MAX });
        for announced in [3, 20_000] {
            let mut sieve = Sieve::new(FRAME_BYTES_MAX, Some(BOUNDS));
            sift(&mut sieve, &delivery(1, announced, b"", 1), 100).unwrap();
            let empty = frame(CONTENT_BODY, 1, b"").repeat(1_000);
            let passed = (0..1_000).take_while(|_| sift(&mut sieve, &empty, 4_096).is_ok()).count();
            assert!(passed < 200, "{passed}");
        }
    }

    proptest! {
        /// uplink.26: whatever is too large goes on without its body, however the bytes come; all else is passed as it is.
        #[test]
        fn what_is_too_large_is_emptied(
            sizes in prop::collection::vec(
                prop_oneof![0..20_usize, 9_990..10_010_usize, 20_000..30_000_usize], 1..5),
            size_of_frame in 100..4_096_usize,
            chunk in 1..5_000_usize,
        ) {
            let mut sieve = Sieve::new(FRAME_BYTES_MAX, Some(BOUNDS));
            let (mut came, mut expected, mut emptied) = (Vec::new(), Vec::new(), Vec::new());
            for (tag, size) in (1..).zip(&sizes) {
                let bytes = *size as u64;
                let body = vec![b'x'; *size];
                came.extend(delivery(tag, bytes, &body, size_of_frame));
                // Frames of other channels, and of none, come in between.
                let other = [frame(8, 0, b""), frame(METHOD, 2, &[0, 20, 0, 20, 1])].concat();
                came.extend(&other);
                if bytes > BOUNDS.body_bytes {
                    expected.extend(delivery(tag, 0, b"", size_of_frame));
                    emptied.push(Emptied { tag, bytes });
                } else {
                    expected.extend(delivery(tag, bytes, &body, size_of_frame));
                }
                expected.extend(&other);
            }
            prop_assert_eq!(sift(&mut sieve, &came, chunk), Ok(expected));
            prop_assert_eq!(sieve.take_emptied(), emptied);
        }

        #[test]
        fn wild_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..2_000), chunk in 1..100_usize) {
            let mut sieve = Sieve::new(FRAME_BYTES_MAX, Some(BOUNDS));
            if let Ok(passed) = sift(&mut sieve, &bytes, chunk) {
                prop_assert!(passed.len() <= bytes.len());
            }
        }
    }
}
