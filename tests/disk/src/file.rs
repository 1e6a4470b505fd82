//! The content of a file, as programs see it and as a power cut would leave it.

use crate::draw::Draw;

/// Bytes of which a disk writes all or none.
const SECTOR: usize = 512;

/// One file's content.
#[derive(Debug, Default)]
pub(crate) struct File {
    content: Vec<u8>,
    synced: Vec<u8>,
    /// What has changed since the last sync, in order.
    changes: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

impl File {
    pub(crate) fn len(&self) -> usize {
        self.content.len()
    }

    /// Returns at most `size` bytes from `offset` on; fewer at the end.
    pub(crate) fn read(&self, offset: usize, size: usize) -> &[u8] {
        let from = offset.min(self.content.len());
        &self.content[from..(from + size).min(self.content.len())]
    }

    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        put(&mut self.content, offset, bytes);
        self.changes.push(Change::Write { offset, bytes: bytes.to_vec() });
    }

    pub(crate) fn set_len(&mut self, length: usize) {
        self.content.resize(length, 0);
        self.changes.push(Change::Length(length));
    }

    pub(crate) fn sync(&mut self) {
        for change in self.changes.drain(..) {
            change.apply(&mut self.synced, None);
        }
    }

    /// Fails to sync, as Linux does: what was to be synced is never written, and a later sync says nothing of it.
    pub(crate) fn fail_sync(&mut self) {
        self.changes.clear();
    }

    /// Keeps what was synced, and of the changes since then any, in whole sectors.
    pub(crate) fn cut(&mut self, draw: &mut Draw) {
        let keeps_nothing = draw.below(3) == 0;
        for change in self.changes.drain(..) {
            if !keeps_nothing && draw.below(2) == 0 {
                change.apply(&mut self.synced, Some(draw));
            }
        }
        self.content.clone_from(&self.synced);
    }
}

impl Change {
    /// Does it to `content`; with a draw perhaps only the first sectors of it.
    fn apply(self, content: &mut Vec<u8>, draw: Option<&mut Draw>) {
        match self {
            Self::Length(length) => content.resize(length, 0),
            Self::Write { offset, bytes } => {
                let kept = draw.map_or(bytes.len(), |draw| {
                    let sectors = (offset + bytes.len()).div_ceil(SECTOR) - offset / SECTOR;
                    let end = (offset / SECTOR + 1 + draw.below(sectors)) * SECTOR;
                    end.min(offset + bytes.len()) - offset
                });
                put(content, offset, &bytes[..kept]);
            }
        }
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_sync_was_to_write_is_never_written() {
        let mut file = File::default();
        file.write(0, b"kept");
        file.sync();
        file.write(0, b"lost");
        file.fail_sync();
        file.write(4, b"!");
        file.sync();
        assert_eq!(file.read(0, 9), b"lost!");
        file.cut(&mut Draw::new(1));
        assert_eq!(file.read(0, 9), b"kept!");
    }

    #[test]
    fn what_was_synced_stays_and_the_rest_is_a_matter_of_chance() {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut file = File::default();
            file.write(0, b"kept");
            file.sync();
            file.write(4, &[b'x'; 1_000]);
            file.set_len(10);
            assert_eq!(file.read(0, 100).len(), 10);
            file.cut(&mut Draw::new(seed));
            assert_eq!(file.read(0, 4), b"kept");
            outcomes.insert(file.len());
        }
        // Nothing; the first sector, or both, of the write; the length; the write and then the length.
        assert_eq!(outcomes, [4, 10, 512, 1_004].into());
    }
}
