//! Every case is also decoded cut at every byte: the outcome must not depend on how input arrives.

use super::*;
use proptest::prelude::*;

type Outcome = Result<Vec<Vec<Vec<u8>>>, ProtocolError>;

/// Feeds `input` in pieces that end at `cuts`, and returns all requests, or the first error.
fn decode_in_pieces(input: &[u8], cuts: &[usize], limits: &DecodeLimits) -> Outcome {
    let mut decoder = RequestDecoder::default();
    let (mut buffer, mut base, mut fed) = (Vec::new(), 0, 0);
    let mut requests = Vec::new();
    for &cut in cuts.iter().chain([&input.len()]) {
        buffer.extend_from_slice(&input[fed..cut]);
        fed = cut;
        loop {
            let mut args = Vec::new();
            match decoder.decode(&mut buffer, base, &mut args, limits)? {
                Decoded::Request { consumed } => {
                    if !args.is_empty() {
                        requests.push(args.iter().map(|arg| arg.of(&buffer).to_vec()).collect());
                    }
                    base += consumed;
                }
                Decoded::Incomplete { missing } => {
                    assert!(missing > 0 && args.is_empty());
                    break;
                }
            }
        }
        // What is decoded leaves the buffer, as in a connection.
        buffer.drain(..base);
        base = 0;
    }
    Ok(requests)
}

#[track_caller]
fn check(input: &[u8], expected: Result<&[&[&str]], ProtocolError>) {
    let expected: Outcome = expected.map(|requests| {
        let bytes = |request: &&[&str]| request.iter().map(|a| a.as_bytes().to_vec()).collect();
        requests.iter().map(bytes).collect()
    });
    let limits = DecodeLimits::default();
    assert_eq!(decode_in_pieces(input, &[], &limits), expected);
    for cut in 0..input.len() {
        assert_eq!(decode_in_pieces(input, &[cut], &limits), expected, "cut at {cut}");
    }
    let every: Vec<usize> = (0..input.len()).collect();
    assert_eq!(decode_in_pieces(input, &every, &limits), expected, "byte by byte");
}

#[test]
fn arrays_of_bulk_strings() {
    check(b"*1\r\n$4\r\nPING\r\n", Ok(&[&["PING"]]));
    check(b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n*1\r\n$4\r\nPING\r\n", Ok(&[&["GET", ""], &["PING"]]));
    check(b"*0\r\n*-1\r\n*1\r\n$2\r\n\r\n\r\n", Ok(&[&["\r\n"]]));
    check(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\na", Ok(&[]));
}

#[test]
fn arguments_move_once_however_the_request_is_cut() {
    let words = 300;
    let input = [format!("*{words}\r\n"), "$1\r\nx\r\n".repeat(words)].concat().into_bytes();
    let (mut decoder, mut args) = (RequestDecoder::default(), Vec::new());
    for end in (11..input.len()).step_by(7) {
        let mut arrived = input[..end].to_vec();
        let decoded = decoder.decode(&mut arrived, 0, &mut args, &DecodeLimits::default());
        assert!(matches!(decoded, Ok(Decoded::Incomplete { .. })), "{end}: {decoded:?}");
        // The first look may find that all arguments so far are short ones.
        assert!(args.is_empty() && (end == 11 || args.capacity() == 0), "{end}");
        args = Vec::new();
    }
    let decoded = decoder.decode(&mut input.clone(), 0, &mut args, &DecodeLimits::default());
    assert_eq!(decoded, Ok(Decoded::Request { consumed: input.len() }));
    assert_eq!(args.len(), words);
}

#[test]
fn a_decoder_gives_back_what_no_request_under_way_takes() {
    let input = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
    let limits = DecodeLimits::default();
    let (mut decoder, mut args) = (RequestDecoder::default(), Vec::new());
    let half = decoder.decode(&mut input[..20].to_vec(), 0, &mut args, &limits);
    assert!(matches!(half, Ok(Decoded::Incomplete { .. })), "{half:?}");
    decoder.shrink();
    assert_eq!(decoder.partial.capacity(), 2, "what has come of a request stays");
    let whole = decoder.decode(&mut input.to_vec(), 0, &mut args, &limits);
    assert_eq!(whole, Ok(Decoded::Request { consumed: input.len() }));
    assert_eq!(args.iter().map(|arg| arg.of(input)).collect::<Vec<_>>(), [&b"SET"[..], b"k", b"v"]);
    decoder.shrink();
    assert_eq!(decoder.partial.capacity(), 0);
}

#[test]
fn inline_requests() {
    check(b"PING\r\n", Ok(&[&["PING"]]));
    check(b"\r\n\nSET  a 'b c'\n", Ok(&[&["SET", "a", "b c"]]));
    check(b"SET a \"x\\x41\\n\\\"\"\r\n", Ok(&[&["SET", "a", "xA\n\""]]));
    check(b"SET a 'it\\'s'\r\n", Ok(&[&["SET", "a", "it's"]]));
    check(b"SET a \"\"\r\n", Ok(&[&["SET", "a", ""]]));
    check(b"a\"b\"\r\n", Ok(&[&["ab"]]));
    check(b"SET a \"b\r\n", Err(ProtocolError::UnbalancedQuotes));
    check(b"SET a \"b\"c\r\n", Err(ProtocolError::UnbalancedQuotes));
}

#[test]
fn malformed_input_gets_the_errors_of_redis() {
    use ProtocolError as E;
    for (input, error, text) in [
        ("*x\r\n", E::InvalidMultibulkLength, "invalid multibulk length"),
        ("*1048577\r\n", E::InvalidMultibulkLength, "invalid multibulk length"),
        ("*1\r\n:1\r\n", E::ExpectedBulk(b':'), "expected '$', got ':'"),
        ("*1\r\n$-1\r\n", E::InvalidBulkLength, "invalid bulk length"),
        ("*1\r\n$01\r\n", E::InvalidBulkLength, "invalid bulk length"),
        ("*1\r\n$629145600\r\n", E::InvalidBulkLength, "invalid bulk length"),
    ] {
        check(input.as_bytes(), Err(error.clone()));
        assert_eq!(error.to_string(), format!("Protocol error: {text}"));
    }
}

#[test]
fn lines_without_an_end_are_refused() {
    let long = [b'1'; limits::INLINE_BYTES_MAX + 2];
    for (start, error) in [
        (&b"*"[..], ProtocolError::MultibulkLineTooLong),
        (b"*1\r\n$", ProtocolError::BulkLineTooLong),
        (b"", ProtocolError::InlineTooLong),
    ] {
        let input = [start, &long].concat();
        let limits = DecodeLimits::default();
        assert_eq!(decode_in_pieces(&input, &[], &limits), Err(error.clone()));
        assert_eq!(
            decode_in_pieces(&input, &[5, 1000, 70_000.min(input.len())], &limits),
            Err(error)
        );
    }
}

#[test]
fn a_client_that_has_not_authenticated_may_only_send_little() {
    let limits = DecodeLimits { authenticated: false, ..DecodeLimits::default() };
    assert_eq!(
        decode_in_pieces(b"*11\r\n", &[], &limits),
        Err(ProtocolError::UnauthenticatedMultibulkLength)
    );
    assert_eq!(
        decode_in_pieces(b"*1\r\n$16385\r\n", &[], &limits),
        Err(ProtocolError::UnauthenticatedBulkLength)
    );
}

#[test]
fn integers_are_as_strict_as_in_redis() {
    for text in ["", "-", "+1", "01", "-0", " 1", "1 ", "9223372036854775808", "1e3", "--1"] {
        assert_eq!(parse_integer(text.as_bytes()), None, "{text}");
    }
    for value in [0, 1, -1, 42, i64::MAX, i64::MIN] {
        assert_eq!(parse_integer(value.to_string().as_bytes()), Some(value));
    }
}

proptest! {
    #[test]
    fn requests_survive_any_cutting(
        requests in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5), 1..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut input = Vec::new();
        for request in &requests {
            input.extend(format!("*{}\r\n", request.len()).bytes());
            for arg in request {
                input.extend(format!("${}\r\n", arg.len()).bytes());
                input.extend(arg);
                input.extend(b"\r\n");
            }
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len())).collect();
        cuts.sort_unstable();
        prop_assert_eq!(decode_in_pieces(&input, &cuts, &DecodeLimits::default()), Ok(requests));
    }

    #[test]
    fn any_bytes_give_the_same_outcome_however_they_are_cut(
        input in prop::collection::vec(
            prop::sample::select(&b"*$\r\n0123 -\"'\\xag:"[..]), 0..60),
    ) {
        let limits = DecodeLimits::default();
        let whole = decode_in_pieces(&input, &[], &limits);
        let every: Vec<usize> = (0..input.len()).collect();
        let pieces = decode_in_pieces(&input, &every, &limits);
        // Requests before an error are executed in both cases; here only the end is compared.
        prop_assert_eq!(whole, pieces);
    }
}
