//! The target `mqtt_v5` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::mqtt_v5(data));
