//! Proof that a node knows the cluster's secret.
//!
//! Each side sends HMAC-SHA256, keyed with the secret, over a label of its direction and over
//! both sides' whole hello messages. These contain a fresh nonce of each side, both node ids and
//! incarnations, both cluster ids, the class, the expected peer and the versions, so a proof
//! fits one connection and one direction only: it can neither be replayed, nor reflected, nor
//! taken to a connection of another node, cluster, class or version.
//!
//! **What it proves**: that the other end of the handshake was, when the connection began, a
//! process that knows the secret. **What it does not**: on plain TCP, bytes that follow can be
//! read by whoever sees them, and changed or added by whoever sits between the nodes; and one
//! who relays the handshake unchanged has a connection afterwards. Who knows the secret can call
//! itself by any node id. Node and cluster ids are told to whoever asks.
//!
//! The side that dials proves first, so who only reaches the port learns nothing to guess the
//! secret from; who is dialled, or listens on the way, can try guesses as fast as it computes: a
//! secret should be long and random (`openssl rand -hex 32`).

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// 256 bits that a side uses once.
pub type Nonce = [u8; 32];

/// Bytes of a proof.
pub const PROOF_BYTES: usize = 32;

/// What all nodes of a cluster know. It prints as `(hidden)`.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Wraps the secret's bytes; `None` if there are none, since that would prove nothing.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Option<Self> {
        let bytes = bytes.into();
        (!bytes.is_empty()).then(|| Secret(bytes.into_boxed_slice()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Who proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prover {
    /// The side that opened the connection.
    Dialer,
    /// The side that accepted it.
    Acceptor,
}

/// Both sides' hello messages, as they were sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Transcript {
    pub(super) dialer: Vec<u8>,
    pub(super) acceptor: Vec<u8>,
}

impl Transcript {
    /// Returns what `prover` sends.
    pub(super) fn prove(&self, secret: &Secret, prover: Prover) -> [u8; PROOF_BYTES] {
        self.mac(secret, prover).finalize().into_bytes().into()
    }

    /// Whether `proof` is what `prover` must have sent; takes the same time wherever it differs.
    pub(super) fn verifies(&self, secret: &Secret, prover: Prover, proof: &[u8]) -> bool {
        self.mac(secret, prover).verify_slice(proof).is_ok()
    }

    fn mac(&self, secret: &Secret, prover: Prover) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).expect("HMAC takes any length");
        // All three parts are as long as they say, so no two transcripts give the same bytes.
        mac.update(match prover {
            Prover::Dialer => b"distcache bus: dialer  ",
            Prover::Acceptor => b"distcache bus: acceptor",
        });
        for hello in [&self.dialer, &self.acceptor] {
            mac.update(&(hello.len() as u64).to_be_bytes());
            mac.update(hello);
        }
        mac
    }
}
