//! A raw RESP connection: requests as they are given, replies byte for byte and as a tree.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One request: its arguments, the command's name first.
pub(crate) type Request = Vec<Vec<u8>>;

/// A reply that does not come within this time is a failure of the server.
const REPLY_LIMIT: Duration = Duration::from_secs(30);

/// A reply as a tree, for the comparisons that cannot be byte for byte.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    /// `+text`
    Simple(Vec<u8>),
    /// `-text` and RESP3's `!` bulk error.
    Error(Vec<u8>),
    /// `:number`
    Integer(i64),
    /// `$` bulk and RESP3's `=` verbatim text.
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` and `_`.
    Null,
    /// RESP3's `,` double, `(` big number and `#` boolean, as they were written.
    Other(Vec<u8>),
    /// `*`, `~` and `>`.
    Array(Vec<Tree>),
    /// RESP3's `%`.
    Map(Vec<(Tree, Tree)>),
}

/// One reply.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// Exactly what came.
    pub(crate) raw: Vec<u8>,
    /// What it means.
    pub(crate) tree: Tree,
}

/// A client connection that blocks until its reply is there.
pub(crate) struct Wire {
    reader: BufReader<TcpStream>,
}

impl Wire {
    /// Returns a connection.
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).unwrap_or_else(|error| panic!("cannot connect to {addr}: {error}"))
    }

    /// Returns a connection or why there is none.
    pub(crate) fn try_connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, REPLY_LIMIT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_LIMIT))?;
        stream.set_write_timeout(Some(REPLY_LIMIT))?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Sends several requests in one write.
    pub(crate) fn send(&mut self, requests: &[Request]) -> io::Result<()> {
        let mut bytes = Vec::new();
        requests.iter().for_each(|request| encode(request, &mut bytes));
        self.send_raw(&bytes)
    }

    /// Sends a request and returns its reply.
    pub(crate) fn try_call(&mut self, request: &[Vec<u8>]) -> io::Result<Reply> {
        let mut bytes = Vec::new();
        encode(request, &mut bytes);
        self.send_raw(&bytes)?;
        self.read()
    }

    /// Sends a request given as words and returns its reply.
    pub(crate) fn call(&mut self, words: &[&str]) -> Reply {
        let request: Request = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        self.try_call(&request).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Reads one reply.
    pub(crate) fn read(&mut self) -> io::Result<Reply> {
        let mut raw = Vec::new();
        let tree = self.read_tree(&mut raw)?;
        Ok(Reply { raw, tree })
    }

    /// Reads until the server closes the connection and returns all that came.
    pub(crate) fn read_to_close(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.reader.read_to_end(&mut bytes) {
            // A server that closes with unread input resets the connection: still a close.
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
            _ => Ok(bytes),
        }
    }

    fn read_tree(&mut self, raw: &mut Vec<u8>) -> io::Result<Tree> {
        let start = raw.len();
        self.reader.read_until(b'\n', raw)?;
        let line = &raw[start..];
        if !line.ends_with(b"\r\n") {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "connection closed"));
        }
        let kind = line[0];
        let rest = line[1..line.len() - 2].to_vec();
        match kind {
            b'+' => Ok(Tree::Simple(rest)),
            b'-' => Ok(Tree::Error(rest)),
            b':' => Ok(Tree::Integer(number(&rest)?)),
            b',' | b'(' | b'#' => Ok(Tree::Other(line[..line.len() - 2].to_vec())),
            b'_' => Ok(Tree::Null),
            b'$' | b'=' | b'!' => self.read_bulk(kind, number(&rest)?, raw),
            b'*' | b'~' | b'>' if rest == b"-1" => Ok(Tree::Null),
            b'*' | b'~' | b'>' => {
                let items = (0..number(&rest)?).map(|_| self.read_tree(raw));
                Ok(Tree::Array(items.collect::<io::Result<_>>()?))
            }
            b'%' | b'|' => {
                let pairs = (0..number(&rest)?).map(|_| {
                    let key = self.read_tree(raw)?;
                    Ok((key, self.read_tree(raw)?))
                });
                Ok(Tree::Map(pairs.collect::<io::Result<_>>()?))
            }
            _ => Err(invalid(&format!("no RESP reply: {}", line.escape_ascii()))),
        }
    }

    fn read_bulk(&mut self, kind: u8, length: i64, raw: &mut Vec<u8>) -> io::Result<Tree> {
        if length < 0 {
            return Ok(Tree::Null);
        }
        let start = raw.len();
        raw.resize(start + length as usize + 2, 0);
        self.reader.read_exact(&mut raw[start..])?;
        if !raw.ends_with(b"\r\n") {
            return Err(invalid("a bulk does not end in CR LF"));
        }
        let body = raw[start..raw.len() - 2].to_vec();
        Ok(match kind {
            b'!' => Tree::Error(body),
            b'=' => Tree::Bulk(body[body.len().min(4)..].to_vec()),
            _ => Tree::Bulk(body),
        })
    }
}

/// Appends a request as an array of bulk strings.
pub(crate) fn encode(request: &[Vec<u8>], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(format!("*{}\r\n", request.len()).as_bytes());
    for argument in request {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
}

fn number(text: &[u8]) -> io::Result<i64> {
    let text = std::str::from_utf8(text).map_err(|_| invalid("a length is no number"))?;
    text.parse().map_err(|_| invalid(&format!("a length is no number: {text}")))
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}
