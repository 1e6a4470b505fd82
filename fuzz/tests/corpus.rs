//! Every target over its corpus, and over seeded changes of it (broker.33): seconds on every change, minutes in the deep tier.

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

/// Changed inputs of a target: on every change, and in the deep tier (`TIDEGATE_TIER=all`).
const INPUTS: [u64; 2] = [200_000, 10_000_000];

/// Longest input that changes lead to.
const INPUT_BYTES_MAX: usize = 2_048;

/// A small generator (xorshift), so that a seed says all.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).expect("below `sides`")
    }

    fn byte(&mut self) -> u8 {
        // Small numbers and the ends of ranges are lengths, types and flags more often than others.
        let telling = [0, 1, 2, 4, 5, 0x7f, 0x80, 0xff, b'/', b'+', b'#', b'$', b'\n'];
        match self.roll(3) {
            0 => telling[self.roll(telling.len())],
            _ => u8::try_from(self.roll(256)).expect("a byte"),
        }
    }

    /// Changes an input of the corpus, sometimes with a part of another.
    fn mutate(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = corpus[self.roll(corpus.len())].clone();
        for _ in 0..=self.roll(6) {
            let at = self.roll(input.len() + 1);
            match self.roll(7) {
                0 => input.insert(at, self.byte()),
                1 => input.truncate(at),
                2 if at < input.len() => input[at] = self.byte(),
                3 if at < input.len() => input[at] ^= 1 << self.roll(8),
                4 if at < input.len() => drop(input.remove(at)),
                5 if at < input.len() => input.extend_from_within(at..),
                _ => {
                    let other = &corpus[self.roll(corpus.len())];
                    input.extend_from_slice(&other[self.roll(other.len() + 1)..]);
                }
            }
            input.truncate(INPUT_BYTES_MAX);
        }
        input
    }
}

fn run(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("each target has a corpus")
        .map(|entry| entry.expect("it is listed").path())
        .collect();
    // The same order everywhere, so that a seed means the same everywhere.
    files.sort();
    let corpus: Vec<_> = files.iter().map(|file| fs::read(file).expect("it can be read")).collect();
    assert!(!corpus.is_empty(), "{} is empty", folder.display());
    for (file, input) in files.iter().zip(&corpus) {
        attempt(target, input, &file.display().to_string());
    }
    let is_deep = std::env::var("TIDEGATE_TIER").is_ok_and(|tier| tier == "all");
    for seed in 1..=INPUTS[usize::from(is_deep)] {
        let input = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).mutate(&corpus);
        attempt(target, &input, &format!("seed {seed}"));
    }
}

fn attempt(target: fn(&[u8]), input: &[u8], what: &str) {
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| target(input)));
    assert!(outcome.is_ok(), "{what}: {input:02x?}");
}

#[test]
fn mqtt_v311() {
    run("mqtt_v311", tidegate_fuzz::mqtt_v311);
}

#[test]
fn mqtt_v5() {
    run("mqtt_v5", tidegate_fuzz::mqtt_v5);
}

#[test]
fn mqtt_state() {
    run("mqtt_state", tidegate_fuzz::mqtt_state);
}

#[test]
fn topic_match() {
    run("topic_match", tidegate_fuzz::topic_match);
}
