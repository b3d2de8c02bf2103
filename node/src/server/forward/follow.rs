//! A command whose keys have moved meanwhile: it is followed, and the client hears nothing of it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use distcache_protocol::resp::ReplyBuffer;

use super::outgoing::{call, received};
use super::{ForwardError, Header, batch, spread};
use crate::clock;
use crate::cluster::table::NodeId;
use crate::command::{Args, Command, CommandError};
use crate::limits::{FOLLOW_ATTEMPTS_MAX, FOLLOW_PAUSE, PAUSED_POLL};
use crate::server::blocked::Blocked;
use crate::server::coordinate::run_on_keys;
use crate::server::session::Session;
use crate::server::slots::{self, Placement};

/// What to tell the client of a node that gave no replies. A command that was perhaps executed is
/// not repeated: it could count twice.
pub(in crate::server) fn failure(error: &ForwardError) -> CommandError {
    match error {
        ForwardError::NotSent(reason) => CommandError::Other(
            format!("CLUSTERDOWN The node that serves the key is not reached: {reason}").into(),
        ),
        ForwardError::Unsendable(reason) => CommandError::err(format!(
            "the command cannot be sent to the node that serves the key: {reason}"
        )),
        ForwardError::Unknown(reason) => CommandError::err(format!(
            "the node that serves the key gave no answer, so nobody knows whether the command was \
             executed: {reason}"
        )),
    }
}

/// Nodes that were not reached while commands were followed, of what a client has sent at once: the
/// time that one command has for a node is that of all, or else each would wait for it anew.
#[derive(Debug, Default)]
pub(in crate::server) struct Unreached(Vec<Tries>);

#[derive(Debug)]
struct Tries {
    node: NodeId,
    count: usize,
    last: CommandError,
}

impl Unreached {
    /// Begins anew with all nodes.
    pub(in crate::server) fn clear(&mut self) {
        self.0.clear();
    }

    /// Why a node is not tried any more.
    fn given_up(&self, node: NodeId) -> Option<CommandError> {
        let tries = self.0.iter().find(|tries| tries.node == node)?;
        (tries.count >= FOLLOW_ATTEMPTS_MAX).then(|| tries.last.clone())
    }

    /// Notes that a node was not reached.
    fn add(&mut self, node: NodeId, last: CommandError) {
        match self.0.iter_mut().find(|tries| tries.node == node) {
            Some(tries) => (tries.count, tries.last) = (tries.count + 1, last),
            None => self.0.push(Tries { node, count: 1, last }),
        }
    }

    /// Notes that a node has answered.
    fn remove(&mut self, node: NodeId) {
        self.0.retain(|tries| tries.node != node);
    }
}

/// Waits before something is tried again; here, and only here, the client may leave.
pub(super) async fn rest(session: &Session, time: Duration) {
    let client = session.client().clone();
    let _blocked = Blocked::new(&client);
    clock::sleep(time).await;
}

/// Runs a command that was refused where its keys were thought to be, wherever they are now, and
/// adds its reply. Asks again while they are on their way, for a bounded time, and as long as their
/// node is paused.
///
/// To be run by [`unless_gone`](crate::server::blocked::unless_gone).
pub(in crate::server) fn follow<'a>(
    session: &'a mut Session,
    command: Command,
    args: Args<'a>,
    output: &'a mut ReplyBuffer,
) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
    Box::pin(async move {
        let mut attempts = 0;
        let error = loop {
            session.refresh_view();
            match attempt_once(session, command, args, output).await {
                Ok(()) => return,
                Err(Refused::ByPause) => rest(session, PAUSED_POLL).await,
                Err(Refused::Finally(error)) => break error,
                Err(Refused::ForNow(error)) => {
                    attempts += 1;
                    if attempts == FOLLOW_ATTEMPTS_MAX {
                        break error;
                    }
                    rest(session, FOLLOW_PAUSE).await;
                }
            }
        };
        session.node.errors.count(&error);
        error.write(output);
    })
}

enum Refused {
    /// Its keys are on their way, or their node is not reached: it was not executed.
    ForNow(CommandError),
    /// `CLIENT PAUSE` holds it on their node: it was not executed.
    ByPause,
    Finally(CommandError),
}

impl From<CommandError> for Refused {
    fn from(error: CommandError) -> Self {
        match error == slots::try_again() {
            true => Refused::ForNow(error),
            false => Refused::Finally(error),
        }
    }
}

async fn attempt_once(
    session: &mut Session,
    command: Command,
    args: Args<'_>,
    output: &mut ReplyBuffer,
) -> Result<(), Refused> {
    match slots::place(session, command, args)? {
        Placement::Here => {
            Ok(run_on_keys(&session.node, session.origin(), command, args, output).await?)
        }
        Placement::Spread => {
            let mut reply = ReplyBuffer::new(session.version);
            spread::run(session, command, args, &mut reply).await?;
            output.raw(reply.as_bytes());
            Ok(())
        }
        Placement::On(node) => {
            if let Some(error) = session.unreached.given_up(node) {
                return Err(Refused::Finally(error));
            }
            let batch = batch::single(Header::of(session), args);
            let call =
                call(session, node, batch).ok_or_else(|| Refused::ForNow(slots::try_again()))?;
            let received = received(call, 1).await;
            if received.is_ok() {
                session.unreached.remove(node);
            }
            match received {
                Ok(replies) => match replies.get(0) {
                    Some(batch::PAUSED) => Err(Refused::ByPause),
                    Some(reply) if !batch::is_refusal(reply) => {
                        output.raw(reply);
                        Ok(())
                    }
                    _ => Err(Refused::ForNow(slots::try_again())),
                },
                Err(error @ ForwardError::NotSent(_)) => {
                    let error = failure(&error);
                    session.unreached.add(node, error.clone());
                    Err(Refused::ForNow(error))
                }
                Err(error) => Err(Refused::Finally(failure(&error))),
            }
        }
    }
}
