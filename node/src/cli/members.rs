//! Whom to ask: any member that answers, the one that leaves last of all.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;

use super::text::clean;
use crate::clock;
use crate::cluster::admin::{self, GIVE_UP, GiveUp, LEAVE, Leave, LeaveAnswer, STATUS, Status};
use crate::cluster::bootstrap::SEEDS_MAX;
use crate::cluster::bus::{self, Bus, BusConfig, BusError, Class, Kind, Reason};
use crate::cluster::table::{ClusterId, Incarnation, NodeId};
use crate::config::Secret;

/// How long a seed has to say who it is.
const PROBE_LIMIT: Duration = Duration::from_millis(1500);

/// How long a member has to answer.
const CALL_LIMIT: Duration = Duration::from_secs(4);

/// Why nobody has answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unanswered {
    /// A line that says of everybody who was asked why not.
    pub(super) text: String,
    /// Whether somebody was reached who cannot say yet: asking again may help.
    pub(super) may_change: bool,
}

impl Unanswered {
    fn add(&mut self, failure: Failure) {
        self.may_change |= failure.may_change;
        if !self.text.is_empty() {
            self.text += "; ";
        }
        self.text += &clean(&failure.text);
    }
}

/// Why one has not.
struct Failure {
    text: String,
    may_change: bool,
}

/// The members of a cluster, as a stranger sees them.
pub(super) struct Members {
    bus: Bus,
    has_secret: bool,
    /// Bus addresses to begin with.
    seeds: Vec<String>,
    /// Who was found at a seed; that address is as good as the one that the member announces.
    found: BTreeMap<NodeId, String>,
    /// Where members are reached.
    known: BTreeMap<NodeId, String>,
    /// Who answered last.
    last: Option<NodeId>,
    /// Who is about to go, and is asked only if nobody else answers.
    leaving: Option<NodeId>,
    /// The cluster, and the newest table that was seen: what is older is no news.
    seen: Option<(ClusterId, u64)>,
}

impl Members {
    /// Returns what knows only the seeds. Must be called within a tokio runtime.
    pub(super) fn new(mut seeds: Vec<String>, secret: Option<&Secret>) -> Self {
        seeds.truncate(SEEDS_MAX);
        let bus = Bus::client(BusConfig {
            node: NodeId(clock::random_seed()),
            incarnation: Incarnation(clock::random_seed()),
            cluster: None,
            secret: secret.and_then(|secret| bus::Secret::new(secret.reveal())),
        });
        let (found, known) = (BTreeMap::new(), BTreeMap::new());
        let has_secret = secret.is_some();
        Members { bus, has_secret, seeds, found, known, last: None, leaving: None, seen: None }
    }

    /// Asks this member only if nobody else answers.
    pub(super) fn avoid(&mut self, node: NodeId) {
        self.leaving = Some(node);
    }

    /// Asks how the cluster stands.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub(super) async fn status(&mut self) -> Result<Status, Unanswered> {
        let seen = self.seen;
        let status = self.ask(STATUS, Bytes::new(), |body| check(body, seen)).await?;
        self.seen = status.cluster.map(|cluster| (cluster, status.version));
        self.known = (status.nodes.iter())
            .map(|member| (member.node, member.addresses.bus.clone()))
            .collect();
        for (node, address) in &self.found {
            self.known.entry(*node).and_modify(|known| known.clone_from(address));
        }
        Ok(status)
    }

    /// Asks that a node leaves.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub(super) async fn leave(&mut self, node: NodeId) -> Result<LeaveAnswer, Unanswered> {
        let body = Bytes::from(admin::encode(&Leave { node }));
        self.ask(LEAVE, body, |body| admin::decode(body).map_err(|error| error.to_string())).await
    }

    /// Asks that the cluster goes on without a node that is down.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub(super) async fn give_up(&mut self, node: NodeId) -> Result<LeaveAnswer, Unanswered> {
        let body = Bytes::from(admin::encode(&GiveUp { node, is_handed_on: false }));
        self.ask(GIVE_UP, body, |body| admin::decode(body).map_err(|error| error.to_string())).await
    }

    async fn ask<T>(
        &mut self,
        kind: Kind,
        body: Bytes,
        read: impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<T, Unanswered> {
        let mut unanswered = Unanswered::default();
        let mut tried = Vec::new();
        for node in self.order() {
            tried.extend(self.known.get(&node).cloned());
            match self.call(node, kind, body.clone(), &read).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => unanswered.add(failure),
            }
        }
        for seed in self.seeds.clone().into_iter().filter(|seed| !tried.contains(seed)) {
            let asked = async {
                let peer = self.bus.probe(&seed, PROBE_LIMIT).await;
                let node = peer.map_err(|error| self.describe(&error))?.node;
                self.found.insert(node, seed.clone());
                self.known.insert(node, seed.clone());
                self.call(node, kind, body.clone(), &read).await
            };
            match asked.await {
                Ok(answer) => return Ok(answer),
                Err(failure) => unanswered.add(failure),
            }
        }
        Err(unanswered)
    }

    async fn call<T>(
        &mut self,
        node: NodeId,
        kind: Kind,
        body: Bytes,
        read: impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<T, Failure> {
        let peers: HashMap<NodeId, String> =
            self.known.iter().map(|(node, address)| (*node, address.clone())).collect();
        self.bus.set_peers(&peers);
        let called = self.bus.call(node, Class::Control, kind, body, CALL_LIMIT).await;
        let body = called.map_err(|error| self.describe(&error))?;
        let answer = read(&body).map_err(|error| {
            let address = self.known.get(&node).map_or("", String::as_str);
            Failure { text: format!("{address}: {error}"), may_change: true }
        })?;
        self.last = Some(node);
        Ok(answer)
    }

    /// Known members, in the order in which they are asked.
    fn order(&self) -> Vec<NodeId> {
        let is_last = |node: &NodeId| Some(*node) == self.last;
        let mut nodes: Vec<NodeId> = self.known.keys().copied().collect();
        nodes.sort_by_key(|node| (Some(*node) == self.leaving, !is_last(node)));
        nodes
    }

    /// What went wrong, in words for somebody who has no node.
    fn describe(&self, error: &BusError) -> Failure {
        let may_change = matches!(error, BusError::Failed { .. });
        let BusError::Refused { address, refusal } = error else {
            return Failure { text: error.to_string(), may_change };
        };
        let text = match (refusal.reason, self.has_secret) {
            (Reason::SecretMissing, false) => format!(
                "{address}: the cluster has a secret: set DISTCACHE_CLUSTER_SECRET, or give \
                 --cluster-secret"
            ),
            (Reason::SecretMissing, true) => {
                format!("{address}: the cluster has no secret, and one was given: leave it out")
            }
            (Reason::SecretWrong, _) => {
                format!("{address}: the cluster's secret is not the one that was given")
            }
            _ => error.to_string(),
        };
        Failure { text, may_change }
    }
}

/// Reads a status, unless it is of another cluster or older than one that was seen.
fn check(body: &[u8], seen: Option<(ClusterId, u64)>) -> Result<Status, String> {
    let status: Status = admin::decode(body).map_err(|error| error.to_string())?;
    let cluster = status.cluster.ok_or("the node is in no cluster yet")?;
    match seen {
        Some((known, _)) if known != cluster => Err(format!("the node is in cluster {cluster}")),
        Some((_, version)) if status.version < version => {
            Err("the node is behind the others".to_owned())
        }
        _ => Ok(status),
    }
}
