//! The writer of replies.
//!
//! Commands say what they mean (a map, a double, a null) and the buffer writes what the client's
//! protocol version has for it.

/// Version of the protocol a client speaks; `HELLO` changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RespVersion {
    /// RESP2: simple strings, errors, integers, bulk strings and arrays.
    #[default]
    V2,
    /// RESP3: adds nulls, doubles, maps, sets and verbatim strings.
    V3,
}

/// Replies under construction, as the bytes that go to the client.
#[derive(Debug, Default)]
pub struct ReplyBuffer {
    bytes: Vec<u8>,
    version: RespVersion,
}

impl ReplyBuffer {
    /// Returns an empty buffer for clients of this version.
    pub fn new(version: RespVersion) -> Self {
        ReplyBuffer { bytes: Vec::new(), version }
    }

    /// Returns a buffer that appends to `bytes`, to reuse an allocation.
    pub fn reusing(bytes: Vec<u8>, version: RespVersion) -> Self {
        ReplyBuffer { bytes, version }
    }

    /// The protocol version that replies are written in.
    pub fn version(&self) -> RespVersion {
        self.version
    }

    /// Changes the version for the replies that follow.
    pub fn set_version(&mut self, version: RespVersion) {
        self.version = version;
    }

    /// The bytes so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes the buffer can hold before it grows.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets all bytes behind the first `length`: a command that failed half-way takes back
    /// what it wrote.
    pub fn truncate(&mut self, length: usize) {
        self.bytes.truncate(length);
    }

    /// Returns the bytes and ends the buffer.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Makes room for a reply of about this many bytes.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// Appends replies that are encoded already.
    pub fn raw(&mut self, encoded: &[u8]) {
        self.bytes.extend_from_slice(encoded);
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.bytes.extend_from_slice(b"+OK\r\n");
    }

    /// A simple string, which must not hold a line break.
    pub fn simple(&mut self, text: &str) {
        debug_assert!(!text.contains(['\r', '\n']), "a simple string is one line");
        self.line(b'+', text.as_bytes());
    }

    /// An error: its code, a space, its text. Line breaks become spaces, as in Redis, so that
    /// text taken from a request cannot forge a reply.
    pub fn error(&mut self, text: &str) {
        self.bytes.push(b'-');
        self.bytes.extend(text.bytes().map(|b| if b == b'\r' || b == b'\n' { b' ' } else { b }));
        self.end_line();
    }

    /// The same for a text that holds bytes of a request, which need not be UTF-8.
    pub fn error_bytes(&mut self, text: &[u8]) {
        self.bytes.push(b'-');
        self.bytes.extend(text.iter().map(|&b| if b == b'\r' || b == b'\n' { b' ' } else { b }));
        self.end_line();
    }

    /// An integer.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        self.header(b':', value);
    }

    /// A bulk string: any bytes.
    #[inline]
    pub fn bulk(&mut self, value: &[u8]) {
        self.header(b'$', value.len() as i64);
        self.bytes.extend_from_slice(value);
        self.end_line();
    }

    /// The bulk string of a number.
    pub fn bulk_integer(&mut self, value: i64) {
        let mut digits = [0; DECIMAL_LEN_MAX];
        self.bulk(decimal(value, &mut digits));
    }

    /// No value, where a bulk string could stand.
    #[inline]
    pub fn null(&mut self) {
        self.bytes.extend_from_slice(match self.version {
            RespVersion::V2 => b"$-1\r\n",
            RespVersion::V3 => b"_\r\n",
        });
    }

    /// Begins an array: `length` replies must follow.
    #[inline]
    pub fn array(&mut self, length: usize) {
        self.header(b'*', length as i64);
    }

    /// Begins a map: `pairs` times a key and a value must follow (RESP2: a flat array).
    pub fn map(&mut self, pairs: usize) {
        match self.version {
            RespVersion::V2 => self.header(b'*', pairs as i64 * 2),
            RespVersion::V3 => self.header(b'%', pairs as i64),
        }
    }

    /// Begins a set of `length` replies (RESP2: an array).
    pub fn set(&mut self, length: usize) {
        match self.version {
            RespVersion::V2 => self.header(b'*', length as i64),
            RespVersion::V3 => self.header(b'~', length as i64),
        }
    }

    /// A double, in the text form given (RESP2: a bulk string).
    pub fn double(&mut self, text: &str) {
        match self.version {
            RespVersion::V2 => self.bulk(text.as_bytes()),
            RespVersion::V3 => self.line(b',', text.as_bytes()),
        }
    }

    /// Text for people (RESP2: a bulk string).
    pub fn verbatim(&mut self, text: &[u8]) {
        match self.version {
            RespVersion::V2 => self.bulk(text),
            RespVersion::V3 => {
                self.header(b'=', text.len() as i64 + 4);
                self.bytes.extend_from_slice(b"txt:");
                self.bytes.extend_from_slice(text);
                self.end_line();
            }
        }
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(text);
        self.end_line();
    }

    #[inline]
    fn header(&mut self, kind: u8, value: i64) {
        // Lengths and small counters are nearly all there is: one digit needs no division.
        if (0..10).contains(&value) {
            self.bytes.extend_from_slice(&[kind, b'0' + value as u8, b'\r', b'\n']);
            return;
        }
        let mut digits = [0; DECIMAL_LEN_MAX];
        let text = decimal(value, &mut digits);
        self.bytes.push(kind);
        self.bytes.extend_from_slice(text);
        self.end_line();
    }

    #[inline]
    fn end_line(&mut self) {
        self.bytes.extend_from_slice(b"\r\n");
    }
}

/// Longest decimal form of an `i64`, its sign included.
pub const DECIMAL_LEN_MAX: usize = 20;

/// Writes `value` in decimal at the end of `digits` and returns the text.
#[inline]
pub fn decimal(value: i64, digits: &mut [u8; DECIMAL_LEN_MAX]) -> &[u8] {
    let mut rest = value.unsigned_abs();
    let mut start = DECIMAL_LEN_MAX;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        start -= 1;
        digits[start] = b'-';
    }
    &digits[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(version: RespVersion, write: impl FnOnce(&mut ReplyBuffer)) -> String {
        let mut reply = ReplyBuffer::new(version);
        write(&mut reply);
        String::from_utf8(reply.into_bytes()).unwrap()
    }

    #[test]
    fn every_type_has_a_form_in_both_versions() {
        type Case = (fn(&mut ReplyBuffer), &'static str, &'static str);
        let cases: [Case; 10] = [
            (|r| r.ok(), "+OK\r\n", "+OK\r\n"),
            (|r| r.error("ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n"),
            (|r| r.integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
            (|r| r.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (|r| r.bulk(b"0123456789"), "$10\r\n0123456789\r\n", "$10\r\n0123456789\r\n"),
            (|r| r.null(), "$-1\r\n", "_\r\n"),
            (|r| r.map(2), "*4\r\n", "%2\r\n"),
            (|r| r.set(3), "*3\r\n", "~3\r\n"),
            (|r| r.double("1.5"), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (|r| r.verbatim(b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
        ];
        for (write, v2, v3) in cases {
            assert_eq!(written(RespVersion::V2, write), v2);
            assert_eq!(written(RespVersion::V3, write), v3);
        }
    }

    #[test]
    fn decimals_equal_those_of_the_standard_library() {
        for value in [0, 1, 9, 10, 99, 100, -1, -10, i64::MAX, i64::MIN, 1_234_567_890] {
            let mut digits = [0; DECIMAL_LEN_MAX];
            assert_eq!(decimal(value, &mut digits), value.to_string().as_bytes());
        }
    }
}
