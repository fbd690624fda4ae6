//! The targets of `fuzz/`, compiled and run with the tests: otherwise only somebody with a fuzzer would notice that one of
//! them does not fit any more.
#![allow(unused_attributes, reason = "each is the root of a program there")]

use std::path::Path;

/// Stands in for the macro of the fuzzer.
macro_rules! fuzz_target {
    (|$bytes:ident: &[u8]| $body:block) => {
        pub(super) fn target($bytes: &[u8]) $body
    };
}
pub(crate) use fuzz_target;

#[path = "../../../fuzz/fuzz_targets/client_hello.rs"]
mod client_hello;
#[path = "../../../fuzz/fuzz_targets/dns.rs"]
mod dns;
#[path = "../../../fuzz/fuzz_targets/first_bytes.rs"]
mod first_bytes;
#[path = "../../../fuzz/fuzz_targets/http_head.rs"]
mod http_head;

/// What is run on one input.
type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 4] = [
    ("client-hello", client_hello::target),
    ("dns", dns::target),
    ("first-bytes", first_bytes::target),
    ("http-head", http_head::target),
];

#[test]
fn every_target_takes_its_corpus() {
    for (name, target) in TARGETS {
        for (_, bytes) in super::corpus(name) {
            target(&bytes);
        }
    }
}

#[test]
fn no_target_is_left_out() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        let (file, program) = (name.replace('-', "_"), format!("name = \"{name}\"\n"));
        assert!(manifest.contains(&format!("{program}path = \"fuzz_targets/{file}.rs\"")), "{name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    assert_eq!(std::fs::read_dir(fuzz.join("fuzz_targets")).unwrap().count(), TARGETS.len());
}
