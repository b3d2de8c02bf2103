//! Hand-made sequences and raw byte streams: what random commands would rarely reach.

use crate::step::Step;
use crate::support::text::parse_request;

/// Parses a line: a request as `redis-cli` takes it, `scan …` or `transfer key`.
fn parse(line: &str) -> Step {
    let mut request = parse_request(line);
    match request[0].as_slice() {
        b"scan" => Step::FullScan(request.split_off(1)),
        b"transfer" => Step::Transfer(request.remove(1)),
        _ => Step::Command(request),
    }
}

/// Returns the sequences of `sequences.txt` with their names.
pub(crate) fn sequences() -> Vec<(&'static str, Vec<Step>)> {
    let mut sequences: Vec<(&str, Vec<Step>)> = Vec::new();
    for line in include_str!("sequences.txt").lines().filter(|line| !line.is_empty()) {
        match (line.strip_prefix("# "), sequences.last_mut()) {
            (Some(name), _) => sequences.push((name, Vec::new())),
            (None, Some((_, steps))) => steps.push(parse(line)),
            (None, None) => panic!("a step before the first name: {line}"),
        }
    }
    sequences
}

/// Byte streams, each ending in QUIT, so that the server closes in every case.
pub(crate) fn raw() -> Vec<(String, Vec<u8>)> {
    const STREAMS: &[&[u8]] = &[
        b"PING\r\n",
        b"PING\n",
        b"\r\nPING\r\n",
        b"  PING  \r\n",
        b"SET k \"a b\\x41\\n\"\r\nGET k\r\n",
        b"SET k 'it\\'s'\r\nGET k\r\n",
        b"SET k \"unbalanced\r\n",
        b"SET k 'unbalanced\r\n",
        b"SET k \"a\"b\r\n",
        b"SET k a\x0bb\x0cc\r\nGET k\r\n",
        b"SET\x0bk v\r\n",
        b"CLIENT REPLY SKIP\r\nHELLO 3\r\nCOMMAND INFO get\r\n",
        b"*1\r\n\xffabc\r\n",
        b"CONFIG SET \"\\xfe\" 1\r\nCONFIG SET \"a\\x00b\" 1\r\n",
        b"LATENCY GRAPH \"a\\xffb\"\r\nLATENCY GRAPH \"a\\x00b\"\r\n",
        b"CLIENT LIST TYPE \"a\\x00b\"\r\nHELLO 3 \"a\\x00b\"\r\nCLIENT \"a\\x00b\"\r\n",
        b"COMMAND INFO nosuch\r\nACL GETUSER nosuch\r\n",
        b"*0\r\nPING\r\n",
        b"*-1\r\nPING\r\n",
        b"*\r\nPING\r\n",
        b"*abc\r\n",
        b"*2147483648\r\n",
        b"*99999999999999999999\r\n",
        b"*1\r\nPING\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$abc\r\n",
        b"*1\r\n$536870913\r\n",
        b"*1\r\n$99999999999999999999\r\n",
        b"*1\r\n$4\r\nPINGxx",
        b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n",
        b"*1\n$4\nPING\n",
        b"$4\r\nPING\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost:80\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CLIENT REPLY OFF\r\nSET k v\r\nPING\r\nCLIENT REPLY ON\r\nGET k\r\n",
        b"CLIENT REPLY SKIP\r\nPING\r\nPING again\r\n",
        b"CLIENT REPLY SKIP\r\nSET k v\r\nCLIENT REPLY OFF\r\nPING\r\nCLIENT REPLY ON\r\n",
        b"SET k 1\r\nINCR k\r\nINCR k\r\nGET k\r\nDEL k\r\nGET k\r\n",
        b"MSET a 1 b 2 c 3\r\nGET a\r\nGET b\r\nGET c\r\nMGET a b c\r\nDEL a b c\r\nMGET a b c\r\n",
        b"SET a 1\r\nRENAME a b\r\nGET a\r\nGET b\r\nSET c 2\r\nRENAME b c\r\nGET c\r\nDBSIZE\r\n",
        b"QUIT now\r\n",
        b"RESET\r\n",
        b"CLIENT REPLY SKIP\r\nHELLO 3\r\nGET none\r\nRESET\r\nGET none\r\n",
    ];
    let mut streams: Vec<(String, Vec<u8>)> = STREAMS
        .iter()
        .map(|stream| (format!("{}", stream.escape_ascii()), [stream, &b"QUIT\r\n"[..]].concat()))
        .collect();
    // An inline command of more than 64 KB without an end.
    streams.push(("an endless line".to_owned(), vec![b'x'; 70_000]));
    let endless = [b"*", vec![b'1'; 70_000].as_slice()].concat();
    streams.push(("an endless count".to_owned(), endless));
    streams
}
