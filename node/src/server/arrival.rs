//! Commands of clients that know the slots, on keys that arrive at this very moment.
//!
//! The source of a move tells its clients `MOVED` as soon as it has applied the decision, and this
//! node may hear of it a moment later. Were they sent back meanwhile, a client library could use up
//! its attempts within milliseconds. So such a command waits here, for a bounded time.

use distcache_protocol::resp::ReplyBuffer;

use super::coordinate::run_on_keys;
use super::dispatch;
use super::listen::Access;
use super::session::Session;
use super::slots::{self, Placement, try_again};
use crate::clock::{self, Ticks};
use crate::command::{Args, Command, CommandResult, Run};
use crate::limits::{ARRIVAL_PAUSE, ARRIVAL_WAIT_MAX};

/// The command, if its keys are about to arrive and its client would be sent elsewhere for them.
pub(super) fn awaited(session: &Session, args: Args<'_>) -> Option<Command> {
    if !session.may_run() {
        return None;
    }
    let command = dispatch::find(args).ok().filter(|command| command.spec.accepts(args.len()))?;
    is_awaited(session, command, args).then_some(command)
}

/// The same, of a command that the client may run.
pub(super) fn is_awaited(session: &Session, command: Command, args: Args<'_>) -> bool {
    session.access == Access::Direct
        && matches!(command.spec.run, Run::Keyspace(_))
        && is_expected(session, command, args)
}

fn is_expected(session: &Session, command: Command, args: Args<'_>) -> bool {
    slots::first_slot(command, args).is_some_and(|slot| session.node.cluster.expects(slot))
}

/// Runs a command whose keys arrive, or are just leaving, once that is over, and adds its reply.
/// Counts what became of it.
pub(super) async fn wait(
    session: &mut Session,
    command: Command,
    args: Args<'_>,
    output: &mut ReplyBuffer,
) -> CommandResult {
    let (begun, before) = (Ticks::now(), output.len());
    loop {
        session.refresh_view();
        let tried_at = Ticks::now();
        let placed = slots::place(session, command, args);
        let is_here = placed == Ok(Placement::Here);
        let tried = match placed {
            Ok(Placement::Here) => {
                run_on_keys(&session.node, session.origin(), command, args, output).await
            }
            Ok(Placement::On(_) | Placement::Spread) => Err(try_again()),
            Err(error) => Err(error),
        };
        let goes_on = match &tried {
            Ok(()) => false,
            Err(error) => *error == try_again() || is_expected(session, command, args),
        };
        if !goes_on || Ticks::now().since(begun) >= ARRIVAL_WAIT_MAX {
            if is_here && tried != Err(try_again()) {
                session.note_run(command, args, tried_at, tried.is_err());
            } else {
                session.node.commands.rejected(command.index);
            }
            return tried;
        }
        output.truncate(before);
        clock::sleep(ARRIVAL_PAUSE).await;
    }
}
