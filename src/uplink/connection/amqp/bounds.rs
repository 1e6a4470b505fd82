//! How much a broker may say: lapin has no bound for what comes back, nor for a frame while it comes.

use std::{
    io,
    time::{Duration, Instant},
};

/// The header of a frame: type, channel, size (AMQP 0.9.1, section 2.3.5).
const HEADER_BYTES: usize = 7;
/// The octet behind a frame.
const END_BYTES: u64 = 1;
/// What the broker may say beside answers to what it was sent.
const FREE_BYTES: u64 = 1 << 20;
/// … and for each second: heartbeats, and word that it takes nothing for now.
const FREE_BYTES_PER_SECOND: u64 = 1_024;

/// What one connection has heard and said.
#[derive(Debug)]
pub(super) struct Bounds {
    frame_bytes_max: u32,
    began: Instant,
    heard: u64,
    said: u64,
    /// What is there of the header of the frame that comes.
    header: Vec<u8>,
    /// What is left of it behind the header.
    left: u64,
}

impl Bounds {
    pub(super) fn new(frame_bytes_max: u32) -> Self {
        let (began, header) = (Instant::now(), Vec::with_capacity(HEADER_BYTES));
        Self { frame_bytes_max, began, heard: 0, said: 0, header, left: 0 }
    }

    /// Takes note of bytes that were sent.
    pub(super) fn note_said(&mut self, count: usize) {
        self.said += count as u64;
    }

    /// Looks at bytes that came.
    ///
    /// # Errors
    ///
    /// If a frame is larger than was agreed, or more comes than belongs to what was sent: messages that no queue takes
    /// come back once each.
    pub(super) fn check(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let is_first = self.heard == 0;
        self.heard += bytes.len() as u64;
        let lasted = self.began.elapsed().min(Duration::from_secs(u64::from(u32::MAX)));
        let free = FREE_BYTES + FREE_BYTES_PER_SECOND * lasted.as_secs();
        if self.heard > free + 2 * self.said {
            return Err(io::Error::other("the broker says more than belongs to what it was sent"));
        }
        if is_first && bytes.first() == Some(&b'A') {
            // Its own version, and nothing behind it: lapin says what that means.
            self.left = u64::MAX;
        }
        while !bytes.is_empty() {
            if self.left > 0 {
                let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= count as u64;
                bytes = &bytes[count..];
                continue;
            }
            let count = (HEADER_BYTES - self.header.len()).min(bytes.len());
            self.header.extend(&bytes[..count]);
            bytes = &bytes[count..];
            if let [_, _, _, size @ ..] = self.header.as_slice()
                && let Ok(size) = <[u8; 4]>::try_from(size)
            {
                let size = u32::from_be_bytes(size);
                if size > self.frame_bytes_max {
                    let reason = format!("a frame of {size} bytes is larger than was agreed");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
                }
                self.left = u64::from(size) + END_BYTES;
                self.header.clear();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(size: u32) -> Vec<u8> {
        let mut bytes = vec![1, 0, 1];
        bytes.extend(size.to_be_bytes());
        bytes.resize(bytes.len() + size as usize, b'x');
        bytes.push(0xce);
        bytes
    }

    /// uplink.26: however the bytes come, frames are measured, and what no message belongs to has an end.
    #[test]
    fn hostile_brokers_are_bounded() {
        let good = [frame(0), frame(4_096), frame(10)].concat();
        for chunk in [1, 3, 7, 100, good.len()] {
            let mut bounds = Bounds::new(4_096);
            assert!(good.chunks(chunk).all(|bytes| bounds.check(bytes).is_ok()), "{chunk}");
            let large: Vec<u8> = frame(4_097);
            let refused = large.chunks(chunk).find_map(|bytes| bounds.check(bytes).err());
            assert_eq!(refused.unwrap().kind(), io::ErrorKind::InvalidData, "{chunk}");
        }
        let mut bounds = Bounds::new(4_096);
        assert!(bounds.check(b"AMQP\0\0\x09\x01").is_ok(), "another version");
        let mut bounds = Bounds::new(4_096);
        bounds.note_said(4_096);
        let flood = frame(4_096);
        let passed = (0..1_000).take_while(|_| bounds.check(&flood).is_ok()).count();
        assert!((256..260).contains(&passed), "{passed}");
    }
}
