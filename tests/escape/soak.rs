//! How often tests do over and over what has to go well each time: a bounded number in CI, many more by `just soak`.

/// The number that `variable` says, or the one for CI.
pub fn times(variable: &str, in_ci: usize) -> usize {
    let said = std::env::var(variable).ok();
    said.map_or(in_ci, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text:?}")))
}
