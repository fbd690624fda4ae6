//! What a plain scalar means: the YAML 1.2 core schema.

use super::NodeKind;

/// A whole number outside of 64 bits, or a decimal one that is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutOfRange;

/// Types an unquoted scalar; `None` for text, so that the caller can move the text it has.
pub(super) fn resolve(text: &str) -> Result<Option<NodeKind>, OutOfRange> {
    // Nearly all scalars are text, and their first byte says so.
    match text.as_bytes().first() {
        None => Ok(Some(NodeKind::Null)),
        Some(b'~' | b'n' | b'N' | b't' | b'T' | b'f' | b'F') => Ok(match text {
            "~" | "null" | "Null" | "NULL" => Some(NodeKind::Null),
            "true" | "True" | "TRUE" => Some(NodeKind::Bool(true)),
            "false" | "False" | "FALSE" => Some(NodeKind::Bool(false)),
            _ => None,
        }),
        Some(b'0'..=b'9' | b'+' | b'-' | b'.') => number(text).transpose(),
        Some(_) => Ok(None),
    }
}

/// `None` when it is not a number at all.
fn number(text: &str) -> Option<Result<NodeKind, OutOfRange>> {
    let integer =
        |digits: &str, radix| i64::from_str_radix(digits, radix).map(NodeKind::Integer).map_err(|_| OutOfRange);
    if let Some(digits) = text.strip_prefix("0o") {
        return all(digits, |b| matches!(b, b'0'..=b'7')).then(|| integer(digits, 8));
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return all(digits, |b| b.is_ascii_hexdigit()).then(|| integer(digits, 16));
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if all(unsigned, |b| b.is_ascii_digit()) {
        return Some(integer(text, 10));
    }
    match unsigned {
        ".inf" | ".Inf" | ".INF" => {
            let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
            return Some(Ok(NodeKind::Float(sign * f64::INFINITY)));
        }
        _ if matches!(text, ".nan" | ".NaN" | ".NAN") => return Some(Ok(NodeKind::Float(f64::NAN))),
        _ => {}
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let decimal = digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| all(exponent, |b| b.is_ascii_digit()));
    if !decimal {
        return None;
    }
    let value = text.parse::<f64>().ok()?;
    Some(if value.is_finite() { Ok(NodeKind::Float(value)) } else { Err(OutOfRange) })
}

fn all(text: &str, is: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_plain_scalars_by_the_core_schema() {
        use NodeKind::{Bool, Float, Integer, Null};
        let cases = [
            (vec!["", "~", "null", "Null", "NULL"], Null),
            (vec!["true", "True", "TRUE"], Bool(true)),
            (vec!["false", "False", "FALSE"], Bool(false)),
            (vec!["12", "+12", "012", "0o14", "0xc", "0xC"], Integer(12)),
            (vec!["-9223372036854775808"], Integer(i64::MIN)),
            (vec!["1.5", "+1.5", "15e-1", "1.5e0", "0.15E+1"], Float(1.5)),
            (vec!["1.", "1.0", "1e0"], Float(1.0)),
            (vec![".5", "0.5"], Float(0.5)),
            (vec![".inf", "+.inf", ".Inf", ".INF"], Float(f64::INFINITY)),
            (vec!["-.inf"], Float(f64::NEG_INFINITY)),
        ];
        for (scalars, kind) in cases {
            for scalar in scalars {
                assert_eq!(resolve(scalar), Ok(Some(kind.clone())), "{scalar}");
            }
        }
        assert!(matches!(resolve(".nan"), Ok(Some(Float(value))) if value.is_nan()));
        let texts = "no yes on off No YES y n nULL tRUE 1_000 1,000 0b11 0o8 0xg -0x1 0o 0x + - . .. -. 1.2.3 1e e1 .e1 \
                     1e+ 12:30:45 2027-06-30 inf nan .Nan +.nan --1 1- ٣ Infinity 4GiB 80/20";
        for scalar in texts.split_whitespace() {
            assert_eq!(resolve(scalar), Ok(None), "{scalar}");
        }
        for scalar in ["9223372036854775808", "-9223372036854775809", "0xffffffffffffffff", "1e999"] {
            assert_eq!(resolve(scalar), Err(OutOfRange), "{scalar}");
        }
    }
}
