//! Bytes that wait to be written to one peer.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes, BytesMut};

/// From this length on, bytes that others share are referenced; below it copying is cheaper.
const SHARED_BYTES_MIN: usize = 1_024;

/// Least memory that is taken for small packets at once.
const TAIL_BYTES_MIN: usize = 512;

/// A bounded list of byte chunks: small packets one behind the other in a buffer of their own, large
/// payloads shared with every other connection that gets them.
///
/// The bound is a request to stop, see [`has_room`](Self::has_room): a packet is always taken whole. An
/// empty output holds no memory. Write it with [`io_slices`](Self::io_slices) and
/// [`advance`](Self::advance), or as the [`Buf`] that it is.
#[derive(Debug)]
pub struct Output {
    /// Comes first; no chunk is empty.
    sealed: VecDeque<Bytes>,
    /// Comes last; grows.
    tail: BytesMut,
    sealed_bytes: usize,
    bytes_max: usize,
}

impl Output {
    /// Makes an empty output that has room below `bytes_max`.
    pub fn with_limit(bytes_max: usize) -> Self {
        Self { sealed: VecDeque::new(), tail: BytesMut::new(), sealed_bytes: 0, bytes_max }
    }

    /// Returns whether more should be put in. Whoever makes packets asks before each of them.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.len() < self.bytes_max
    }

    /// Returns how many bytes wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.sealed_bytes + self.tail.len()
    }

    /// Returns whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `slices` with the bytes that wait, first ones first, and returns how many it filled.
    pub fn io_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let chunks = self.sealed.iter().map(|chunk| &chunk[..]).chain(tail);
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    /// Drops the first `written` bytes, which have been written. Releases all memory with the last.
    ///
    /// # Panics
    ///
    /// If fewer bytes wait.
    pub fn advance(&mut self, mut written: usize) {
        assert!(written <= self.len(), "no more is written than waits");
        while let Some(chunk) = self.sealed.front_mut() {
            if written < chunk.len() {
                chunk.advance(written);
                self.sealed_bytes -= written;
                return;
            }
            written -= chunk.len();
            self.sealed_bytes -= chunk.len();
            self.sealed.pop_front();
        }
        self.tail.advance(written);
        if self.tail.is_empty() {
            self.clear();
        }
    }

    /// Drops all that waits, for a peer that is gone.
    pub fn clear(&mut self) {
        *self = Self::with_limit(self.bytes_max);
    }

    /// Returns the buffer to which packets are appended, with room for `bytes`. Room is taken in pieces
    /// that serve many small packets, as each head in front of a shared payload is sealed.
    #[inline]
    pub(crate) fn tail_with_room(&mut self, bytes: usize) -> &mut BytesMut {
        if self.tail.capacity() - self.tail.len() < bytes {
            self.tail.reserve(bytes.max(TAIL_BYTES_MIN));
        }
        &mut self.tail
    }

    /// Returns the buffer to which packets are appended. Nothing that was in it may be changed.
    #[inline]
    pub(crate) fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends bytes that others share.
    #[inline]
    pub fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            self.tail.extend_from_slice(bytes);
            return;
        }
        if !self.tail.is_empty() {
            let head = self.tail.split().freeze();
            self.sealed_bytes += head.len();
            self.sealed.push_back(head);
        }
        self.sealed_bytes += bytes.len();
        self.sealed.push_back(bytes.clone());
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self.sealed.front().map_or(&self.tail[..], |chunk| &chunk[..])
    }

    fn advance(&mut self, count: usize) {
        Self::advance(self, count);
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.io_slices(slices)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Own(Vec<u8>),
        Shared(Vec<u8>),
        Advance(usize),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            vec(any::<u8>(), 0..64).prop_map(Step::Own),
            (0_usize..4 * SHARED_BYTES_MIN, any::<u8>())
                .prop_map(|(length, byte)| Step::Shared(vec![byte; length])),
            (0_usize..5_000).prop_map(Step::Advance),
        ]
    }

    fn shown(output: &Output) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 256];
        let filled = output.io_slices(&mut slices);
        assert!(filled < slices.len(), "the test fills every slice");
        assert!(slices[..filled].iter().all(|slice| !slice.is_empty()), "no slice is empty");
        slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    proptest! {
        /// An output is a queue of bytes, whatever mixture of copies and references it holds.
        #[test]
        fn bytes_come_out_as_they_went_in(steps in vec(any_step(), 0..40)) {
            let mut output = Output::with_limit(8_192);
            let mut model = Vec::new();
            for step in steps {
                match step {
                    Step::Own(bytes) => {
                        output.tail().extend_from_slice(&bytes);
                        model.extend(bytes);
                    }
                    Step::Shared(bytes) => {
                        output.put_shared(&Bytes::from(bytes.clone()));
                        model.extend(bytes);
                    }
                    Step::Advance(count) => {
                        let count = count.min(model.len());
                        output.advance(count);
                        model.drain(..count);
                    }
                }
                prop_assert_eq!(shown(&output), &model[..]);
                prop_assert_eq!(output.len(), model.len());
                prop_assert_eq!(output.has_room(), model.len() < 8_192);
            }
        }
    }

    #[test]
    fn large_shared_bytes_are_not_copied() {
        let payload = Bytes::from(vec![7; SHARED_BYTES_MIN]);
        let mut output = Output::with_limit(1);
        output.tail().extend_from_slice(b"head");
        output.put_shared(&payload);
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(output.io_slices(&mut slices), 2);
        assert_eq!(slices[1].as_ptr(), payload.as_ptr());
    }

    #[test]
    fn an_empty_output_holds_no_memory() {
        let mut output = Output::with_limit(100);
        output.tail().extend_from_slice(&[0; 50]);
        output.put_shared(&Bytes::from(vec![0; SHARED_BYTES_MIN]));
        output.tail().extend_from_slice(&[0; 50]);
        output.advance(output.len());
        assert!(output.is_empty());
        assert_eq!((output.tail.capacity(), output.sealed.capacity()), (0, 0));
    }
}
