//! Frames and handshakes, cut at every byte.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::frame::{HEADER_BYTES, Receives};
use super::handshake::MAGIC;
use super::*;
use crate::limits::{PEER_HANDSHAKE_BYTES_MAX, PEER_READ_BYTES_MAX};

fn encode(frame: &Frame) -> BytesMut {
    let mut output = BytesMut::new();
    frame.put_header(VERSION_MAX, &mut output);
    output.extend_from_slice(&frame.body);
    output
}

fn requests(class: Class) -> Decoder {
    Decoder::new(VERSION_MAX, class, Receives::Requests)
}

fn replies(class: Class) -> Decoder {
    Decoder::new(VERSION_MAX, class, Receives::Replies)
}

fn frame(role: Role, number: u8, id: u64, body: &[u8]) -> Frame {
    Frame { role, kind: Kind::new(number), id, body: Bytes::copy_from_slice(body) }
}

/// Gives `wire` to a decoder in pieces of `piece` bytes; returns all frames.
fn decode_in_pieces(decoder: &Decoder, wire: &[u8], piece: usize) -> Vec<Frame> {
    let mut input = BytesMut::new();
    let mut frames = Vec::new();
    for piece in wire.chunks(piece) {
        input.extend_from_slice(piece);
        while let Some(frame) = decoder.decode(&mut input).unwrap() {
            frames.push(frame);
        }
    }
    assert!(input.is_empty());
    frames
}

#[test]
fn a_frame_has_the_documented_bytes() {
    let frame = frame(Role::Error, 5, 0x0102, b"no");
    let expected = [0, 0, 0, 12, VERSION_MAX, 0x85, 0, 0, 0, 0, 0, 0, 1, 2, b'n', b'o'];
    assert_eq!(&encode(&frame)[..], &expected[..]);
}

#[test]
fn small_and_large_bodies_come_back_whatever_the_pieces() {
    let bodies: [&[u8]; 4] = [b"", b"x", &[7; 5000], b"end"];
    let frames: Vec<Frame> = (0u64..)
        .zip(bodies)
        .map(|(id, body)| frame(if id % 2 == 0 { Role::Reply } else { Role::Error }, 63, id, body))
        .collect();
    let wire: Vec<u8> = frames.iter().flat_map(encode).collect();
    for piece in [1, 2, 13, 14, 15, 4096, wire.len()] {
        assert_eq!(decode_in_pieces(&replies(Class::Bulk), &wire, piece), frames);
    }
}

#[test]
fn what_is_no_frame_is_refused_before_its_body_arrives() {
    let refusal = |class, bytes: &[u8]| requests(class).decode(&mut BytesMut::from(bytes));
    let max = Class::Control.body_bytes_max();
    let header = |length: usize| u32::try_from(length).unwrap().to_be_bytes();
    assert_eq!(refusal(Class::Control, &header(9)), Err(FrameError::TooShort(9)));
    assert_eq!(refusal(Class::Control, &header(10 + max)), Ok(None));
    let too_long = FrameError::TooLong { length: max + 1, class: Class::Control, max };
    assert_eq!(refusal(Class::Control, &header(11 + max)), Err(too_long));
    assert_eq!(refusal(Class::Bulk, &header(11 + max)), Ok(None));
    assert!(refusal(Class::Bulk, &[0xff; 4]).is_err());

    let begin = |version: u8, role: u8| [0, 0, 1, 0, version, role, 0, 0, 0, 0, 0, 0, 0, 1];
    let version = FrameError::Version { found: 3, agreed: 2 };
    assert_eq!(refusal(Class::Control, &begin(3, 0)), Err(version));
    assert_eq!(refusal(Class::Control, &begin(2, 0xc0)), Err(FrameError::UnknownRole(3)));
    let reply = FrameError::WrongDirection { found: Role::Reply };
    assert_eq!(refusal(Class::Control, &begin(2, 0x40)), Err(reply.clone()));
    assert_eq!(reply.to_string(), "a reply where the other side sends requests only");
}

#[test]
fn room_for_a_long_frame_is_asked_for_bit_by_bit() {
    let decoder = requests(Class::Bulk);
    assert_eq!(decoder.wanted_bytes(&BytesMut::new()), HEADER_BYTES);
    let announced = (Class::Bulk.body_bytes_max() as u32).to_be_bytes();
    assert_eq!(decoder.wanted_bytes(&BytesMut::from(&announced[..])), PEER_READ_BYTES_MAX);
    assert_eq!(decoder.wanted_bytes(&BytesMut::from(&[0, 0, 0, 20, 1][..])), 19);
}

#[test]
fn parts_come_where_both_sides_know_them_and_nowhere_else() {
    let part = |version: u8| [0, 0, 0, 10, version, 0xc3, 0, 0, 0, 0, 0, 0, 0, 1];
    let decode = |version, class, receives| {
        let decoder = Decoder::new(version, class, receives);
        decoder.decode(&mut BytesMut::from(&part(version)[..]))
    };
    for receives in [Receives::Requests, Receives::Replies] {
        let found = decode(2, Class::Forward(1), receives).unwrap();
        assert_eq!(found, Some(frame(Role::Part, 3, 1, b"")));
        let unknown = Err(FrameError::UnknownRole(3));
        assert_eq!(decode(1, Class::Forward(1), receives), unknown);
        assert_eq!(decode(2, Class::Bulk, receives), unknown);
    }
    assert_eq!(Class::Forward(1).request_bytes_max(1), Class::Forward(1).body_bytes_max());
    assert_eq!(Class::Bulk.reply_bytes_max(2), Class::Bulk.body_bytes_max());
}

fn local(node: u64, cluster: Option<u128>, secret: &str) -> Local {
    let identity = Identity { node, incarnation: node + 100, cluster };
    Local { identity, secret: Secret::new(secret), nonce: [node as u8; 32] }
}

type Ended = Result<Established, HandshakeError>;

/// Lets both sides talk, each message in pieces of `piece` bytes; `meddle` may change a message
/// on its way (to the acceptor: `true`).
fn talk(
    mut dialer: Handshake,
    mut acceptor: Handshake,
    piece: usize,
    mut meddle: impl FnMut(bool, &mut Vec<u8>),
) -> (Option<Ended>, Option<Ended>) {
    let (mut dialed, mut accepted) = (None, None);
    let mut inputs = [BytesMut::new(), BytesMut::new()];
    for to_acceptor in [true, false, true, false, true] {
        let from = if to_acceptor { &mut dialer } else { &mut acceptor };
        let mut message = from.output();
        meddle(to_acceptor, &mut message);
        let (to, input, ended) = match to_acceptor {
            true => (&mut acceptor, &mut inputs[0], &mut accepted),
            false => (&mut dialer, &mut inputs[1], &mut dialed),
        };
        for piece in message.chunks(piece) {
            input.extend_from_slice(piece);
            if ended.is_none() {
                *ended = to.receive(input).transpose();
            }
        }
        if to_acceptor && matches!(accepted, Some(Ok(_))) && dialed.is_none() {
            acceptor.admit();
        }
    }
    (dialed, accepted)
}

fn meet(dialer: Local, acceptor: Local, expected: Option<u64>) -> (Option<Ended>, Option<Ended>) {
    let dialer = Handshake::dial(dialer, Class::Bulk, expected);
    talk(dialer, Handshake::accept(acceptor), 1, |_, _| {})
}

/// Both sides learn the same reason; returns it with the text.
fn reason(ended: (Option<Ended>, Option<Ended>)) -> (Reason, String) {
    let (Some(Err(HandshakeError::Refused(dialed))), Some(Err(HandshakeError::Refused(accepted)))) =
        ended
    else {
        panic!("not refused on both sides: {ended:?}");
    };
    assert_eq!(dialed, accepted);
    (dialed.reason, dialed.text)
}

#[test]
fn nodes_of_one_cluster_meet_whatever_the_pieces() {
    for secret in ["", "s"] {
        for piece in [1, 3, 8, 11, 4096] {
            for expected in [None, Some(2)] {
                let dialer = Handshake::dial(local(1, Some(9), secret), Class::Bulk, expected);
                let acceptor = Handshake::accept(local(2, Some(9), secret));
                let (dialed, accepted) = talk(dialer, acceptor, piece, |_, _| {});
                let (dialed, accepted) = (dialed.unwrap().unwrap(), accepted.unwrap().unwrap());
                assert_eq!(dialed.peer, local(2, Some(9), "").identity);
                assert_eq!(accepted.peer, local(1, Some(9), "").identity);
                for side in [dialed, accepted] {
                    assert_eq!((side.class, side.version), (Class::Bulk, VERSION_MAX));
                    assert_eq!(side.is_probe, expected.is_none());
                }
            }
        }
    }
}

#[test]
fn a_node_of_no_cluster_fits_any() {
    for (dialer, acceptor) in [(None, Some(9)), (Some(9), None), (None, None)] {
        let (dialed, accepted) = meet(local(1, dialer, "s"), local(2, acceptor, "s"), Some(2));
        assert_eq!(dialed.unwrap().unwrap().peer.cluster, acceptor);
        assert_eq!(accepted.unwrap().unwrap().peer.cluster, dialer);
    }
}

#[test]
fn each_refusal_names_what_differs_and_what_to_do() {
    let own = || local(1, Some(9), "s");
    let cases = [
        (own(), local(2, Some(8), "s"), Reason::Cluster, "--seeds"),
        (own(), local(3, Some(9), "s"), Reason::PeerId, "where node 0000000000000002 was expected"),
        (own(), local(2, Some(9), "t"), Reason::SecretWrong, "different cluster secrets"),
        (own(), local(2, Some(9), ""), Reason::SecretMissing, "000000000002 has none"),
        (local(1, None, ""), local(2, None, "s"), Reason::SecretMissing, "00000000001 has none"),
    ];
    for (dialer, acceptor, expected, part) in cases {
        let (found, text) = reason(meet(dialer, acceptor, Some(2)));
        assert_eq!(found, expected);
        assert!(text.contains(part), "{text}");
    }
    let mut copy = local(1, Some(9), "s");
    copy.identity.incarnation = 5;
    let (found, text) = reason(meet(own(), copy, Some(1)));
    assert_eq!(found, Reason::DuplicateId);
    assert!(text.contains("data directory was copied"), "{text}");
}

#[test]
fn a_probe_is_told_who_is_there_also_where_they_do_not_fit() {
    let own = || local(1, Some(9), "s");
    let mut copy = own();
    copy.identity.incarnation = 5;
    for other in [copy, local(2, Some(8), "s")] {
        let (dialed, accepted) = meet(own(), other.clone(), None);
        assert_eq!(dialed.unwrap().unwrap().peer, other.identity);
        assert!(accepted.unwrap().unwrap().is_probe);
    }
    let (found, _) = reason(meet(own(), local(2, Some(8), "t"), None));
    assert_eq!(found, Reason::SecretWrong, "it must know the secret");
    // The same process: its own address is in its list of seeds.
    assert_eq!(meet(own(), own(), None).0.unwrap().unwrap().peer, own().identity);
}

#[test]
fn other_versions_are_refused() {
    let of_the_future = |to_acceptor: bool, message: &mut Vec<u8>| {
        if to_acceptor && message.get(MAGIC.len()) == Some(&1) {
            message[MAGIC.len() + 3] = VERSION_MAX + 1;
            message[MAGIC.len() + 4] = VERSION_MAX + 2;
        }
    };
    let dialer = Handshake::dial(local(1, None, ""), Class::Control, None);
    let acceptor = Handshake::accept(local(2, None, ""));
    let (found, text) = reason(talk(dialer, acceptor, 4096, of_the_future));
    assert_eq!(found, Reason::Version);
    assert!(text.contains("speaks 3 to 4: upgrade the older one"), "{text}");
}

#[test]
fn an_older_node_and_this_one_speak_the_older_version() {
    let of_the_past = |to_acceptor: bool, message: &mut Vec<u8>| {
        if to_acceptor && message.get(MAGIC.len()) == Some(&1) {
            message[MAGIC.len() + 4] = 1;
        }
    };
    let dialer = Handshake::dial(local(1, None, ""), Class::Forward(0), Some(2));
    let acceptor = Handshake::accept(local(2, None, ""));
    let (dialed, accepted) = talk(dialer, acceptor, 4096, of_the_past);
    let versions = [dialed, accepted].map(|side| side.unwrap().unwrap().version);
    assert_eq!(versions, [1, 1]);
}

#[test]
fn a_changed_bit_anywhere_never_ends_well_with_a_secret() {
    // The hellos are 87 bytes, the proofs 43.
    for to_changed in [true, false] {
        for bit in 0..(87 + 43) * 8 {
            let mut passed = 0;
            let dialer = Handshake::dial(local(1, Some(9), "s"), Class::Bulk, Some(2));
            let acceptor = Handshake::accept(local(2, Some(9), "s"));
            let (dialed, _) = talk(dialer, acceptor, 4096, |to_acceptor, message| {
                if to_acceptor == to_changed {
                    let at = (bit / 8_usize).wrapping_sub(passed);
                    passed += message.len();
                    if let Some(byte) = message.get_mut(at) {
                        *byte ^= 1 << (bit % 8);
                    }
                }
            });
            assert!(!matches!(dialed, Some(Ok(_))), "bit {bit}, to acceptor: {to_changed}");
        }
    }
}

#[test]
fn a_proof_cannot_be_reflected_or_replayed() {
    // Who does not know the secret sends the acceptor's own hello and proof back, or those of an
    // earlier handshake.
    let mut recorded = Vec::new();
    let dialer = Handshake::dial(local(1, Some(9), "s"), Class::Bulk, Some(2));
    talk(dialer, Handshake::accept(local(2, Some(9), "s")), 4096, |to_acceptor, message| {
        if to_acceptor {
            recorded.extend_from_slice(message);
        }
    });
    let mut later = local(2, Some(9), "s");
    later.nonce = [77; 32];
    let mut acceptor = Handshake::accept(later);
    let refused = acceptor.receive(&mut BytesMut::from(&recorded[..])).unwrap_err();
    assert!(refused.to_string().contains("different cluster secrets"), "{refused}");
    let transcript = proof::Transcript { dialer: b"a".to_vec(), acceptor: b"b".to_vec() };
    let secret = Secret::new("s").unwrap();
    let proof = transcript.prove(&secret, proof::Prover::Acceptor);
    assert!(transcript.verifies(&secret, proof::Prover::Acceptor, &proof));
    assert!(!transcript.verifies(&secret, proof::Prover::Dialer, &proof));
    assert_eq!(format!("{secret:?}"), "(hidden)");
}

#[test]
fn what_is_no_node_is_told_from_its_first_bytes() {
    for answer in ["HTTP/1.1 400 Bad Request\r\n", "-ERR unknown command", "D "] {
        let mut dialer = Handshake::dial(local(1, None, ""), Class::Control, None);
        let error = dialer.receive(&mut BytesMut::from(answer.as_bytes())).unwrap_err();
        assert_eq!(error, HandshakeError::NotDistcache(answer.to_owned()));
    }
    let long = [&MAGIC[..], &[1, 0xff, 0xff]].concat();
    let mut acceptor = Handshake::accept(local(1, None, ""));
    assert!(acceptor.receive(&mut BytesMut::from(&long[..])).is_err());
    let text = Refusal { reason: Reason::Busy, text: "é".repeat(PEER_HANDSHAKE_BYTES_MAX) };
    let back = Refusal::decode(&text.encode());
    assert!(text.text.starts_with(&back.text) && back.text.len() > 600);
    assert_eq!(Refusal::decode(b"\xfea\nb").text, "a b");
    assert_eq!(Refusal::decode(b"").reason, Reason::Unknown);
}

proptest! {
    #[test]
    fn any_bytes_are_frames_or_an_error_and_whole_or_in_pieces_the_same(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        begin in 0u8..64,
        length in 8u8..60,
    ) {
        let wire = [&[0, 0, 0, length, VERSION_MAX, begin][..], &bytes].concat();
        let decode_all = |piece: usize| {
            let mut input = BytesMut::new();
            let mut frames = Vec::new();
            for piece in wire.chunks(piece) {
                input.extend_from_slice(piece);
                loop {
                    match requests(Class::Control).decode(&mut input) {
                        Ok(Some(frame)) => frames.push(frame),
                        Ok(None) => break,
                        Err(error) => return (frames, Some(error)),
                    }
                }
            }
            (frames, None)
        };
        prop_assert_eq!(decode_all(1), decode_all(wire.len()));
    }

    #[test]
    fn any_bytes_in_a_handshake_are_survived(
        message in 0u8..5,
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let header = [&MAGIC[..], &[message, 0, bytes.len() as u8]].concat();
        let mut input = BytesMut::from(&[&header[..], &bytes].concat()[..]);
        let mut acceptor = Handshake::accept(local(1, None, ""));
        let _ = acceptor.receive(&mut input.clone());
        let mut dialer = Handshake::dial(local(1, None, ""), Class::Control, None);
        let _ = dialer.receive(&mut input);
    }
}
