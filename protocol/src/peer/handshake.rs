//! The handshake: who is there, do we fit, and do both know the secret.
//!
//! ```text
//! dialer                               acceptor
//!   Hello (who I am, whom I expect)  →
//!                                    ←   Hello (who I am, the version)
//!   Proof                            →
//!                                    ←   Proof
//! ```
//!
//! Either side may send a Refusal instead of its next message, and closes behind it.
//! A message is: magic (8 bytes), type (u8), length of the content (u16), content. A hello's
//! content is: versions from and to (u8 each), flags (u8), class (u8), cluster (u128), node,
//! incarnation, expected peer (u64 each), nonce (32 bytes); all numbers big-endian. Later
//! versions append to it.
//!
//! Without a secret the proofs are empty. A node of no cluster yet fits any cluster; what it may
//! ask for is decided by who answers its requests.
//!
//! A probe does not say whom it expects, and is served nothing. It is told who is there also where
//! the two would not fit, since that is what it wants to know: another cluster, or the same node.

use bytes::{Buf, BufMut, BytesMut};

use super::proof::{Nonce, Prover, Secret, Transcript};
use super::refusal::Refusal;
use super::{Class, VERSION_MAX, VERSION_MIN};
use crate::limits::PEER_HANDSHAKE_BYTES_MAX;

/// What every message begins with. The line's end makes servers of line-based protocols answer
/// at once, so a dialer need not wait to see that they are something else.
pub const MAGIC: [u8; 8] = *b"DCBUS1\r\n";

const HEADER_BYTES: usize = MAGIC.len() + 3;
const HELLO_BYTES: usize = 4 + 16 + 3 * 8 + 32;

const HELLO: u8 = 1;
const PROOF: u8 = 2;
const REFUSAL: u8 = 3;

const HAS_SECRET: u8 = 1;
const HAS_CLUSTER: u8 = 2;
const HAS_EXPECTED: u8 = 4;

/// Who a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub node: u64,
    /// Its process.
    pub incarnation: u64,
    /// Its cluster, unless it is in none yet.
    pub cluster: Option<u128>,
}

/// What a side brings to a handshake.
#[derive(Debug, Clone)]
pub struct Local {
    /// Who it is.
    pub identity: Identity,
    /// The cluster's secret, if there is one.
    pub secret: Option<Secret>,
    /// Random bits, never used before.
    pub nonce: Nonce,
}

/// What both sides know when they have greeted each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Established {
    /// The other side.
    pub peer: Identity,
    /// What the connection is for.
    pub class: Class,
    /// The version that frames have.
    pub version: u8,
    /// Whether the dialer did not say whom it expects: it only asks who is here.
    pub is_probe: bool,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The other end speaks something else.
    #[error(
        "the other end is not the bus of a distcache node (it begins with {0:?}): correct the \
         address or its port"
    )]
    NotDistcache(String),
    /// A side refused.
    #[error("{0}")]
    Refused(Refusal),
}

/// One side of a handshake: bytes in, bytes out.
///
/// [`Handshake::receive`] takes what has arrived; what [`Handshake::output`] returns is to be
/// sent after each call, also after an error: the other side learns why.
#[derive(Debug)]
pub struct Handshake {
    local: Local,
    state: State,
    transcript: Transcript,
    output: Vec<u8>,
}

#[derive(Debug)]
enum State {
    DialerAwaitsHello { class: Class, expected: Option<u64> },
    DialerAwaitsProof(Established),
    AcceptorAwaitsHello,
    AcceptorAwaitsProof(Established),
    AcceptorDecides,
    Over,
}

/// A hello as it was understood.
struct Hello {
    version_min: u8,
    version_max: u8,
    flags: u8,
    class: u8,
    identity: Identity,
    expected: Option<u64>,
}

impl Handshake {
    /// Begins as the side that dialled. `expected`: the node that is to be there; a probe does
    /// not know it.
    pub fn dial(local: Local, class: Class, expected: Option<u64>) -> Self {
        let state = State::DialerAwaitsHello { class, expected };
        let mut handshake = Self::new(local, state);
        let hello = handshake.hello(class, expected, (VERSION_MIN, VERSION_MAX));
        handshake.transcript.dialer = hello;
        handshake.send(HELLO, &handshake.transcript.dialer.clone());
        handshake
    }

    /// Begins as the side that accepted.
    pub fn accept(local: Local) -> Self {
        Self::new(local, State::AcceptorAwaitsHello)
    }

    fn new(local: Local, state: State) -> Self {
        Handshake { local, state, transcript: Transcript::default(), output: Vec::new() }
    }

    /// Returns what is to be sent now.
    pub fn output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Takes messages out of `input`; bytes behind the handshake stay there. `None`: more must
    /// come. The side that accepted then ends it with [`Handshake::admit`] or
    /// [`Handshake::refuse`].
    ///
    /// # Errors
    /// The other side is no node, does not fit, or refused.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<Option<Established>, HandshakeError> {
        while let Some((message, payload)) = self.take_message(input)? {
            if message == REFUSAL {
                self.state = State::Over;
                return Err(HandshakeError::Refused(Refusal::decode(&payload)));
            }
            match self.step(message, &payload) {
                Ok(None) => {}
                Ok(Some(established)) => return Ok(Some(established)),
                Err(refusal) => {
                    self.refuse(&refusal);
                    return Err(HandshakeError::Refused(refusal));
                }
            }
        }
        Ok(None)
    }

    /// Accepts the peer: the last message of the side that accepted.
    pub fn admit(&mut self) {
        let secret = self.local.secret.as_ref();
        let proof = secret.map(|secret| self.transcript.prove(secret, Prover::Acceptor));
        self.send(PROOF, proof.as_ref().map_or(&[], |proof| &proof[..]));
        self.state = State::Over;
    }

    /// Refuses the peer.
    pub fn refuse(&mut self, refusal: &Refusal) {
        self.send(REFUSAL, &refusal.encode());
        self.state = State::Over;
    }

    fn step(&mut self, message: u8, payload: &[u8]) -> Result<Option<Established>, Refusal> {
        match (&self.state, message) {
            (&State::DialerAwaitsHello { class, expected }, HELLO) => {
                let established = self.greet_acceptor(payload, class, expected)?;
                self.state = State::DialerAwaitsProof(established);
                Ok(None)
            }
            (&State::AcceptorAwaitsHello, HELLO) => {
                let established = self.greet_dialer(payload)?;
                self.state = State::AcceptorAwaitsProof(established);
                Ok(None)
            }
            (&State::AcceptorAwaitsProof(established), PROOF) => {
                self.check_proof(established, Prover::Dialer, payload)?;
                self.state = State::AcceptorDecides;
                Ok(Some(established))
            }
            (&State::DialerAwaitsProof(established), PROOF) => {
                self.check_proof(established, Prover::Acceptor, payload)?;
                self.state = State::Over;
                Ok(Some(established))
            }
            _ => {
                let what = format!("a message of type {message} out of turn");
                Err(Refusal::malformed(self.local.identity.node, &what))
            }
        }
    }

    fn greet_dialer(&mut self, payload: &[u8]) -> Result<Established, Refusal> {
        let own = self.local.identity;
        let hello = self.read_hello(payload)?;
        let version = self.check_peer(&hello, hello.expected.is_none())?;
        let Some(class) = Class::from_number(hello.class) else {
            let what = format!("there is no class {}", hello.class);
            return Err(Refusal::malformed(own.node, &what));
        };
        if let Some(expected) = hello.expected
            && expected != own.node
        {
            return Err(Refusal::peer_id(own.node, expected));
        }
        self.transcript.dialer = payload.to_vec();
        self.transcript.acceptor = self.hello(class, Some(hello.identity.node), (version, version));
        self.send(HELLO, &self.transcript.acceptor.clone());
        let is_probe = hello.expected.is_none();
        Ok(Established { peer: hello.identity, class, version, is_probe })
    }

    fn greet_acceptor(
        &mut self,
        payload: &[u8],
        class: Class,
        expected: Option<u64>,
    ) -> Result<Established, Refusal> {
        let hello = self.read_hello(payload)?;
        let version = self.check_peer(&hello, expected.is_none())?;
        if let Some(expected) = expected
            && expected != hello.identity.node
        {
            return Err(Refusal::peer_id(hello.identity.node, expected));
        }
        self.transcript.acceptor = payload.to_vec();
        let secret = self.local.secret.as_ref();
        let proof = secret.map(|secret| self.transcript.prove(secret, Prover::Dialer));
        self.send(PROOF, proof.as_ref().map_or(&[], |proof| &proof[..]));
        Ok(Established { peer: hello.identity, class, version, is_probe: expected.is_none() })
    }

    /// Checks what both sides check, and returns the newest version in common.
    fn check_peer(&self, hello: &Hello, is_probe: bool) -> Result<u8, Refusal> {
        let (own, peer) = (self.local.identity, hello.identity);
        let version = hello.version_max.min(VERSION_MAX);
        if version < hello.version_min.max(VERSION_MIN) {
            let (min, max) = (hello.version_min, hello.version_max);
            return Err(Refusal::version(own.node, peer.node, min, max));
        }
        match (self.local.secret.is_some(), hello.flags & HAS_SECRET != 0) {
            (true, false) => return Err(Refusal::secret_missing(own.node, peer.node)),
            (false, true) => return Err(Refusal::secret_missing(peer.node, own.node)),
            (true, true) | (false, false) => {}
        }
        if is_probe {
            return Ok(version);
        }
        if peer.node == own.node && peer.incarnation != own.incarnation {
            return Err(Refusal::duplicate_id(own.node));
        }
        match (own.cluster, peer.cluster) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                Err(Refusal::cluster((own.node, ours), (peer.node, theirs)))
            }
            _ => Ok(version),
        }
    }

    fn check_proof(
        &self,
        established: Established,
        prover: Prover,
        proof: &[u8],
    ) -> Result<(), Refusal> {
        let verifies = match &self.local.secret {
            Some(secret) => self.transcript.verifies(secret, prover, proof),
            None => proof.is_empty(),
        };
        let (own, peer) = (self.local.identity.node, established.peer.node);
        if verifies { Ok(()) } else { Err(Refusal::secret_wrong(own, peer)) }
    }

    /// Returns the content of our hello. The side that accepted names the version that it chose
    /// as the only one it speaks to this peer.
    fn hello(&self, class: Class, expected: Option<u64>, versions: (u8, u8)) -> Vec<u8> {
        let identity = self.local.identity;
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let mut hello = Vec::with_capacity(HELLO_BYTES);
        hello.put_u8(versions.0);
        hello.put_u8(versions.1);
        hello.put_u8(
            flag(self.local.secret.is_some(), HAS_SECRET)
                | flag(identity.cluster.is_some(), HAS_CLUSTER)
                | flag(expected.is_some(), HAS_EXPECTED),
        );
        hello.put_u8(class.number());
        hello.put_u128(identity.cluster.unwrap_or(0));
        hello.put_u64(identity.node);
        hello.put_u64(identity.incarnation);
        hello.put_u64(expected.unwrap_or(0));
        hello.put_slice(&self.local.nonce);
        hello
    }

    fn read_hello(&self, mut payload: &[u8]) -> Result<Hello, Refusal> {
        if payload.len() < HELLO_BYTES {
            let what = format!("a hello of {} bytes", payload.len());
            return Err(Refusal::malformed(self.local.identity.node, &what));
        }
        let (version_min, version_max) = (payload.get_u8(), payload.get_u8());
        let (flags, class) = (payload.get_u8(), payload.get_u8());
        let cluster = Some(payload.get_u128()).filter(|_| flags & HAS_CLUSTER != 0);
        let identity =
            Identity { node: payload.get_u64(), incarnation: payload.get_u64(), cluster };
        let expected = Some(payload.get_u64()).filter(|_| flags & HAS_EXPECTED != 0);
        Ok(Hello { version_min, version_max, flags, class, identity, expected })
    }

    fn send(&mut self, message: u8, payload: &[u8]) {
        self.output.put_slice(&MAGIC);
        self.output.put_u8(message);
        self.output.put_u16(payload.len() as u16);
        self.output.put_slice(payload);
    }

    fn take_message(&self, input: &mut BytesMut) -> Result<Option<(u8, BytesMut)>, HandshakeError> {
        let begun = input.len().min(MAGIC.len());
        if input[..begun] != MAGIC[..begun] {
            let text = String::from_utf8_lossy(&input[..input.len().min(32)]).into_owned();
            return Err(HandshakeError::NotDistcache(text));
        }
        if input.len() < HEADER_BYTES {
            return Ok(None);
        }
        let mut header = &input[MAGIC.len()..];
        let (message, length) = (header.get_u8(), usize::from(header.get_u16()));
        if length > PEER_HANDSHAKE_BYTES_MAX {
            let what = format!("a message of {length} bytes");
            let refusal = Refusal::malformed(self.local.identity.node, &what);
            return Err(HandshakeError::Refused(refusal));
        }
        if input.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        input.advance(HEADER_BYTES);
        Ok(Some((message, input.split_to(length))))
    }
}
