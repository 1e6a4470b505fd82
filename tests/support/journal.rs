//! The journal on disk, frame by frame as `crates/store/src/format/mod.rs` describes it: to lose a record on purpose.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use crc32c::{crc32c, crc32c_append};

const SEGMENT_HEADER_BYTES: usize = 40;
const FRAME_HEADER_BYTES: usize = 16;
const MARKER: [u8; 3] = [0xf5, 0x54, 0x47];
const TRANSACTION: u8 = 1;
const COMMIT: u8 = 2;

/// The newest segment of the journal of a gateway.
#[derive(Debug)]
pub(crate) struct Segment {
    file: PathBuf,
    header: Vec<u8>,
    frames: Vec<Frame>,
}

#[derive(Debug)]
struct Frame {
    kind: u8,
    payload: Vec<u8>,
}

impl Segment {
    /// Reads the newest segment below a gateway's data directory.
    ///
    /// # Panics
    ///
    /// If it is not what the gateway writes, byte for byte.
    #[track_caller]
    pub(crate) fn newest(data_dir: &Path) -> Self {
        let folder = data_dir.join("journal");
        let file = fs::read_dir(&folder)
            .expect("the gateway has made a journal")
            .map(|entry| entry.expect("a folder can be read").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .max()
            .expect("a journal has a segment");
        let bytes = fs::read(&file).expect("a segment can be read");
        let (header, mut rest) = bytes.split_at(SEGMENT_HEADER_BYTES);
        let mut frames = Vec::new();
        while rest.starts_with(&MARKER) {
            let length = u32::from_le_bytes(rest[4..8].try_into().expect("four bytes")) as usize;
            let (frame, behind) = rest.split_at(FRAME_HEADER_BYTES + length);
            frames.push(Frame { kind: frame[3], payload: frame[FRAME_HEADER_BYTES..].to_vec() });
            rest = behind;
        }
        let segment = Self { file, header: header.to_vec(), frames };
        let written = segment.encode();
        assert_eq!(written, bytes[..written.len()], "the layout is understood");
        segment
    }

    /// Takes the one record whose body holds `text` out of the log as if it had never been written: every
    /// checksum, length and offset around it is made right again.
    #[track_caller]
    pub(crate) fn remove(mut self, text: &str) {
        let at = self.find(text);
        let removed = self.frames.remove(at);
        let commit = self.frames[at..].iter().position(|frame| frame.kind == COMMIT);
        let commit = at + commit.expect("what was acknowledged was committed");
        let (group_bytes, size) = varint(&self.frames[commit].payload);
        let left = group_bytes - (FRAME_HEADER_BYTES + removed.payload.len());
        if left == 0 {
            self.frames.remove(commit);
        } else {
            let payload = &mut self.frames[commit].payload;
            payload.splice(..size, encode_varint(left));
        }
        fs::write(&self.file, self.encode()).expect("a segment can be written");
    }

    /// Flips one bit in the body of the one record that holds `text`.
    #[track_caller]
    pub(crate) fn damage(self, text: &str) {
        let at = self.find(text);
        let before = self.frames[..at].iter().map(Frame::size).sum::<usize>();
        let body = position(&self.frames[at].payload, text).expect("the frame holds the text");
        let offset = SEGMENT_HEADER_BYTES + before + FRAME_HEADER_BYTES + body;
        // In its place: a gateway that runs may be reading what stands behind it.
        let file = File::options().read(true).write(true).open(&self.file);
        let file = file.expect("a segment can be written");
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset as u64).expect("the record is there");
        byte[0] ^= 0x10;
        file.write_all_at(&byte, offset as u64).expect("a segment can be written");
    }

    /// Returns the one transaction that holds `text`.
    #[track_caller]
    fn find(&self, text: &str) -> usize {
        let holds =
            |frame: &Frame| frame.kind == TRANSACTION && position(&frame.payload, text).is_some();
        let found: Vec<usize> =
            (0..self.frames.len()).filter(|&at| holds(&self.frames[at])).collect();
        assert_eq!(found.len(), 1, "{text} stands once in the log");
        found[0]
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.header.clone();
        // Epoch and number of the segment, which every frame is tied to.
        let salt = crc32c_append(crc32c(&self.header[12..20]), &self.header[20..28]);
        for Frame { kind, payload } in &self.frames {
            let offset = bytes.len() as u64;
            let mut header = [MARKER[0], MARKER[1], MARKER[2], *kind].to_vec();
            header.extend((payload.len() as u32).to_le_bytes());
            header.extend(crc32c(payload).to_le_bytes());
            let covered = [&offset.to_le_bytes(), &header[..]].concat();
            header.extend(crc32c_append(salt, &covered).to_le_bytes());
            bytes.extend(header);
            bytes.extend(payload);
        }
        bytes
    }
}

impl Frame {
    fn size(&self) -> usize {
        FRAME_HEADER_BYTES + self.payload.len()
    }
}

fn position(payload: &[u8], text: &str) -> Option<usize> {
    payload.windows(text.len()).position(|window| window == text.as_bytes())
}

/// Reads a number at the start of `payload` and returns it with its size.
fn varint(payload: &[u8]) -> (usize, usize) {
    let size = 1 + payload.iter().take_while(|byte| **byte >= 0x80).count();
    let number =
        payload[..size].iter().rev().fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f));
    (number, size)
}

fn encode_varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
