//! Lists of properties.

use std::{collections::BTreeSet, io::Write as _};

use flate2::{Compression, write::ZlibEncoder};
use proptest::prelude::*;

use crate::{PurgeError, read_list, write_list};

fn compressed(size: u32, text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(size.to_be_bytes().to_vec(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// uplink.22: the specification's lists are read.
#[test]
fn uplink_22_lists_of_the_documentation_are_read() {
    let hex = |text: &str| -> Vec<u8> {
        text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    };
    let cases = [
        (
            "00 00 00 46 78 9c 4b ce cf d5 4b ad 48 cc 2d c8 49 d5 f3 ad f4 cc 2b 49 2d 4a 4b 4c 4e d5 2f ce cf 4d d5 2f 48 2c c9 b0 ce 2f 4a 87 ab 70 29 4a 4c 2b 41 28 ca 2f c9 48 2d 0a 00 2a 02 00 b2 0c 1a c9",
            vec!["com.example.MyInterface/some/path", "org.example.DraftInterface/otherPath"],
        ),
        (
            "00 00 00 3e 78 9c cb 2f 4a d7 4b ad 48 cc 2d c8 49 d5 4b 4d 49 4f d5 73 ce cf 4b cb 4c d7 4f cd 4b 4c ca 49 4d b1 ce c7 21 5f 90 5a 94 99 9f 02 00 da cc 17 3a",
            vec!["org.example.edge.Config/enabled", "org.example.edge.Config/period"],
        ),
        ("00 00 00 00", vec![]),
        ("00 00 00 00 78 9c 03 00 00 00 00 01", vec![]),
    ];
    for (bytes, entries) in cases {
        let expected: BTreeSet<String> = entries.into_iter().map(str::to_owned).collect();
        assert_eq!(read_list(&hex(bytes)), Ok(expected), "{bytes}");
    }
}

/// uplink.22, section 11.2: what is damaged, lies about its size, or would not end is refused.
#[test]
fn uplink_22_lists_that_are_not_sound_are_refused() {
    let entry = b"org.example.A/b";
    let sound = compressed(15, entry);
    assert!(read_list(&sound).is_ok());
    let is_compressed = |error: &PurgeError| matches!(error, PurgeError::Compressed(_));
    let refused = |bytes: &[u8]| read_list(bytes).unwrap_err();
    let mut damaged = sound.clone();
    damaged[10] ^= 0x55;
    assert!(is_compressed(&refused(&damaged)));
    assert!(is_compressed(&refused(&sound[..sound.len() - 3])));
    assert!(is_compressed(&refused(&[0, 0, 0, 15])));
    assert_eq!(refused(&[0, 0]), PurgeError::TooShort(2));
    for said in [14, 16, u32::MAX] {
        let found = PurgeError::Size { said: usize::try_from(said).unwrap(), found: 15 };
        assert_eq!(refused(&compressed(said, entry)), found);
    }
    assert_eq!(refused(&compressed(2, b"ab")), PurgeError::Entry);
    assert_eq!(refused(&compressed(2, b"/b")), PurgeError::Entry);
    assert_eq!(refused(&compressed(2, &[0xff, 0xfe])), PurgeError::NotText);
    let bomb = vec![b'a'; (10 << 20) + 1];
    let bomb = compressed(u32::try_from(bomb.len()).unwrap(), &bomb);
    assert!(bomb.len() < 20_000);
    assert!(is_compressed(&refused(&bomb)));
}

proptest! {
    /// uplink.22: what is written is read back.
    #[test]
    fn uplink_22_lists_survive_the_way(
        entries in prop::collection::btree_set("[a-z]{1,8}\\.[A-Z]{1,8}(/[a-z0-9]{1,8}){1,4}", 0..50),
    ) {
        let written = write_list(entries.iter().map(String::as_str));
        prop_assert_eq!(read_list(&written), Ok(entries));
    }
}
