//! The arithmetic and the digits of `INCRBYFLOAT`.
//!
//! Redis computes with the C type `long double`, which on x86 has a significand of 64 bits, reads
//! numbers as `strtold` does and prints 17 decimals without their trailing zeros. So do we, on
//! every machine. All roundings are to the nearest, ties to even.

use rustc_apfloat::Float;
use rustc_apfloat::ieee::X87DoubleExtended;

/// Texts this long are no numbers (Redis: `MAX_LONG_DOUBLE_CHARS`).
const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;

const DECIMALS: usize = 17;
const DECIMALS_POWER: u64 = 10_u64.pow(DECIMALS as u32);

/// What to subtract from the stored exponent, so that the significand is an integer.
const EXPONENT_BIAS: i32 = 16_383 + 63;

/// An 80-bit float.
#[derive(Clone, Copy)]
pub(super) struct LongDouble(X87DoubleExtended);

impl LongDouble {
    /// Returns the float that equals an integer.
    pub(super) fn from_integer(integer: i64) -> Self {
        LongDouble(X87DoubleExtended::from_i128(integer.into()).value)
    }

    /// Returns the float nearest to what a text says: decimal or hexadecimal, with an exponent or
    /// not, or an infinity. `None` where the text is anything else, a number too large, or one so
    /// small that zero is nearest.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let magnitude =
            if ["inf", "infinity"].iter().any(|word| unsigned.eq_ignore_ascii_case(word)) {
                X87DoubleExtended::INFINITY
            } else {
                parse_magnitude(unsigned)?
            };
        Some(LongDouble(if negative { -magnitude } else { magnitude }))
    }

    /// The sum.
    pub(super) fn plus(self, other: Self) -> Self {
        LongDouble((self.0 + other.0).value)
    }

    /// Returns the number with up to 17 decimals; `None` of an infinity or no number. At most
    /// 4,952 bytes.
    pub(super) fn to_fixed(self) -> Option<String> {
        if !self.0.is_finite() {
            return None;
        }
        let bits = self.0.to_bits();
        let significand = bits as u64;
        let exponent = (bits >> 64) as i32 & 0x7fff;
        // Numbers below the normal ones have the exponent of the least normal one.
        let exponent = exponent.max(1) - EXPONENT_BIAS;
        let digits = match u32::try_from(exponent) {
            Ok(shift) => whole_digits(significand, shift),
            Err(_) => fraction_digits(significand, exponent.unsigned_abs()),
        };
        // There is no negative zero for Redis's users.
        let sign = if self.0.is_negative() && digits != "0" { "-" } else { "" };
        Some(format!("{sign}{digits}"))
    }
}

/// Parses a number without a sign, as `strtold` would if it had to take all of the text.
fn parse_magnitude(text: &str) -> Option<X87DoubleExtended> {
    let hexadecimal = text.strip_prefix("0x").or(text.strip_prefix("0X"));
    let (digits, marker) = match hexadecimal {
        Some(digits) => (digits, ['p', 'P']),
        None => (text, ['e', 'E']),
    };
    let (digits, exponent) = match digits.split_once(marker) {
        Some((digits, exponent)) => (digits, exponent),
        None => (digits, "0"),
    };
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let is_digit = |c: char| c.is_digit(if hexadecimal.is_some() { 16 } else { 10 });
    let power = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    if whole.len() + decimals.len() == 0
        || !(whole.chars().all(is_digit) && decimals.chars().all(is_digit))
        || power.is_empty()
        || !power.chars().all(|c| c.is_ascii_digit())
    {
        return None;
    }
    let number = match hexadecimal {
        // The library wants an exponent here.
        Some(_) => format!("0x{digits}p{exponent}").parse::<X87DoubleExtended>(),
        None => text.parse(),
    };
    let number = number.ok()?;
    let is_zero = digits.chars().all(|c| c == '0' || c == '.');
    (number.is_finite() && number.is_zero() == is_zero).then_some(number)
}

/// The digits of `significand * 2^shift`.
fn whole_digits(significand: u64, shift: u32) -> String {
    /// Decimal digits of a limb.
    const LIMB_DIGITS: usize = 18;
    const LIMB: u128 = 10_u128.pow(LIMB_DIGITS as u32);
    /// Bits to shift by at once: a limb times 2^60 and a carry fit 128 bits.
    const STEP: u32 = 60;

    // The least significant limb comes first.
    let mut limbs = vec![(u128::from(significand) % LIMB) as u64];
    let mut carry = u128::from(significand) / LIMB;
    let mut left = shift;
    loop {
        while carry > 0 {
            limbs.push((carry % LIMB) as u64);
            carry /= LIMB;
        }
        if left == 0 {
            break;
        }
        let bits = left.min(STEP);
        left -= bits;
        for limb in &mut limbs {
            let product = (u128::from(*limb) << bits) + carry;
            *limb = (product % LIMB) as u64;
            carry = product / LIMB;
        }
    }
    let mut text = limbs.last().map_or_else(String::new, u64::to_string);
    for limb in limbs.iter().rev().skip(1) {
        text.push_str(&format!("{limb:0LIMB_DIGITS$}"));
    }
    text
}

/// The digits of `significand / 2^shift`, rounded to 17 decimals.
fn fraction_digits(significand: u64, shift: u32) -> String {
    // Below 2^121, so with a shift of 122 or more what is left is less than a half.
    let scaled = u128::from(significand) * u128::from(DECIMALS_POWER);
    let shift = shift.min(126);
    let (quotient, rest) = (scaled >> shift, scaled & ((1 << shift) - 1));
    let half = 1_u128 << (shift - 1);
    let rounds_up = rest > half || (rest == half && quotient % 2 == 1);
    let rounded = quotient + u128::from(rounds_up);
    let power = u128::from(DECIMALS_POWER);
    let text = format!("{}.{:0DECIMALS$}", rounded / power, rounded % power);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        LongDouble::parse(a.as_bytes())?.plus(LongDouble::parse(b.as_bytes())?).to_fixed()
    }

    #[test]
    fn sums_have_the_digits_of_redis() {
        let cases = [
            ("10.5", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("1", "1e-17", "1.00000000000000001"),
            ("0.1", "0.2", "0.3"),
            ("3", "1.000000000000000005", "4.00000000000000001"),
            ("0", "-1e-30", "0"),
            ("-0", "-0", "0"),
            ("1e19", "1", "10000000000000000001"),
            ("0x10", "0x1.8p1", "19"),
            ("0", "18446744073709551617", "18446744073709551616"),
            ("0", "4.5e-18", "0"),
            ("-1e22", "0", "-10000000000000000000000"),
        ];
        for (a, b, expected) in cases {
            assert_eq!(sum(a, b).as_deref(), Some(expected), "{a} + {b}");
        }
    }

    #[test]
    fn the_largest_number_keeps_all_its_digits() {
        let largest = sum("1.18973149535723176502e4932", "0").unwrap();
        assert_eq!(largest.len(), 4933);
        assert!(largest.starts_with("118973149535723176502"));
        // A power of two: its last digits are those of 2^16383 modulo ten.
        assert!(sum("0x1p16383", "0").unwrap().ends_with('8'));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let texts = [
            "",
            " 1",
            "1 ",
            "abc",
            "nan",
            "-nan",
            "1e",
            "1e+",
            ".",
            "-",
            "+-1",
            "0x",
            "0x.",
            "0xp1",
            "1.2.3",
            "1e5.0",
            "1_0",
            "1e-5000",
            "infx",
            "1\0",
            "1e5000",
            "1e99999999999999999999",
            "٣",
            "0x1p",
        ];
        for text in texts {
            assert!(LongDouble::parse(text.as_bytes()).is_none(), "{text}");
        }
        assert!(LongDouble::parse(&[b'0'; TEXT_BYTES_MAX + 1]).is_none());
        assert!(LongDouble::parse(&[b'0'; TEXT_BYTES_MAX]).is_some());
    }

    #[test]
    fn what_strtold_takes_is_taken() {
        for text in ["+1", ".5", "5.", "0e-9999", "1E5", "0X1P-3", "0x.8", "007", "INFINITY", "inf"]
        {
            assert!(LongDouble::parse(text.as_bytes()).is_some(), "{text}");
        }
        assert_eq!(sum("inf", "1"), None);
        assert_eq!(sum("1e4932", "1e4932"), None);
    }
}
