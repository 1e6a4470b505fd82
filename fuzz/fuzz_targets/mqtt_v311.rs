//! The target `mqtt_v311` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::mqtt_v311(data));
