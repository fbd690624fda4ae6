//! Questions about names.
#![no_main]

use std::cell::RefCell;

use egress::fuzzing::Names;

thread_local! {
    static NAMES: RefCell<Names> = RefCell::default();
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    NAMES.with_borrow_mut(|names| names.ask(bytes));
});
