//! Writes BSON 1.1, element by element, into one buffer.
//!
//! The lengths of documents are filled in when they end, so nothing is built twice; array keys are
//! counted up as text. The `bson` crate reads in the tests what is written here.

use tidegate_model::{Document, Value};

use super::{DECIMAL128_EXPONENT_0, element};

/// The place of a document's length, to be filled in.
#[derive(Debug)]
#[must_use]
pub struct Open(usize);

/// A document under construction.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Writes behind what is in the buffer.
    pub fn new(buffer: &'a mut Vec<u8>) -> Self {
        Self { buffer }
    }

    /// Begins the outermost document.
    pub fn begin(&mut self) -> Open {
        let at = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 4]);
        Open(at)
    }

    /// Ends a document or array.
    pub fn end(&mut self, open: Open) {
        self.buffer.push(0);
        let length =
            i32::try_from(self.buffer.len() - open.0).expect("batches are far below 2 GiB");
        self.buffer[open.0..open.0 + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// Begins a document under a key.
    pub fn begin_document(&mut self, key: &[u8]) -> Open {
        self.key(element::DOCUMENT, key);
        self.begin()
    }

    /// Begins an array under a key; its items have the keys of an [`IndexKey`].
    pub fn begin_array(&mut self, key: &[u8]) -> Open {
        self.key(element::ARRAY, key);
        self.begin()
    }

    /// Writes a text.
    pub fn string(&mut self, key: &[u8], text: &str) {
        self.key(element::STRING, key);
        self.length(text.len() + 1);
        self.buffer.extend_from_slice(text.as_bytes());
        self.buffer.push(0);
    }

    /// Writes an int32.
    pub fn int32(&mut self, key: &[u8], number: i32) {
        self.key(element::INT32, key);
        self.buffer.extend_from_slice(&number.to_le_bytes());
    }

    /// Writes an int64.
    pub fn int64(&mut self, key: &[u8], number: i64) {
        self.key(element::INT64, key);
        self.buffer.extend_from_slice(&number.to_le_bytes());
    }

    /// Writes an int32 if the number fits, else an int64.
    #[inline]
    pub fn integer(&mut self, key: &[u8], number: i64) {
        match i32::try_from(number) {
            Ok(small) => self.int32(key, small),
            Err(_) => self.int64(key, number),
        }
    }

    /// Writes a double.
    #[inline]
    pub fn double(&mut self, key: &[u8], number: f64) {
        self.key(element::DOUBLE, key);
        self.buffer.extend_from_slice(&number.to_le_bytes());
    }

    /// Writes a boolean.
    pub fn boolean(&mut self, key: &[u8], value: bool) {
        self.key(element::BOOLEAN, key);
        self.buffer.push(u8::from(value));
    }

    /// Writes a time.
    pub fn datetime(&mut self, key: &[u8], unix_millis: i64) {
        self.key(element::DATETIME, key);
        self.buffer.extend_from_slice(&unix_millis.to_le_bytes());
    }

    /// Writes a value of a reading. Names lose U+0000, which BSON forbids in them, for `%00`.
    pub fn value(&mut self, key: &[u8], value: &Value) {
        match value {
            Value::Null => self.key(element::NULL, key),
            Value::Boolean(value) => self.boolean(key, *value),
            Value::Integer(number) => self.integer(key, *number),
            Value::Unsigned(number) => self.decimal128(key, *number),
            Value::Float(number) => self.double(key, f64::from(*number)),
            Value::Double(number) => self.double(key, *number),
            Value::String(text) => self.string(key, text),
            Value::Bytes(bytes) => self.binary(key, bytes),
            Value::Array(items) => {
                let array = self.begin_array(key);
                let mut index = IndexKey::new();
                for item in items.iter() {
                    self.value(index.next(), item);
                }
                self.end(array);
            }
            Value::Document(document) => {
                let open = self.begin_document(key);
                self.members(document);
                self.end(open);
            }
        }
    }

    fn members(&mut self, document: &Document) {
        for (name, member) in document.iter() {
            if name.contains('\0') {
                self.value(name.replace('\0', "%00").as_bytes(), member);
            } else {
                self.value(name.as_bytes(), member);
            }
        }
    }

    /// Writes bytes, of the generic subtype.
    pub fn binary(&mut self, key: &[u8], bytes: &[u8]) {
        self.binary_from(key, |buffer| buffer.extend_from_slice(bytes));
    }

    /// Writes the bytes that `append` appends.
    pub(crate) fn binary_from(&mut self, key: &[u8], append: impl FnOnce(&mut Vec<u8>)) {
        self.key(element::BINARY, key);
        self.buffer.extend_from_slice(&[0; 5]); // the length, and the subtype: generic
        let start = self.buffer.len();
        append(self.buffer);
        let length = i32::try_from(self.buffer.len() - start).expect("values are far below 2 GiB");
        self.buffer[start - 5..start - 1].copy_from_slice(&length.to_le_bytes());
    }

    fn decimal128(&mut self, key: &[u8], number: u64) {
        self.key(element::DECIMAL128, key);
        self.buffer.extend_from_slice(&number.to_le_bytes());
        self.buffer.extend_from_slice(&DECIMAL128_EXPONENT_0.to_le_bytes());
    }

    fn length(&mut self, length: usize) {
        let length = i32::try_from(length).expect("values are far below 2 GiB");
        self.buffer.extend_from_slice(&length.to_le_bytes());
    }

    #[inline]
    fn key(&mut self, kind: u8, key: &[u8]) {
        self.buffer.push(kind);
        self.buffer.extend_from_slice(key);
        self.buffer.push(0);
    }
}

/// Counts array keys up, as decimal text.
#[derive(Debug)]
pub struct IndexKey {
    digits: [u8; 20],
    start: usize,
    begun: bool,
}

impl Default for IndexKey {
    fn default() -> Self {
        Self::new()
    }
}

impl IndexKey {
    /// Starts before `0`.
    pub fn new() -> Self {
        Self { digits: [b'0'; 20], start: 19, begun: false }
    }

    /// Returns `0`, then `1`, and so on.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "what it returns lends from it")]
    pub fn next(&mut self) -> &[u8] {
        if std::mem::replace(&mut self.begun, true) {
            let mut at = 19;
            while self.digits[at] == b'9' {
                self.digits[at] = b'0';
                at -= 1;
            }
            self.digits[at] += 1;
            self.start = self.start.min(at);
        }
        &self.digits[self.start..]
    }
}

/// Returns at most how many bytes `value` takes up in an array or document, without its key.
pub(crate) fn size_bound(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Boolean(_) => 1,
        Value::Integer(_) | Value::Float(_) | Value::Double(_) => 8,
        Value::Unsigned(_) => 16,
        Value::String(text) => text.len() + 5,
        Value::Bytes(bytes) => bytes.len() + 5,
        Value::Array(items) => {
            5 + items.iter().map(|item| 2 + KEY_BOUND + size_bound(item)).sum::<usize>()
        }
        Value::Document(document) => {
            5 + document
                .iter()
                .map(|(name, member)| 2 + 3 * name.len() + size_bound(member))
                .sum::<usize>()
        }
    }
}

/// The most digits of an array key that occurs.
pub(crate) const KEY_BOUND: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn array_keys_count_up() {
        let mut key = IndexKey::new();
        for number in 0..2_345 {
            assert_eq!(key.next(), number.to_string().as_bytes());
        }
    }
}
