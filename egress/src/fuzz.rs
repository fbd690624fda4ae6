//! Bounded, repeatable fuzzing of what reads bytes from a sandbox: mutations of a corpus, the same ones each time.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRng, TestRunner};

pub(crate) mod targets;

/// How many inputs are tried.
const CASES: u32 = 5_000;

/// The files of `fixtures/{name}`, by name.
pub(crate) fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// One change to bytes.
#[derive(Debug, Clone)]
enum Change {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Remove(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Repeat(prop::sample::Index, u8),
    Append(Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    // Lengths and flags break at their edges.
    let byte = || prop_oneof![any::<u8>(), prop::sample::select(vec![0, 1, 2, 0x7f, 0x80, 0xc0, 0xff])];
    prop_oneof![
        (at(), byte()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (at(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        at().prop_map(Change::Cut),
        (at(), any::<u8>()).prop_map(|(at, many)| Change::Remove(at, many)),
        (at(), prop::collection::vec(byte(), 1..40)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (at(), any::<u8>()).prop_map(|(at, many)| Change::Repeat(at, many)),
        prop::collection::vec(byte(), 1..40).prop_map(Change::Append),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: Change) {
    let Change::Append(more) = change else {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match change {
            Change::Set(at, byte) => bytes[at.index(length)] = byte,
            Change::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Change::Cut(at) => bytes.truncate(at.index(length)),
            Change::Remove(at, many) => {
                let at = at.index(length);
                bytes.drain(at..length.min(at + usize::from(many)));
            }
            Change::Insert(at, more) => {
                let at = at.index(length);
                bytes.splice(at..at, more);
            }
            Change::Repeat(at, many) => {
                let at = at.index(length);
                let again = bytes[at..length.min(at + usize::from(many))].to_vec();
                bytes.splice(at..at, again);
            }
            Change::Append(_) => {}
        }
        return;
    };
    bytes.extend(more);
}

/// Calls `check` with mutations of the files of `fixtures/{name}`, and with a number to vary by.
pub(crate) fn run(name: &str, mut check: impl FnMut(&[u8], u64)) {
    let corpus = corpus(name);
    let config = Config { failure_persistence: None, ..Config::default() };
    let algorithm = config.rng_algorithm;
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(algorithm));
    let strategy = (0..corpus.len(), prop::collection::vec(change(), 0..5), any::<u64>());
    for _ in 0..CASES {
        let (file, changes, number) = strategy.new_tree(&mut runner).unwrap().current();
        let mut bytes = corpus[file].1.clone();
        for change in changes {
            apply(&mut bytes, change);
        }
        check(&bytes, number);
    }
}
