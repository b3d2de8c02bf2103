//! Keys and values as text for people and as JSON for programs.
//!
//! Text: quoted and escaped as `redis-cli` does, so that it can be pasted there; valid UTF-8
//! stands as it is, control and other invisible characters aside.
//!
//! JSON: bytes that are UTF-8 are a string, all others `{"base64": …}`; a value stored as an
//! integer is a number; a typed value is `{"typed": …}` (see [`typed`]). So every
//! value can be told from every other.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use distcache_recovery::StoredValue;
use distcache_recovery::state;
use serde_json::{Value as Json, json};

use super::typed;

/// Bytes of a value that text shows unless all are wanted.
const TEXT_BYTES: usize = 120;

/// How values are shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    /// Whether text shows the whole of long values.
    pub(super) is_full: bool,
    /// Whether typed values are shown as the bytes they are.
    pub(super) is_raw: bool,
}

impl Style {
    /// Returns a value as text.
    pub(super) fn value_text(self, value: StoredValue<'_>) -> String {
        match value {
            StoredValue::Integer(number) => number.to_string(),
            StoredValue::String(bytes) => match self.typed(bytes) {
                Some(value) => self.shortened(typed::text(&value), bytes.len()),
                None => self.bytes_text(bytes),
            },
        }
    }

    /// Returns bytes as quoted text, shortened unless all is wanted.
    pub(super) fn bytes_text(self, bytes: &[u8]) -> String {
        if self.is_full || bytes.len() <= TEXT_BYTES {
            return quoted(bytes);
        }
        let mut end = TEXT_BYTES;
        // Not inside a character, if these are characters: they have up to four bytes.
        while end > TEXT_BYTES - 4 && bytes[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        format!("{}… ({} bytes)", quoted(&bytes[..end]), bytes.len())
    }

    /// Returns a value as JSON.
    pub(super) fn value_json(self, value: StoredValue<'_>) -> Json {
        match value {
            StoredValue::Integer(number) => json!(number),
            StoredValue::String(bytes) => match self.typed(bytes) {
                Some(value) => json!({ "typed": typed::json(&value) }),
                None => bytes_json(bytes),
            },
        }
    }

    fn typed(self, bytes: &[u8]) -> Option<distcache_protocol::value::Value> {
        if self.is_raw { None } else { typed::read(bytes) }
    }

    fn shortened(self, mut text: String, stored_bytes: usize) -> String {
        if !self.is_full && text.len() > TEXT_BYTES {
            text.truncate(text.floor_char_boundary(TEXT_BYTES));
            let _ = write!(text, "… ({stored_bytes} bytes)");
        }
        text
    }
}

/// Returns a folded value in the form in which records have it.
pub(super) fn stored(value: &state::Value) -> StoredValue<'_> {
    match value {
        state::Value::String(bytes) => StoredValue::String(bytes),
        state::Value::Integer(number) => StoredValue::Integer(*number),
    }
}

/// Returns bytes in double quotes, escaped.
pub(super) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    match std::str::from_utf8(bytes) {
        Ok(valid) => valid.chars().for_each(|char| push_char(&mut text, char)),
        Err(_) => bytes.iter().for_each(|byte| {
            if byte.is_ascii() {
                push_char(&mut text, *byte as char)
            } else {
                push_hex(&mut text, *byte)
            }
        }),
    }
    text.push('"');
    text
}

fn push_char(text: &mut String, char: char) {
    match char {
        '"' | '\\' => text.extend(['\\', char]),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        '\x07' => text.push_str("\\a"),
        '\x08' => text.push_str("\\b"),
        char if char.is_control() || is_invisible(char) => {
            let mut buffer = [0; 4];
            char.encode_utf8(&mut buffer).bytes().for_each(|byte| push_hex(text, byte));
        }
        char => text.push(char),
    }
}

/// Whether a character changes how its neighbours are shown, or looks like none.
fn is_invisible(char: char) -> bool {
    let ranges = [0x200b..=0x200f, 0x2028..=0x202e, 0x2060..=0x2069, 0xfeff..=0xfeff];
    ranges.iter().any(|range: &RangeInclusive<u32>| range.contains(&char.into()))
}

fn push_hex(text: &mut String, byte: u8) {
    let _ = write!(text, "\\x{byte:02x}");
}

/// Returns the bytes that text with the escapes of [`quoted`] stands for; none if one is unknown.
pub(super) fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next()? {
            byte @ (b'\\' | b'"') => byte,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'a' => 0x07,
            b'b' => 0x08,
            b'x' => {
                let mut digit = || (rest.next()? as char).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            _ => return None,
        });
    }
    Some(bytes)
}

/// Returns bytes as a JSON string, or as an object if they are not UTF-8.
pub(super) fn bytes_json(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "base64": base64(bytes) }),
    }
}

/// Returns bytes in base64 with padding (RFC 4648, section 4).
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= group.len() { DIGITS[index as usize] as char } else { '=' });
        }
    }
    text
}

/// Returns a number of bytes for people, as `12.3 MB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut amount, mut unit) = (bytes as f64, 0);
    while amount >= 999.95 && unit + 1 < UNITS.len() {
        amount /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{amount:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_quoted_as_redis_cli_does() {
        for (bytes, expected) in [
            (b"plain".as_slice(), r#""plain""#),
            (b"", r#""""#),
            (b"a\"b\\c", r#""a\"b\\c""#),
            (b"\n\r\t\x07\x08\x00\x7f", r#""\n\r\t\a\b\x00\x7f""#),
            (b"\xff\xfeA", r#""\xff\xfeA""#),
            ("São".as_bytes(), r#""São""#),
            ("a\u{202e}b".as_bytes(), r#""a\xe2\x80\xaeb""#),
        ] {
            assert_eq!(quoted(bytes), expected);
            let inside = &expected.as_bytes()[1..expected.len() - 1];
            assert_eq!(unescaped(inside).as_deref(), Some(bytes));
        }
    }

    #[test]
    fn unknown_and_cut_escapes_are_refused() {
        for text in [r"\q", r"\", r"\x", r"\x1", r"\xgg"] {
            assert_eq!(unescaped(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn long_values_are_cut_between_characters_with_their_length() {
        let text = "é".repeat(100);
        let shown = Style::default().bytes_text(text.as_bytes());
        assert_eq!(shown, format!("\"{}\"… (200 bytes)", "é".repeat(60)));
        let shown = Style::default().bytes_text(format!("x{text}").as_bytes());
        assert_eq!(shown, format!("\"x{}\"… (201 bytes)", "é".repeat(59)));
        let full = Style { is_full: true, is_raw: false };
        assert_eq!(full.bytes_text(text.as_bytes()), format!("\"{text}\""));
    }

    #[test]
    fn base64_has_the_digits_and_padding_of_the_standard() {
        for (bytes, expected) in [
            (b"".as_slice(), ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foobar", "Zm9vYmFy"),
            (b"\xff\xfb\xbf", "//u/"),
        ] {
            assert_eq!(base64(bytes), expected);
        }
    }

    #[test]
    fn json_keeps_numbers_text_and_bytes_apart_and_exact() {
        let style = Style::default();
        let json = |value| style.value_json(value).to_string();
        assert_eq!(json(StoredValue::Integer(i64::MIN)), "-9223372036854775808");
        assert_eq!(json(StoredValue::String(b"5")), "\"5\"");
        assert_eq!(json(StoredValue::String(b"\xff")), r#"{"base64":"/w=="}"#);
    }

    #[test]
    fn sizes_have_one_digit_after_the_point() {
        assert_eq!(
            [size(999), size(1000), size(999_960), size(12_345_678)].join(" "),
            "999 B 1.0 kB 1.0 MB 12.3 MB"
        );
    }
}
