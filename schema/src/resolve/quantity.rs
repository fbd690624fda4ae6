//! Sizes, durations and CPUs.

use std::time::Duration;

use super::Resolver;
use crate::codes::WRONG_VALUE;
use crate::document::Node;
use crate::raw::{Cpus, Size};
use crate::structure::show;

/// A ceiling that may be lifted.
const UNLIMITED: &str = "unlimited";

/// Bytes from `512MiB`, `4G`, `1.5GiB`, `1024`. Units are powers of 1024; `MB` and `GB`, which some read as powers of
/// 1000, are not understood.
fn bytes(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return None,
    };
    scaled(number, 1 << shift)
}

/// `number`, a decimal fraction, times `scale`, rounded down. Exact: no floating point.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let places = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = fraction.parse::<u128>().ok()? * u128::from(scale) / places;
    u64::try_from(whole.parse::<u128>().ok()?.checked_mul(u128::from(scale))? + part).ok()
}

/// A duration from `90s`, `30m`, `12h`, `7d`, `2w`, or several of them: `1d12h`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut seconds = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let split = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..split].parse().ok()?;
        let unit = match rest.as_bytes().get(split)? {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        seconds = seconds.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[split + 1..];
    }
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

impl Resolver<'_> {
    /// A size of at least `least` bytes.
    pub(super) fn size(&mut self, raw: &Size, node: &Node, least: u64) -> Option<u64> {
        let size = match raw {
            Size::Bytes(size) => Some(*size),
            Size::Text(text) => bytes(text),
        };
        match size {
            // The engine counts in signed 64-bit numbers.
            Some(size) if size >= least && i64::try_from(size).is_ok() => Some(size),
            Some(size) => {
                self.problem(
                    WRONG_VALUE
                        .at(
                            node.span,
                            format!("{size} bytes is {}", if size < least { "too little" } else { "too much" }),
                        )
                        .with_help("a number alone counts bytes; write a unit: `512MiB`, `4GiB`"),
                );
                None
            }
            None => {
                let text = if let Size::Text(text) = raw { text.as_str() } else { "" };
                let help =
                    if text.ends_with("MB") || text.ends_with("GB") || text.ends_with("KB") || text.ends_with("TB") {
                        "write `KiB`, `MiB`, `GiB` or `TiB`: the others mean different sizes to different tools"
                    } else {
                        "write a number and `KiB`, `MiB`, `GiB` or `TiB`: `512MiB`"
                    };
                self.problem(WRONG_VALUE.at(node.span, format!("`{}` is not a size", show(text))).with_help(help));
                None
            }
        }
    }

    /// A memory ceiling; `None` without one.
    pub(super) fn memory(&mut self, raw: &Size, node: &Node) -> Option<u64> {
        const LEAST: u64 = 4 << 20;
        match raw {
            Size::Text(text) if text == UNLIMITED => None,
            _ => self.size(raw, node, LEAST),
        }
    }

    /// Thousandths of a CPU; `None` without a ceiling.
    pub(super) fn cpus(&mut self, raw: &Cpus, node: &Node) -> Option<u64> {
        let text = match raw {
            Cpus::Text(text) if text == UNLIMITED => return None,
            Cpus::Text(text) => text.clone(),
            Cpus::Number(number) => number.to_string(),
        };
        let milli = scaled(&text, 1000).filter(|milli| (10..=8_192_000).contains(milli));
        if milli.is_none() {
            self.problem(
                WRONG_VALUE
                    .at(node.span, format!("`{}` is not a number of CPUs", show(&text)))
                    .with_help("write a number from 0.01 up: `2`, `0.5`, or `unlimited`"),
            );
        }
        milli
    }

    /// A duration; `None` for `never`.
    pub(super) fn duration(&mut self, text: &str, node: &Node) -> Option<Duration> {
        if text == "never" {
            return None;
        }
        let duration = duration(text);
        if duration.is_none() {
            self.problem(
                WRONG_VALUE
                    .at(node.span, format!("`{}` is not a duration", show(text)))
                    .with_help("write numbers with `s`, `m`, `h`, `d` or `w`: `30m`, `7d`, `1d12h`; or `never`"),
            );
        }
        duration
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("512MiB", Some(512 << 20)),
            ("4G", Some(4 << 30)),
            ("1.5GiB", Some(3 << 29)),
            ("0.1K", Some(102)),
            ("4GB", None),
            ("GiB", None),
            ("-1", None),
            ("1.", None),
            (".5G", None),
            ("1 GiB", None),
            ("1.5.5G", None),
            ("99999999999999999999", None),
            ("16777216TiB", None),
            ("", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn reads_durations() {
        for (text, expected) in [
            ("90s", Some(90)),
            ("30m", Some(1800)),
            ("12h", Some(43_200)),
            ("7d", Some(604_800)),
            ("1w1d", Some(691_200)),
            ("0d", None),
            ("7", None),
            ("d", None),
            ("7 d", None),
            ("7days", None),
            ("-7d", None),
            ("99999999999999999999d", None),
            ("9999999999999999999w", None),
        ] {
            assert_eq!(duration(text), expected.map(Duration::from_secs), "{text}");
        }
    }
}
