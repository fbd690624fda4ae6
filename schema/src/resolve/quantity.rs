//! Sizes, durations and CPUs.

use std::time::Duration;

use super::Resolver;
use crate::codes::WRONG_VALUE;
use crate::document::Node;
use crate::raw::{BYTES, Ceiling, Cpus, Size};
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

/// `number`, a decimal fraction, times `scale`, rounded down. No floating point.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    /// Digits that are looked at behind the point: there are never that many thousandths, nor bytes.
    const PLACES: usize = 18;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(PLACES)];
    let places = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = fraction.parse::<u128>().ok()? * u128::from(scale) / places;
    u64::try_from(whole.parse::<u128>().ok()?.checked_mul(u128::from(scale))? + part).ok()
}

/// Thousandths of a CPU from `0.5`, rounded; from a hundredth, as it is written, to 8192.
fn milli(text: &str) -> Option<u64> {
    scaled(text, 100).filter(|hundredths| *hundredths > 0)?;
    scaled(text, 2000).map(|halves| halves.div_ceil(2)).filter(|milli| *milli <= 8_192_000)
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
    /// A size.
    pub(super) fn size(&mut self, raw: &Size, node: &Node) -> Option<u64> {
        match raw {
            Size::Bytes(size) => Some(*size),
            Size::Text(text) => self.size_of(text, node, Size::LEAST, ""),
        }
    }

    /// A memory ceiling; `None` without one.
    pub(super) fn memory(&mut self, raw: &Ceiling, node: &Node) -> Option<u64> {
        match raw {
            Ceiling::Bytes(size) => Some(*size),
            Ceiling::Text(text) if text == UNLIMITED => None,
            Ceiling::Text(text) => self.size_of(text, node, Ceiling::LEAST, ", or `unlimited`"),
        }
    }

    /// `text`, of `node`, as a size of at least `least` bytes; `more` is what else can be written.
    fn size_of(&mut self, text: &str, node: &Node, least: u64, more: &str) -> Option<u64> {
        match bytes(text) {
            Some(size) if (least..=Size::MOST).contains(&size) => Some(size),
            Some(size) => {
                let word = if size < least { "too little" } else { "too much" };
                self.problem(WRONG_VALUE.at(node.span, format!("{size} bytes is {word}")).with_help(BYTES));
                None
            }
            None => {
                let units = "write a number and `KiB`, `MiB`, `GiB` or `TiB`: `512MiB`";
                let help = if ["KB", "MB", "GB", "TB"].iter().any(|unit| text.ends_with(unit)) {
                    "write `KiB`, `MiB`, `GiB` or `TiB`: the others mean different sizes to different tools".to_owned()
                } else {
                    format!("{units}{more}")
                };
                self.problem(WRONG_VALUE.at(node.span, format!("`{}` is not a size", show(text))).with_help(help));
                None
            }
        }
    }

    /// Thousandths of a CPU; `None` without a ceiling.
    pub(super) fn cpus(&mut self, raw: &Cpus, node: &Node) -> Option<u64> {
        let text = match raw {
            Cpus::Text(text) if text == UNLIMITED => return None,
            Cpus::Text(text) => text.clone(),
            Cpus::Number(number) => number.to_string(),
        };
        let milli = milli(&text);
        if milli.is_none() {
            self.problem(
                WRONG_VALUE
                    .at(node.span, format!("`{}` is not a number of CPUs", show(&text)))
                    .with_help("write a number from 0.01 to 8192: `2`, `0.5`, or `unlimited`"),
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
            ("1.0000000000000000009GiB", Some(1 << 30)),
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
    fn cpus_are_rounded_to_a_thousandth() {
        for (text, expected) in [
            ("2", Some(2000)),
            ("0.5", Some(500)),
            ("0.01", Some(10)),
            ("0.30000000000000004", Some(300)),
            ("1.23456", Some(1235)),
            ("0.9999", Some(1000)),
            ("8192", Some(8_192_000)),
            ("0", None),
            ("0.0099999", None),
            ("8192.5", None),
            ("1e3", None),
            (".5", None),
        ] {
            assert_eq!(milli(text), expected, "{text}");
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
