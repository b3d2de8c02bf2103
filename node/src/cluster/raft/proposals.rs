//! Proposals on their way into Raft's log: what waits goes together, as one entry of it.
//!
//! openraft 0.9 appends one proposal after the other, and takes the next when the one before is on
//! disk (`RaftCore::append_to_log`): a proposal would wait for a sync of each one before it. So
//! one is under way at a time, and those that come meanwhile are the next one, all of them. The
//! first waits for nothing. (Known as group commit.)
//!
//! A node that does not lead hands each proposal on by itself: nothing waits for the disk before
//! the leader, where those of all nodes come together.

use openraft::Raft;
use tokio::sync::{mpsc, oneshot};

use super::TypeConfig;
use super::batch::Batch;
use super::codec::encode;
use super::handle::{ProposeError, propose_error};
use super::limits::{BATCH_ENTRIES_MAX, ENTRY_BYTES_MAX};
use crate::cluster::table::{Entry, Outcome, Refusal};

type Answer = Result<Outcome, ProposeError>;

/// Where proposals wait; clones share it.
#[derive(Clone)]
pub(super) struct Proposals {
    waiting: mpsc::Sender<Proposal>,
}

struct Proposal {
    entry: Entry,
    answer: oneshot::Sender<Answer>,
}

impl Proposals {
    /// Starts what takes proposals to Raft; it ends with the last clone of what is returned.
    pub(super) fn start(raft: Raft<TypeConfig>) -> Self {
        // No more wait than go together, so a proposal waits for one batch at most.
        let (waiting, proposals) = mpsc::channel(BATCH_ENTRIES_MAX);
        tokio::spawn(propose_in_batches(raft, proposals));
        Proposals { waiting }
    }

    /// Proposes an entry, and returns what became of it once it is applied: perhaps never, so
    /// whoever calls this limits the time. What nobody waits for any more before its turn has come
    /// is not proposed.
    pub(super) async fn propose(&self, entry: Entry) -> Answer {
        let bytes = encode(&entry).map_err(|error| ProposeError::Stopped(error.to_string()))?;
        if bytes.len() > ENTRY_BYTES_MAX {
            // As the table would say: nothing else in an entry can be long.
            return Ok(Outcome::Refused(Refusal::AnnouncementTooLong));
        }
        let stopped = |_| ProposeError::Stopped("nothing is proposed any more".to_owned());
        let (answer, answered) = oneshot::channel();
        self.waiting.send(Proposal { entry, answer }).await.map_err(stopped)?;
        answered.await.unwrap_or(Err(ProposeError::Unknown))
    }
}

async fn propose_in_batches(raft: Raft<TypeConfig>, mut proposals: mpsc::Receiver<Proposal>) {
    let mut waiting = Vec::new();
    while proposals.recv_many(&mut waiting, BATCH_ENTRIES_MAX).await > 0 {
        let wanted = waiting.drain(..).filter(|proposal| !proposal.answer.is_closed());
        let (entries, answers): (Vec<_>, Vec<_>) =
            wanted.map(|proposal| (proposal.entry, proposal.answer)).unzip();
        if !entries.is_empty() {
            propose_batch(&raft, entries, answers).await;
        }
    }
}

async fn propose_batch(
    raft: &Raft<TypeConfig>,
    entries: Vec<Entry>,
    mut answers: Vec<oneshot::Sender<Answer>>,
) {
    let proposed = tokio::select! {
        proposed = raft.client_write(Batch::new(entries)) => proposed,
        // A leader that is cut off waits for a majority without end, and openraft tells nobody of
        // an entry that a snapshot has overtaken: that must not hold up those behind it for longer
        // than somebody waits.
        () = nobody_waits(&mut answers) => return,
    };
    match proposed {
        Ok(applied) => {
            for (answer, outcome) in answers.into_iter().zip(applied.data) {
                // Who does not wait any more needs no answer.
                let _ = answer.send(Ok(outcome));
            }
        }
        Err(error) => {
            let error = propose_error(error);
            for answer in answers {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

/// Returns when all who wait have given up.
async fn nobody_waits(answers: &mut [oneshot::Sender<Answer>]) {
    for answer in answers {
        answer.closed().await;
    }
}
