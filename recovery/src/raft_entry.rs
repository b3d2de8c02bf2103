//! What an entry of Raft's log says, as far as the inspector shows it.
//!
//! The node crate decides what is stored: openraft's types around its own (`cluster/raft/codec.rs`
//! and `cluster/table/entry.rs` there). The types here have the same form, field by field and
//! variant by variant, since the inspector knows neither the node nor openraft. New variants are
//! appended there, and then here: `node/tests/log_tool.rs` compares the two on real bytes.
//!
//! An entry of Raft's log holds entries of the table that were proposed together, behind a number
//! that says so (`cluster/raft/batch.rs`): former versions had one, and no number.

use std::collections::BTreeMap;
use std::fmt;

use bincode::config::{Configuration, Limit, LittleEndian, Varint, standard};
use bincode::error::DecodeError;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::SEALED_FILE_BYTES_MAX;
use crate::record::{Epoch, PartitionId};

mod text;

/// Most bytes that decoding may take: as the node's own.
const DECODED_BYTES_MAX: usize = 2 * SEALED_FILE_BYTES_MAX;

/// A node, a process or a move; shown as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct RaftId(pub u64);

/// A cluster; shown as 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct RaftClusterId(pub u128);

/// Who led when an entry was proposed, or who was voted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftLeader {
    /// The term.
    pub term: u64,
    /// The node.
    pub node: RaftId,
}

/// The place of an entry in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftLogId {
    /// Who proposed it.
    pub leader: RaftLeader,
    /// Its number.
    pub index: u64,
}

/// A node's vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftVote {
    /// The term, and the node that has the vote.
    pub leader: RaftLeader,
    /// Whether a majority voted so.
    pub is_committed: bool,
}

/// One entry of the log.
#[derive(Clone, Debug, Deserialize)]
pub struct RaftEntry {
    /// Its place.
    pub log_id: RaftLogId,
    payload: Payload,
}

/// One of the things that an entry of the log says: an entry of the table, or something of Raft's
/// own. Its `Display` is what it says, its place and kind aside.
#[derive(Clone, Copy, Debug)]
pub struct RaftPart<'a> {
    log_id: RaftLogId,
    content: Content<'a>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Blank,
    Entry(&'a Entry),
    Membership(&'a Membership),
}

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftSnapshot {
    /// The last entry in it.
    pub last: Option<RaftLogId>,
    /// Bytes of the cluster's table in it.
    pub bytes: u64,
    /// Who was in Raft's group, in words.
    pub members: String,
}

/// Why bytes that are undamaged say nothing: another version wrote them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another version wrote it ({0}): use the distcache-log of that version")]
pub struct UnknownForm(String);

#[derive(Clone, Debug, Deserialize)]
enum Payload {
    Blank,
    Normal(Batch),
    Membership(Membership),
}

#[derive(Clone, Debug, Deserialize)]
struct Batch {
    #[expect(dead_code, reason = "says that what follows is a batch, and nothing more")]
    form: BatchForm,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct BatchForm;

impl BatchForm {
    const NUMBER: u8 = 128;
}

impl<'de> Deserialize<'de> for BatchForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            Self::NUMBER => Ok(Self),
            other => Err(D::Error::custom(format!("entries of form {other}"))),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Membership {
    /// The voters; of two groups, both must agree.
    configs: Vec<Vec<RaftId>>,
    /// All nodes, also those that do not vote.
    nodes: BTreeMap<RaftId, Node>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Node {
    bus: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Entry {
    Create { cluster: RaftClusterId, node: RaftId, announcement: Announcement },
    NodeJoin { node: RaftId, announcement: Announcement },
    NodeUp { node: RaftId, replaces: RaftId, announcement: Announcement },
    NodeDown { node: RaftId, incarnation: RaftId },
    NodeLeaving { node: RaftId },
    NodeForget { node: RaftId },
    Partition { partition: PartitionId, expect_epoch: Epoch, change: Change },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Change {
    BeginMove {
        move_id: RaftId,
        target: RaftId,
        incarnation: RaftId,
        then: Then,
        drop: Option<RaftId>,
    },
    JoinIsr {
        move_id: RaftId,
    },
    ShrinkIsr {
        remove: RaftId,
    },
    Switch {
        move_id: RaftId,
        from: RaftId,
        to: RaftId,
        sequence: u64,
    },
    CancelMove {
        move_id: RaftId,
    },
    Promote {
        to: RaftId,
        unclean: bool,
    },
    AssignEmpty {
        to: RaftId,
    },
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all(serialize = "kebab-case"))]
enum Then {
    BecomePrimary,
    Replica,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Announcement {
    incarnation: RaftId,
    addresses: Addresses,
    zone: String,
    weight: u32,
    role: Role,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Addresses {
    bus: String,
    client: String,
    direct: String,
    http: String,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all(serialize = "kebab-case"))]
enum Role {
    Data,
    Witness,
}

/// The stored form of a snapshot: what it is, and the table.
type Snapshot = (Meta, Vec<u8>);

#[derive(Deserialize)]
struct Meta {
    last: Option<RaftLogId>,
    membership: StoredMembership,
    #[expect(dead_code, reason = "a field of the stored form that says nothing new")]
    id: String,
}

#[derive(Deserialize)]
struct StoredMembership {
    #[expect(dead_code, reason = "a field of the stored form that is not shown")]
    log_id: Option<RaftLogId>,
    membership: Membership,
}

impl RaftEntry {
    /// Reads an entry as the node stores it.
    ///
    /// # Errors
    ///
    /// When another version wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, UnknownForm> {
        decode(bytes)
    }

    /// Returns what it says, in the order in which it takes effect.
    pub fn parts(&self) -> Vec<RaftPart<'_>> {
        let part = |content| RaftPart { log_id: self.log_id, content };
        match &self.payload {
            Payload::Blank => vec![part(Content::Blank)],
            Payload::Membership(membership) => vec![part(Content::Membership(membership))],
            Payload::Normal(batch) => {
                batch.entries.iter().map(|entry| part(Content::Entry(entry))).collect()
            }
        }
    }
}

impl RaftPart<'_> {
    /// Returns what kind of thing it is.
    pub fn kind(&self) -> &'static str {
        match self.content {
            Content::Blank => "blank",
            Content::Membership(_) => "membership",
            Content::Entry(Entry::Create { .. }) => "create",
            Content::Entry(Entry::NodeJoin { .. }) => "node-join",
            Content::Entry(Entry::NodeUp { .. }) => "node-up",
            Content::Entry(Entry::NodeDown { .. }) => "node-down",
            Content::Entry(Entry::NodeLeaving { .. }) => "node-leaving",
            Content::Entry(Entry::NodeForget { .. }) => "node-forget",
            Content::Entry(Entry::Partition { change, .. }) => match change {
                Change::BeginMove { .. } => "begin-move",
                Change::JoinIsr { .. } => "join-isr",
                Change::ShrinkIsr { .. } => "shrink-isr",
                Change::Switch { .. } => "switch",
                Change::CancelMove { .. } => "cancel-move",
                Change::Promote { .. } => "promote",
                Change::AssignEmpty { .. } => "assign-empty",
            },
        }
    }
}

impl RaftSnapshot {
    /// Reads what the node stores in the file `snapshot`.
    ///
    /// # Errors
    ///
    /// When another version wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, UnknownForm> {
        let (meta, table): Snapshot = decode(bytes)?;
        Ok(Self {
            last: meta.last,
            bytes: table.len() as u64,
            members: meta.membership.membership.to_string(),
        })
    }
}

/// Reads the stored form of an entry, a vote or a place in the log.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, UnknownForm> {
    let (value, used) =
        bincode::serde::decode_from_slice(bytes, configuration()).map_err(|error| match error {
            DecodeError::OtherString(text) => UnknownForm(text),
            error => UnknownForm(error.to_string().to_lowercase()),
        })?;
    match bytes.len() - used {
        0 => Ok(value),
        extra => Err(UnknownForm(format!("{extra} bytes follow its end"))),
    }
}

fn configuration() -> Configuration<LittleEndian, Varint, Limit<DECODED_BYTES_MAX>> {
    standard().with_limit::<DECODED_BYTES_MAX>()
}

impl fmt::Display for RaftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for RaftClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for RaftId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for RaftClusterId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for RaftPart<'_> {
    /// Writes the members index, term, leader, kind and, as the kind has them, its own.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            index: u64,
            term: u64,
            leader: RaftId,
            kind: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            entry: Option<Content<'a>>,
        }
        let RaftLogId { leader, index } = self.log_id;
        let entry = Some(self.content).filter(|content| !matches!(content, Content::Blank));
        let kind = self.kind();
        Shown { index, term: leader.term, leader: leader.node, kind, entry }.serialize(serializer)
    }
}
