//! Resumable decoding of requests, with no copy of the arguments.
//!
//! The decoder reads a buffer that its owner fills, and answers with ranges into that buffer.
//! A request that is not complete yet is remembered up to its last complete argument, so no byte
//! is looked at twice however the input is cut. Errors and their limits are those of Redis
//! (`networking.c`: `processInlineBuffer`, `processMultibulkBuffer`).

use crate::error::ProtocolError;
use crate::limits;

/// One argument: bytes `start..end` of the buffer it was decoded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArgRange {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl ArgRange {
    /// Returns the bytes of this argument.
    #[inline]
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.start as usize..self.end as usize]
    }
}

/// What the configuration and the state of the connection allow.
#[derive(Debug, Clone, Copy)]
pub struct DecodeLimits {
    /// Longest argument, in bytes.
    pub bulk_bytes_max: u64,
    /// Whether the client may send requests at all before it authenticates (small ones only).
    pub authenticated: bool,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        DecodeLimits { bulk_bytes_max: limits::BULK_BYTES_MAX, authenticated: true }
    }
}

/// What one call of [`RequestDecoder::decode`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// A request, which took this many bytes. It may have no argument at all (an empty line, an
    /// empty array): then there is nothing to execute or to answer.
    Request {
        /// Bytes from the start of the input to the end of the request.
        consumed: usize,
    },
    /// The request is not complete. At least this many bytes are missing.
    Incomplete {
        /// Lower bound of the bytes to come, at least 1.
        missing: usize,
    },
}

/// Decodes one request after the other from a buffer that grows at its end.
#[derive(Debug, Default)]
pub struct RequestDecoder {
    /// Arguments of the unfinished request so far, relative to its start.
    partial: Vec<ArgRange>,
    /// Arguments still missing of the unfinished request; 0 = its first line is not read yet.
    remaining: usize,
    /// Offset behind what is decoded of the unfinished request.
    position: usize,
    /// Offset up to which the current line was searched for its end.
    searched: usize,
    /// Length of the argument whose header line has been read.
    bulk: Option<usize>,
}

impl RequestDecoder {
    /// Decodes the request at the start of `input[base..]` and appends its arguments to `args`.
    ///
    /// The ranges are offsets into `input`. After [`Decoded::Incomplete`] the next call must be
    /// given the same bytes with more behind them; `base` may change. Inline requests are
    /// unquoted in place, which is why the input is mutable.
    ///
    /// # Errors
    /// [`ProtocolError`]: the stream is not to be read further.
    #[inline]
    pub fn decode(
        &mut self,
        input: &mut [u8],
        base: usize,
        args: &mut Vec<ArgRange>,
        limits: &DecodeLimits,
    ) -> Result<Decoded, ProtocolError> {
        let request = &mut input[base..];
        match request.first() {
            None => Ok(Decoded::Incomplete { missing: 1 }),
            Some(b'*') => match self.decode_whole(request, base, args, limits) {
                Some(consumed) => Ok(Decoded::Request { consumed }),
                None => self.decode_multibulk(request, base, args, limits),
            },
            Some(_) => self.decode_inline(request, base, args),
        }
    }

    /// Decodes a request that is there as a whole and has short arguments only, as nearly all
    /// have: returns the bytes it took. `None`: it is to be looked at with more care.
    #[inline]
    fn decode_whole(
        &self,
        request: &[u8],
        base: usize,
        args: &mut Vec<ArgRange>,
        limits: &DecodeLimits,
    ) -> Option<usize> {
        if self.remaining > 0 || self.searched > 0 || !limits.authenticated {
            return None;
        }
        let (count, end) = short_line(request, 0).filter(|&(count, _)| count > 0)?;
        let first = args.len();
        let mut at = end + 2;
        for _ in 0..count {
            let Some(arg) = short_bulk(request, at, limits) else {
                args.truncate(first);
                return None;
            };
            args.push(shift(arg, base));
            at = arg.end as usize + 2;
        }
        Some(at)
    }

    fn decode_multibulk(
        &mut self,
        request: &[u8],
        base: usize,
        args: &mut Vec<ArgRange>,
        limits: &DecodeLimits,
    ) -> Result<Decoded, ProtocolError> {
        if self.remaining == 0 {
            let Some(end) = self.find_line_end(request, 0) else {
                return self.no_line(request.len(), ProtocolError::MultibulkLineTooLong);
            };
            let count = parse_integer(&request[1..end])
                .filter(|&count| count <= limits::ARGUMENTS_MAX as i64)
                .ok_or(ProtocolError::InvalidMultibulkLength)?;
            if count <= 0 {
                self.reset();
                return Ok(Decoded::Request { consumed: end + 2 });
            }
            if !limits.authenticated && count > limits::ARGUMENTS_UNAUTHENTICATED_MAX as i64 {
                return Err(ProtocolError::UnauthenticatedMultibulkLength);
            }
            self.remaining = count as usize;
            self.position = end + 2;
            self.searched = self.position;
        }
        while self.remaining > 0 {
            let Some(arg) = self.decode_bulk(request, limits)? else {
                return Ok(Decoded::Incomplete { missing: self.missing(request.len()) });
            };
            self.partial.push(arg);
            self.remaining -= 1;
        }
        // Only now, so that the arguments of a request that comes in many pieces move once.
        args.extend(self.partial.drain(..).map(|arg| shift(arg, base)));
        let consumed = self.position;
        self.reset();
        Ok(Decoded::Request { consumed })
    }

    /// Decodes one `$<length>\r\n<bytes>\r\n`, or returns `None` where it is not complete.
    #[inline]
    fn decode_bulk(
        &mut self,
        request: &[u8],
        limits: &DecodeLimits,
    ) -> Result<Option<ArgRange>, ProtocolError> {
        let length = match self.bulk {
            Some(length) => length,
            None => {
                let Some(end) = self.find_line_end(request, self.position) else {
                    if request.len() - self.position > limits::INLINE_BYTES_MAX {
                        return Err(ProtocolError::BulkLineTooLong);
                    }
                    return Ok(None);
                };
                let length = bulk_length(&request[self.position..end], limits)?;
                self.position = end + 2;
                self.searched = self.position;
                self.bulk = Some(length);
                length
            }
        };
        let end = self.position + length;
        if request.len() < end + 2 {
            return Ok(None);
        }
        let arg = ArgRange { start: self.position as u32, end: end as u32 };
        self.bulk = None;
        self.position = end + 2;
        self.searched = self.position;
        Ok(Some(arg))
    }

    /// Finds the `\r` of the line that begins at `from`, if the byte behind it is there too.
    #[inline]
    fn find_line_end(&mut self, request: &[u8], from: usize) -> Option<usize> {
        let start = self.searched.max(from);
        match request.get(start..)?.iter().position(|&b| b == b'\r') {
            Some(offset) if start + offset + 1 < request.len() => Some(start + offset),
            Some(offset) => {
                self.searched = start + offset;
                None
            }
            None => {
                self.searched = request.len();
                None
            }
        }
    }

    fn missing(&self, available: usize) -> usize {
        let needed = self.position + self.bulk.map_or(1, |length| length + 2);
        needed.saturating_sub(available).max(1)
    }

    fn no_line(&self, length: usize, error: ProtocolError) -> Result<Decoded, ProtocolError> {
        if length > limits::INLINE_BYTES_MAX {
            return Err(error);
        }
        Ok(Decoded::Incomplete { missing: 1 })
    }

    fn decode_inline(
        &mut self,
        request: &mut [u8],
        base: usize,
        args: &mut Vec<ArgRange>,
    ) -> Result<Decoded, ProtocolError> {
        let found = request[self.searched..].iter().position(|&b| b == b'\n');
        let Some(end) = found.map(|offset| self.searched + offset) else {
            self.searched = request.len();
            return self.no_line(request.len(), ProtocolError::InlineTooLong);
        };
        let line = match request[..end].last() {
            Some(b'\r') => &mut request[..end - 1],
            _ => &mut request[..end],
        };
        self.reset();
        split_inline(line, base, args).ok_or(ProtocolError::UnbalancedQuotes)?;
        Ok(Decoded::Request { consumed: end + 1 })
    }

    /// Gives back the memory that the unfinished request does not take.
    pub fn shrink(&mut self) {
        self.partial.shrink_to_fit();
    }

    fn reset(&mut self) {
        self.partial.clear();
        self.remaining = 0;
        self.position = 0;
        self.searched = 0;
        self.bulk = None;
    }
}

fn shift(arg: ArgRange, base: usize) -> ArgRange {
    ArgRange { start: arg.start + base as u32, end: arg.end + base as u32 }
}

/// Reads a line of one byte and a small number, the form of nearly all lines: returns the number
/// and the offset of the line's end. `None`: any other line, or one with nothing behind it yet.
#[inline]
fn short_line(request: &[u8], from: usize) -> Option<(usize, usize)> {
    // Behind the first byte: three digits at most, and `\r\n`. More follows in every request.
    let line: &[u8; 5] = request.get(from + 1..)?.first_chunk()?;
    let digit = |byte: u8| Some(usize::from(byte.wrapping_sub(b'0'))).filter(|&digit| digit <= 9);
    let mut number = digit(line[0])?;
    for (behind, &byte) in line[1..4].iter().enumerate() {
        if byte == b'\r' {
            return Some((number, from + 2 + behind));
        }
        if number == 0 {
            // A zero in front is an error, which is not told here.
            return None;
        }
        number = number * 10 + digit(byte)?;
    }
    None
}

/// Decodes `$<length>\r\n<bytes>\r\n` at `from` if all of it is there and it is short; returns
/// where the bytes are.
#[inline]
fn short_bulk(request: &[u8], from: usize, limits: &DecodeLimits) -> Option<ArgRange> {
    let (length, line_end) = short_line(request, from)?;
    let (start, end) = (line_end + 2, line_end + 2 + length);
    let is_whole = request[from] == b'$' && request.len() >= end + 2;
    (is_whole && length as u64 <= limits.bulk_bytes_max)
        .then_some(ArgRange { start: start as u32, end: end as u32 })
}

/// Parses `$<length>` and checks the length.
#[inline]
fn bulk_length(line: &[u8], limits: &DecodeLimits) -> Result<usize, ProtocolError> {
    match line.first() {
        Some(b'$') => {}
        other => return Err(ProtocolError::ExpectedBulk(*other.unwrap_or(&b'\r'))),
    }
    let length = parse_integer(&line[1..])
        .filter(|&length| length >= 0 && length as u64 <= limits.bulk_bytes_max)
        .ok_or(ProtocolError::InvalidBulkLength)?;
    if !limits.authenticated && length as u64 > limits::BULK_BYTES_UNAUTHENTICATED_MAX {
        return Err(ProtocolError::UnauthenticatedBulkLength);
    }
    Ok(length as usize)
}

/// Parses a decimal `i64` as strictly as Redis's `string2ll`: no sign but `-`, no leading zero,
/// no space, no `-0`.
#[inline]
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 19 || (digits[0] == b'0' && text.len() > 1) {
        return None;
    }
    let mut value: u64 = 0;
    for &digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // Nineteen digits are below 10^19, which fits.
        value = value * 10 + u64::from(digit);
    }
    if negative {
        (value <= i64::MIN.unsigned_abs()).then(|| (value as i64).wrapping_neg())
    } else {
        i64::try_from(value).ok()
    }
}

/// Splits an inline request into arguments as Redis's `sdssplitargs` does, unquoting in place.
/// Returns `None` where quotes do not match.
fn split_inline(line: &mut [u8], base: usize, args: &mut Vec<ArgRange>) -> Option<()> {
    let mut read = 0;
    loop {
        while line.get(read).is_some_and(|b| is_space(*b)) {
            read += 1;
        }
        // Redis works on C strings: a NUL ends the line.
        if matches!(line.get(read), None | Some(0)) {
            return Some(());
        }
        let start = read;
        let mut write = read;
        read = unquote_argument(line, read, &mut write)?;
        args.push(ArgRange { start: (base + start) as u32, end: (base + write) as u32 });
    }
}

/// Moves the argument at `read` to `write`, without its quotes; returns the offset behind it.
fn unquote_argument(line: &mut [u8], mut read: usize, write: &mut usize) -> Option<usize> {
    let mut quote = None;
    loop {
        let Some(&byte) = line.get(read) else {
            return if quote.is_none() { Some(read) } else { None };
        };
        match (quote, byte) {
            (None, b'\0') => return Some(line.len()),
            // Fewer than those that may stand between arguments, as in Redis.
            (None, b' ' | b'\n' | b'\r' | b'\t') => return Some(read),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if byte == open => {
                // A closing quote must be followed by a space or by nothing at all.
                return line.get(read + 1).is_none_or(|b| is_space(*b)).then_some(read + 1);
            }
            (Some(b'"'), b'\\') if read + 1 < line.len() => {
                let (value, length) = escape(&line[read + 1..]);
                line[*write] = value;
                *write += 1;
                read += length;
            }
            (Some(b'\''), b'\\') if line.get(read + 1) == Some(&b'\'') => {
                line[*write] = b'\'';
                *write += 1;
                read += 1;
            }
            _ => {
                line[*write] = byte;
                *write += 1;
            }
        }
        read += 1;
    }
}

/// Decodes what follows a backslash; returns the byte and how many bytes it took.
fn escape(text: &[u8]) -> (u8, usize) {
    if let [b'x', high, low, ..] = *text
        && let (Some(high), Some(low)) = (hex(high), hex(low))
    {
        return (high * 16 + low, 3);
    }
    let value = match text[0] {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    };
    (value, 1)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

#[cfg(test)]
mod tests;
