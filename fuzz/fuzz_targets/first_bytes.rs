//! What is spoken, by the first bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = egress::fuzzing::first_bytes(bytes);
});
