//! Which options a request may carry, and their values (RFC 7252, sections 5.4 and 5.10).

use std::ops::RangeInclusive;

use coap_lite::{CoapOption, Packet};

/// An option that the server side understands.
struct OptionRule {
    number: u16,
    repeatable: bool,
    length: RangeInclusive<usize>,
}

const fn rule(number: u16, repeatable: bool, length: RangeInclusive<usize>) -> OptionRule {
    OptionRule { number, repeatable, length }
}

#[rustfmt::skip]
const UNDERSTOOD: [OptionRule; 16] = [
    rule(1,   true,  0..=8),       // If-Match
    rule(3,   false, 1..=255),     // Uri-Host
    rule(5,   false, 0..=0),       // If-None-Match
    rule(6,   false, 0..=3),       // Observe
    rule(7,   false, 0..=2),       // Uri-Port
    rule(11,  true,  0..=255),     // Uri-Path
    rule(12,  false, 0..=2),       // Content-Format
    rule(15,  true,  0..=255),     // Uri-Query
    rule(17,  false, 0..=2),       // Accept
    rule(23,  false, 0..=3),       // Block2
    rule(27,  false, 0..=3),       // Block1
    rule(28,  false, 0..=4),       // Size2
    rule(35,  false, 1..=1_034),   // Proxy-Uri
    rule(39,  false, 1..=255),     // Proxy-Scheme
    rule(60,  false, 0..=4),       // Size1
    rule(258, false, 0..=1),       // No-Response
];

/// Returns the number of the first critical option that is not understood, too long, too short, or
/// repeated without being repeatable (sections 5.4.1, 5.4.3, 5.4.5).
pub(crate) fn unusable_critical(packet: &Packet) -> Option<u16> {
    packet
        .options()
        .filter(|(number, _)| *number & 1 == 1)
        .find(|(number, values)| {
            let Some(rule) = rule_of(**number) else { return true };
            (values.len() > 1 && !rule.repeatable)
                || values.iter().any(|value| !rule.length.contains(&value.len()))
        })
        .map(|(number, _)| *number)
}

/// Returns the value of an option that occurs once, as a number; `None` if it is absent or too long.
pub(crate) fn uint(packet: &Packet, option: CoapOption) -> Option<u32> {
    let rule = rule_of(option.into())?;
    let value =
        packet.get_first_option(option).filter(|value| rule.length.contains(&value.len()))?;
    Some(value.iter().fold(0, |number, &byte| number << 8 | u32::from(byte)))
}

/// Returns a number as the value of an option: big endian without leading zeros (section 3.2).
pub(crate) fn uint_value(number: u32) -> Vec<u8> {
    let zeros = usize::try_from(number.leading_zeros() / 8).expect("at most four");
    number.to_be_bytes()[zeros..].to_vec()
}

/// Returns all values of a string option.
///
/// # Errors
///
/// The name of the option, if one of the values is not UTF-8.
pub(crate) fn strings(
    packet: &Packet,
    option: CoapOption,
    name: &'static str,
) -> Result<Vec<String>, &'static str> {
    packet
        .get_option(option)
        .into_iter()
        .flatten()
        .map(|value| String::from_utf8(value.clone()).map_err(|_| name))
        .collect()
}

fn rule_of(number: u16) -> Option<&'static OptionRule> {
    UNDERSTOOD.iter().find(|rule| rule.number == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_leading_zeros_and_are_read_with_them() {
        #[rustfmt::skip]
        let cases = [
            (0_u32,         vec![]),
            (30,            vec![30]),
            (256,           vec![1, 0]),
            (0x0F_FFFE,     vec![0x0F, 0xFF, 0xFE]),
            (u32::MAX,      vec![0xFF; 4]),
        ];
        for (number, value) in cases {
            assert_eq!(uint_value(number), value);
            let mut packet = Packet::new();
            packet.add_option(CoapOption::MaxAge, value.clone());
            packet.add_option(CoapOption::Size1, [vec![0; 4 - value.len()], value].concat());
            assert_eq!(uint(&packet, CoapOption::Size1), Some(number));
            assert_eq!(uint(&packet, CoapOption::MaxAge), None, "not one of a request");
        }
    }

    #[test]
    fn critical_options_must_be_understood_and_well_formed() {
        #[rustfmt::skip]
        let cases = [
            (vec![(11, 3), (11, 255)],  None),
            (vec![(11, 256)],              Some(11)),
            (vec![(3, 0)],                 Some(3)),
            (vec![(17, 1), (17, 1)],       Some(17)),
            (vec![(9, 2)],                 Some(9)),       // OSCORE
            (vec![(13, 1)],                Some(13)),
            (vec![(65_001, 0)],            Some(65_001)),
            (vec![(12, 3), (65_000, 9)],   None),          // elective: ignored
            (vec![(1, 0), (1, 8), (5, 0)], None),
        ];
        for (options, expected) in cases {
            let mut packet = Packet::new();
            for &(number, length) in &options {
                packet.add_option(CoapOption::from(number), vec![b'x'; length]);
            }
            assert_eq!(unusable_critical(&packet), expected, "{options:?}");
        }
    }
}
