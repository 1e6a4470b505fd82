//! zlib (RFC 1950), where it helps.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};

/// Compresses payloads one by one; its tables are made once.
#[derive(Debug)]
pub struct Compressor {
    deflate: Compress,
    output: Vec<u8>,
}

impl Default for Compressor {
    fn default() -> Self {
        Self::new()
    }
}

impl Compressor {
    /// Makes a compressor of level 6, the usual balance of size and time.
    pub fn new() -> Self {
        Self { deflate: Compress::new(Compression::new(6), true), output: Vec::new() }
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

    #[test]
    fn what_shrinks_is_compressed_and_the_rest_left() {
        let mut compressor = Compressor::new();
        let noise: Vec<u8> = (0_u32..1_000)
            .flat_map(|number| number.wrapping_mul(0x9E37_79B9).to_be_bytes())
            .collect();
        for plain in [vec![], vec![1], noise[..64].to_vec()] {
            assert_eq!(compressor.compress(&plain), None, "{} bytes", plain.len());
        }
        for plain in [vec![7; 100], vec![7; 3_000_000], b"temperature ".repeat(1_000)] {
            let small = compressor.compress(&plain).unwrap();
            let mut back = Vec::new();
            flate2::read::ZlibDecoder::new(&small[..]).read_to_end(&mut back).unwrap();
            assert_eq!(back, plain);
        }
    }
}
