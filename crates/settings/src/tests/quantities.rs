//! Sizes, durations and the nearest word.

use std::time::Duration;

use proptest::prelude::*;

use crate::{ByteSize, format_duration, nearest, parse_duration};

#[test]
fn durations_are_whole_numbers_with_a_unit() {
    #[rustfmt::skip]
    let cases = [
        // text                     milliseconds
        ("250ms",                   Some(250)),
        ("5s",                      Some(5_000)),
        ("10m",                     Some(600_000)),
        ("2h",                      Some(7_200_000)),
        ("7d",                      Some(604_800_000)),
        ("0s",                      Some(0)),
        ("5",                       None),
        ("s",                       None),
        ("",                        None),
        ("1.5s",                    None),
        ("-1s",                     None),
        ("5 s",                     None),
        ("5S",                      None),
        ("5sec",                    None),
        ("99999999999999999999s",   None),
        ("18446744073709551615d",   None),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_duration(text).ok(), expected.map(Duration::from_millis), "{text}");
    }
}

#[test]
fn sizes_are_whole_numbers_with_a_unit() {
    #[rustfmt::skip]
    let cases = [
        // text                     bytes
        ("0B",                      Some(0)),
        ("64KiB",                   Some(65_536)),
        ("1MiB",                    Some(1_048_576)),
        ("1GiB",                    Some(1_073_741_824)),
        ("64",                      None),
        ("64KB",                    None),
        ("64k",                     None),
        ("64 KiB",                  None),
        ("1.5GiB",                  None),
        ("KiB",                     None),
        ("18446744073709551615GiB", None),
    ];
    for (text, expected) in cases {
        assert_eq!(text.parse().ok(), expected.map(ByteSize::bytes), "{text}");
    }
}

#[test]
fn the_nearest_word_is_within_a_third_of_the_letters() {
    let words = ["listen", "anonymous", "max-packet-bytes", "data-dir", "url", "id"];
    #[rustfmt::skip]
    let cases = [
        // written              meant
        ("listne",              Some("listen")),
        ("Listen",              Some("listen")),
        ("lisen",               Some("listen")),
        ("anonimus",            Some("anonymous")),
        ("data_dir",            Some("data-dir")),
        ("datadir",             Some("data-dir")),
        ("max_packet_byte",     Some("max-packet-bytes")),
        ("uri",                 Some("url")),
        ("ix",                  Some("id")),
        ("xy",                  None),
        ("port",                None),
        ("",                    None),
    ];
    for (written, expected) in cases {
        assert_eq!(nearest(written, words), expected, "{written}");
    }
    assert_eq!(nearest(&"a".repeat(10_000), words), None);
}

proptest! {
    #[test]
    fn a_size_is_read_as_it_was_written(bytes in any::<u64>()) {
        let size = ByteSize::bytes(bytes);
        prop_assert_eq!(size.to_string().parse(), Ok(size));
    }

    #[test]
    fn a_duration_is_read_as_it_was_written(milliseconds in 0..u64::MAX / 2) {
        let duration = Duration::from_millis(milliseconds);
        prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
    }
}
