//! Requests and replies as text that a person can read and write.

use super::wire::{Request, Tree};

/// Splits a line into arguments: words, or `"…"` with the escapes of `redis-cli` and `\xHH`.
///
/// # Panics
/// When a quote is not closed or an escape is unknown: a mistake in a test's own text.
pub(crate) fn parse_request(line: &str) -> Request {
    let bytes = line.as_bytes();
    let mut request = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b' ' => at += 1,
            b'"' => {
                let (argument, end) = parse_quoted(bytes, at + 1);
                request.push(argument);
                at = end;
            }
            _ => {
                let end = bytes[at..].iter().position(|&b| b == b' ');
                let end = end.map_or(bytes.len(), |length| at + length);
                request.push(bytes[at..end].to_vec());
                at = end;
            }
        }
    }
    request
}

fn parse_quoted(bytes: &[u8], mut at: usize) -> (Vec<u8>, usize) {
    let mut out = Vec::new();
    loop {
        match bytes.get(at).expect("an unclosed quote") {
            b'"' => return (out, at + 1),
            b'\\' => {
                let (byte, length) = match bytes[at + 1] {
                    b'n' => (b'\n', 2),
                    b'r' => (b'\r', 2),
                    b't' => (b'\t', 2),
                    b'0' => (0, 2),
                    b'x' => {
                        let digits = std::str::from_utf8(&bytes[at + 2..at + 4]).unwrap();
                        (u8::from_str_radix(digits, 16).unwrap(), 4)
                    }
                    other @ (b'"' | b'\\' | b'\'') => (other, 2),
                    other => panic!("unknown escape \\{}", other as char),
                };
                out.push(byte);
                at += length;
            }
            &byte => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

/// Writes bytes in quotes.
pub(crate) fn quote(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii().to_string().replace("\\'", "'"))
}

/// Writes a request as `redis-cli` would take it; long arguments are cut in the middle.
pub(crate) fn show_request(request: &[Vec<u8>]) -> String {
    let words = request.iter().map(|argument| {
        let plain = !argument.is_empty()
            && argument.iter().all(|b| b.is_ascii_graphic() && !b"\"'\\".contains(b));
        match (plain, argument.len()) {
            (_, 200..) => format!("<{} bytes {}…>", argument.len(), quote(&argument[..40])),
            (true, _) => String::from_utf8_lossy(argument).into_owned(),
            (false, _) => quote(argument),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Writes a reply on one line, as the conformance cases do.
pub(crate) fn show_tree(tree: &Tree) -> String {
    match tree {
        Tree::Simple(text) => format!("+{}", text.escape_ascii()),
        Tree::Error(text) => format!("-{}", String::from_utf8_lossy(text)),
        Tree::Integer(number) => format!(":{number}"),
        Tree::Bulk(bytes) => quote(bytes),
        Tree::Null => "nil".to_owned(),
        Tree::Other(text) => String::from_utf8_lossy(text).into_owned(),
        Tree::Array(items) => {
            format!("[{}]", items.iter().map(show_tree).collect::<Vec<_>>().join(", "))
        }
        Tree::Map(pairs) => {
            let pairs = pairs.iter().map(|(k, v)| format!("{}: {}", show_tree(k), show_tree(v)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}
