//! Asking for leases, and granting them: the shell around [`Holder`] and [`Grantor`].
//!
//! [`Leases`] answers, on every node; only a leader grants. It collects the requests that wait,
//! confirms once for all of them that this node leads, and answers; what comes meanwhile is the
//! next batch. `hold` asks, and publishes what the node has got. A leader asks itself without any
//! network, so a cluster of one has its lease as soon as it leads.

use std::fmt::Debug;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::leader::Reported;
use super::lease::{ASK_LIMIT, Grantor, Holder, Lease, LeaseAnswer, LeaseRequest};
use super::membership::Peers;
use super::raft::{Consensus, ProposeError, Standing};
use super::table::limits::NODES_MAX;
use super::table::{Incarnation, NodeId, PARTITIONS, PartitionId, State};
use crate::clock::{self, Moment};

/// How long a majority has to confirm the leader.
pub const CONFIRM_LIMIT: Duration = Duration::from_secs(1);

/// How often a node looks whether its lease has ended, at least.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Pause between two looks, at least.
const LOOK_SOON: Duration = Duration::from_millis(10);

/// Failures in a row after which another member is asked who leads.
const LOST_AFTER: usize = 3;

/// An answer that is awaited.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Option<LeaseAnswer>> + Send + 'a>>;

/// What a node tells the leader of its partitions.
pub trait Reports: Debug + Send + Sync + 'static {
    /// Returns the bytes of each partition that the node serves. Called about once a second.
    fn partition_bytes(&self) -> Vec<(PartitionId, u64)>;
}

/// Grants leases while this node leads. Clones are handles of the same.
#[derive(Debug, Clone)]
pub struct Leases {
    consensus: Consensus,
    state: Arc<Mutex<Granting>>,
}

#[derive(Debug)]
struct Granting {
    grantor: Grantor,
    reported: Reported,
    waiting: Vec<Waiting>,
    /// Whether a task is at it.
    is_answering: bool,
}

#[derive(Debug)]
struct Waiting {
    request: LeaseRequest,
    answer: oneshot::Sender<LeaseAnswer>,
}

impl Leases {
    /// Begins with the process, which waits as a new leader does before it takes leases for ended.
    pub fn new(consensus: Consensus) -> Self {
        let grantor = Grantor::new(Moment::now());
        let (reported, waiting, is_answering) = (Reported::default(), Vec::new(), false);
        let state = Granting { grantor, reported, waiting, is_answering };
        Leases { consensus, state: Arc::new(Mutex::new(state)) }
    }

    /// Answers a request. The caller has made sure that it comes from that node and process.
    /// Must be called within a tokio runtime.
    pub async fn request(&self, request: LeaseRequest) -> LeaseAnswer {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.lock();
            // Who asks again does not wait for the answer before.
            state.waiting.retain(|waiting| waiting.request.node != request.node);
            if state.waiting.len() >= NODES_MAX {
                return LeaseAnswer::Unconfirmed;
            }
            state.waiting.push(Waiting { request, answer });
            if !state.is_answering {
                state.is_answering = true;
                tokio::spawn(self.clone().answer_all());
            }
        }
        answered.await.unwrap_or(LeaseAnswer::Unconfirmed)
    }

    /// Whether every lease of a node that the applied table says is down has ended: as whatever
    /// replaces it must wait for. The caller has confirmed that this node leads, and then read
    /// the table.
    pub fn lease_over(&self, node: NodeId) -> bool {
        let (standing, now) = (self.consensus.standing(), Moment::now());
        let mut state = self.lock();
        state.note_leadership(&standing, now);
        state.grantor.lease_over(node, now)
    }

    /// Notes what this node knows of its leadership; to be told of every change.
    pub(super) fn note_leadership(&self, standing: &Standing) {
        self.lock().note_leadership(standing, Moment::now());
    }

    /// Returns what the nodes have reported.
    pub(super) fn reported(&self) -> Reported {
        self.lock().reported.clone()
    }

    /// Answers batches until nobody waits.
    async fn answer_all(self) {
        loop {
            let batch = {
                let mut state = self.lock();
                state.is_answering = !state.waiting.is_empty();
                std::mem::take(&mut state.waiting)
            };
            if batch.is_empty() {
                return;
            }
            let confirmed = self.consensus.confirm(CONFIRM_LIMIT).await;
            self.answer_batch(batch, confirmed);
        }
    }

    fn answer_batch(&self, batch: Vec<Waiting>, confirmed: Result<u64, ProposeError>) {
        let refused = match confirmed {
            Ok(_) => None,
            Err(ProposeError::NotLeader { leader }) => Some(LeaseAnswer::NotLeader { leader }),
            Err(_) => Some(LeaseAnswer::Unconfirmed),
        };
        let (standing, now) = (self.consensus.standing(), Moment::now());
        let mut state = self.lock();
        state.note_leadership(&standing, now);
        // Read under the lock: whoever reads later that a node is down, and then asks whether its
        // lease is over, is not overtaken by this grant.
        let table = Arc::clone(&self.consensus.table().borrow());
        for Waiting { request, answer } in batch {
            let granted = refused.unwrap_or_else(|| {
                let LeaseRequest { node, incarnation, applied, .. } = request;
                let granted = state.grantor.answer(&table, node, incarnation, now);
                if matches!(granted, LeaseAnswer::Granted(_)) {
                    state.reported.note(&table, node, applied, &request.report);
                }
                granted
            });
            // Whoever does not wait any more asks again.
            let _ = answer.send(granted);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Granting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Granting {
    fn note_leadership(&mut self, standing: &Standing, now: Moment) {
        let term = standing.claims_lead.then_some(standing.term);
        if self.grantor.leads(term, now) {
            self.reported = Reported::default();
        }
    }
}

/// A node's side of its lease.
#[derive(Debug)]
pub(super) struct Holding {
    pub(super) consensus: Consensus,
    pub(super) leases: Leases,
    pub(super) peers: Arc<dyn Peers>,
    pub(super) reports: Arc<dyn Reports>,
    pub(super) incarnation: Incarnation,
    pub(super) published: watch::Sender<Lease>,
}

impl Holding {
    /// Asks for leases, and publishes them, until a leader says that the node is no member.
    pub(super) async fn hold(self) {
        let mut table = self.consensus.table();
        let mut watch = self.consensus.watch_standing();
        let mut holder = Holder::new(Moment::now());
        let mut failures = 0;
        // Who leads, as one has said who does not.
        let mut hint = None;
        loop {
            let leader = watch.standing().leader;
            let (now, whom) = (Moment::now(), hint.or(leader.filter(|_| failures < LOST_AFTER)));
            self.publish(&mut holder, now);
            let wait = holder.wait(leader, now).min(LOOK_AGAIN);
            let Some(whom) = whom.or_else(|| self.somebody(failures)).filter(|_| wait.is_zero())
            else {
                tokio::select! {
                    () = clock::sleep(wait.max(LOOK_SOON)) => {}
                    () = watch.changed() => {}
                    () = changed(&mut table) => {}
                }
                continue;
            };
            holder.ask(leader, now);
            let answer = {
                let mut asking = pin!(self.ask(whom));
                loop {
                    tokio::select! {
                        answer = &mut asking => break answer,
                        () = clock::sleep(LOOK_AGAIN) => {}
                        () = changed(&mut table) => {}
                        () = watch.changed() => {
                            let leads = watch.standing().leader;
                            // Whoever leads now is asked instead.
                            if leads.is_some() && leads != leader && leads != Some(whom) {
                                break None;
                            }
                        }
                    }
                    self.publish(&mut holder, Moment::now());
                }
            };
            holder.answered(now, answer, Moment::now());
            (failures, hint) = match answer {
                Some(LeaseAnswer::NotMember) => return,
                Some(LeaseAnswer::Granted(_) | LeaseAnswer::NotAnnounced) => (0, None),
                Some(LeaseAnswer::NotLeader { leader }) => (failures + 1, leader),
                Some(LeaseAnswer::Unconfirmed) | None => (failures + 1, None),
            };
        }
    }

    /// Another member, or this node, that may know who leads: a different one with each failure.
    fn somebody(&self, failures: usize) -> Option<NodeId> {
        let table = Arc::clone(&self.consensus.table().borrow());
        let own = self.consensus.node();
        let known = self.consensus.standing().leader;
        let others = table.nodes.keys().copied().filter(|node| *node != own);
        let all: Vec<NodeId> = known.into_iter().chain(others).collect();
        (!all.is_empty()).then(|| all[failures % all.len()])
    }

    async fn ask(&self, whom: NodeId) -> Option<LeaseAnswer> {
        let node = self.consensus.node();
        let applied = self.consensus.table().borrow().version;
        let mut report = self.reports.partition_bytes();
        report.truncate(PARTITIONS.into());
        let request = LeaseRequest { node, incarnation: self.incarnation, applied, report };
        match whom == node {
            true => clock::within(Some(CONFIRM_LIMIT), self.leases.request(request)).await,
            false => self.peers.ask_lease(whom, request, ASK_LIMIT).await,
        }
    }

    fn publish(&self, holder: &mut Holder, now: Moment) {
        let applied = self.consensus.table().borrow().version;
        let lease = holder.lease(applied, now);
        self.published.send_if_modified(|published| {
            let is_new = *published != lease;
            *published = lease;
            is_new
        });
    }
}

/// Waits for another table; forever once consensus has ended.
async fn changed(table: &mut watch::Receiver<Arc<State>>) {
    if table.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
