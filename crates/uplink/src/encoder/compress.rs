//! zlib (RFC 1950) or gzip (RFC 1952), where it helps.

use bytes::Bytes;
use flate2::{Compress, FlushCompress, Status};

use crate::settings::{Compression, Encoding};

/// The window of deflate, in bits: 32 KiB.
const WINDOW_BITS: u8 = 15;

/// Compresses payloads one by one; its tables are made once.
#[derive(Debug)]
pub struct Compressor {
    deflate: Compress,
    is_gzip: bool,
    output: Vec<u8>,
}

impl Compressor {
    /// Makes the compressor that is asked for, if one is.
    pub fn new(compression: Compression) -> Option<Self> {
        let (level, is_gzip) = match compression {
            Compression::None => return None,
            Compression::Zlib(level) => (level, false),
            Compression::Gzip(level) => (level, true),
        };
        let level = flate2::Compression::new(level.get().into());
        let deflate = if is_gzip {
            Compress::new_gzip(level, WINDOW_BITS)
        } else {
            Compress::new(level, true)
        };
        Some(Self { deflate, is_gzip, output: Vec::new() })
    }

    /// Returns what a payload is once it is compressed.
    pub fn encoding(&self, plain: Encoding) -> Encoding {
        match (plain, self.is_gzip) {
            (Encoding::Bson, false) => Encoding::BsonZlib,
            (Encoding::Bson, true) => Encoding::BsonGzip,
            (Encoding::Json, false) => Encoding::JsonZlib,
            (Encoding::Json, true) => Encoding::JsonGzip,
            (other, _) => other,
        }
    }

    /// Returns `plain` compressed, or `None` if that would not be smaller.
    pub fn compress(&mut self, plain: &[u8]) -> Option<Bytes> {
        self.deflate.reset();
        // Output that does not fit would not be smaller.
        self.output.clear();
        self.output.reserve(plain.len());
        loop {
            let consumed = usize::try_from(self.deflate.total_in()).ok()?;
            let status = self
                .deflate
                .compress_vec(&plain[consumed..], &mut self.output, FlushCompress::Finish)
                .ok()?;
            match status {
                Status::StreamEnd => {
                    let smaller = self.output.len() < plain.len();
                    return smaller.then(|| Bytes::copy_from_slice(&self.output));
                }
                _ if self.output.len() >= plain.len() => return None,
                Status::Ok | Status::BufError => {
                    if self.output.len() == self.output.capacity() {
                        return None;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::settings::Level;

    #[test]
    fn what_shrinks_is_compressed_and_the_rest_left() {
        let noise: Vec<u8> = (0_u32..1_000)
            .flat_map(|number| number.wrapping_mul(0x9E37_79B9).to_be_bytes())
            .collect();
        for level in [1, 6, 9].map(|level| Level::new(level).unwrap()) {
            let mut zlib = Compressor::new(Compression::Zlib(level)).unwrap();
            let mut gzip = Compressor::new(Compression::Gzip(level)).unwrap();
            for plain in [vec![], vec![1], noise[..64].to_vec()] {
                assert_eq!(zlib.compress(&plain), None, "{} bytes", plain.len());
                assert_eq!(gzip.compress(&plain), None, "{} bytes", plain.len());
            }
            for plain in [vec![7; 100], vec![7; 3_000_000], b"temperature ".repeat(1_000)] {
                let small = zlib.compress(&plain).unwrap();
                let mut back = Vec::new();
                flate2::read::ZlibDecoder::new(&small[..]).read_to_end(&mut back).unwrap();
                assert_eq!(back, plain);
                let small = gzip.compress(&plain).unwrap();
                back.clear();
                flate2::read::GzDecoder::new(&small[..]).read_to_end(&mut back).unwrap();
                assert_eq!(back, plain);
            }
        }
        assert!(Compressor::new(Compression::None).is_none());
    }
}
