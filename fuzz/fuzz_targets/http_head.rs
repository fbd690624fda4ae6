//! Requests of HTTP/1, whole and in pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let piece = bytes.last().map_or(1, |byte| usize::from(*byte));
    let _ = egress::fuzzing::requests(bytes, piece);
});
