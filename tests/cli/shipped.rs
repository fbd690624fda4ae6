//! What tests may turn off cannot be turned off in what is shipped: it is not in there.

use std::fs;
use std::path::Path;

/// Variables that only a program built for tests knows.
const SWITCHES: [&str; 3] = ["SBX_DAEMON_WITHOUT", "SBX_FAILPOINT", "SBX_DAEMON_VERSION"];

/// `just quickstart` looks for the same in the release build.
#[test]
fn only_a_build_for_tests_knows_the_switches() {
    let program = fs::read(env!("CARGO_BIN_EXE_sbx")).unwrap();
    for switch in SWITCHES {
        let known = program.windows(switch.len()).any(|text| text == switch.as_bytes());
        assert_eq!(known, cfg!(feature = "failpoints"), "{switch}");
    }
}

#[test]
fn no_crate_turns_the_feature_on_by_itself() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut crates = 0;
    for entry in fs::read_dir(root).unwrap() {
        let Ok(text) = fs::read_to_string(entry.unwrap().path().join("Cargo.toml")) else { continue };
        crates += 1;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(!line.contains("failpoints") || line.starts_with("failpoints = ["), "{line}");
            assert!(!line.starts_with("default = "), "no feature is on by default: {line}");
        }
    }
    assert!(crates >= 5, "{crates}");
}
