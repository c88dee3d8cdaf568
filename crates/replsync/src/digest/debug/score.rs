//! A score as text, to the byte as a server prints it: what is hashed of it is the text.

use std::io::Write as _;

use super::grisu::grisu2;

/// How a server turns a score into the text that it hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScoreText {
    /// As C's `%.17g`: up to Redis 7.0.
    Printf,
    /// As `fpconv_dtoa` of `deps/fpconv`: from Redis 7.2 on, and every Valkey.
    Fpconv,
}

impl ScoreText {
    /// Puts the text of `score` into `text`, instead of what is there.
    pub(super) fn write(self, score: f64, text: &mut Vec<u8>) {
        text.clear();
        if score.is_sign_negative() {
            text.push(b'-');
        }
        let score = score.abs();
        if !score.is_finite() {
            text.extend_from_slice(if score.is_nan() { b"nan" } else { b"inf" });
        } else if score == 0.0 {
            text.push(b'0');
        } else {
            match self {
                Self::Printf => printf(score, text),
                Self::Fpconv => fpconv(score, text),
            }
        }
    }
}

/// `%.17g` of a positive number: 17 significant digits, without the zeros at their end.
fn printf(score: f64, text: &mut Vec<u8>) {
    // "d.dddddddddddddddde-5": one digit, a point, 16 digits, the exponent
    let mut long = [0; 32];
    let mut rest = &mut long[..];
    let written = write!(rest, "{score:.16e}").map_or(0, |()| 32 - rest.len());
    let (digits, exponent) = match long[..written].iter().position(|&byte| byte == b'e') {
        Some(at) => (&long[..at], std::str::from_utf8(&long[at + 1..written]).unwrap_or("0")),
        None => (&long[..written], "0"),
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mut kept: [u8; 17] = [b'0'; 17];
    for (kept, digit) in kept.iter_mut().zip(digits.iter().filter(|byte| byte.is_ascii_digit())) {
        *kept = *digit;
    }
    let len = kept.iter().rposition(|&digit| digit != b'0').map_or(1, |last| last + 1);
    let digits = &kept[..len];
    match exponent {
        -4..17 => plain(digits, exponent, text),
        _ => scientific(digits, exponent, 2, text),
    }
}

/// `fpconv_dtoa` of a positive number: the digits of Grisu2, by an exponent in fewer cases.
///
/// Source: `emit_digits` in `deps/fpconv/fpconv_dtoa.c` of Redis 7.2.
fn fpconv(score: f64, text: &mut Vec<u8>) {
    let (digits, len, power) = grisu2(score);
    let digits = &digits[..len];
    let exponent = power + len as i32 - 1; // at most 18 digits
    let whole = power >= 0 && exponent < len as i32 + 7;
    let fraction = power < 0 && (power > -7 || exponent.abs() < 4);
    if whole || fraction { plain(digits, exponent, text) } else { scientific(digits, exponent, 1, text) }
}

/// `digits`, the first of which stands for 10^`exponent`, with a point where there is one and no exponent.
fn plain(digits: &[u8], exponent: i32, text: &mut Vec<u8>) {
    let Ok(exponent) = usize::try_from(exponent) else {
        text.extend_from_slice(b"0.");
        text.resize(text.len() + exponent.unsigned_abs() as usize - 1, b'0');
        return text.extend_from_slice(digits);
    };
    let before = exponent + 1;
    if digits.len() <= before {
        text.extend_from_slice(digits);
        text.resize(text.len() + before - digits.len(), b'0');
    } else {
        text.extend_from_slice(&digits[..before]);
        text.push(b'.');
        text.extend_from_slice(&digits[before..]);
    }
}

/// `digits` as `d.ddde+x`, where the exponent has at least `width` digits.
fn scientific(digits: &[u8], exponent: i32, width: usize, text: &mut Vec<u8>) {
    text.push(digits[0]);
    if digits.len() > 1 {
        text.push(b'.');
        text.extend_from_slice(&digits[1..]);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    // writing into memory does not fail
    let _ = write!(text, "e{sign}{:0width$}", exponent.unsigned_abs());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(how: ScoreText, score: f64) -> String {
        let mut text = b"what was there".to_vec();
        how.write(score, &mut text);
        String::from_utf8(text).expect("scores are ASCII")
    }

    /// Each as ZSCORE answered, which prints scores in the same way: Redis 6.2, and Redis 7.4. It keeps the sign of a zero
    /// in large sorted sets.
    #[test]
    fn scores_are_printed_as_servers_print_them() {
        let answers = [
            (0.0, "0", "0"),
            (-0.0, "-0", "-0"),
            (f64::INFINITY, "inf", "inf"),
            (f64::NEG_INFINITY, "-inf", "-inf"),
            (1.0, "1", "1"),
            (0.1, "0.10000000000000001", "0.1"),
            (-1.5, "-1.5", "-1.5"),
            (1e300, "1.0000000000000001e+300", "1e+300"),
            (1e-10, "1e-10", "1e-10"),
            (1.5e-5, "1.5e-05", "0.000015"),
            (1.234_567_89e-5, "1.23456789e-05", "1.23456789e-5"),
            (0.000_123_456_789, "0.000123456789", "1.23456789e-4"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17", "123456789012345680"),
            (1e21, "1e+21", "1e+21"),
            (1e7, "10000000", "10000000"),
            (1e8, "100000000", "1e+8"),
            (5e-324, "4.9406564584124654e-324", "5e-324"),
            (f64::MAX, "1.7976931348623157e+308", "1.7976931348623157e+308"),
            (std::f64::consts::PI, "3.1415926535897931", "3.141592653589793"),
        ];
        for (score, printf, fpconv) in answers {
            assert_eq!(text(ScoreText::Printf, score), printf);
            assert_eq!(text(ScoreText::Fpconv, score), fpconv);
        }
    }

    proptest! {
        #[test]
        fn every_text_is_read_as_the_score_again(score in any::<f64>().prop_filter("", |score| !score.is_nan())) {
            for how in [ScoreText::Printf, ScoreText::Fpconv] {
                let text = text(how, score);
                prop_assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(score.to_bits()), "{}", text);
            }
        }
    }
}
