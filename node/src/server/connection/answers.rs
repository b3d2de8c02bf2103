//! Replies that come from elsewhere, or are refusals: how they get into a connection's output.

use std::io;
use std::ops::Range;

use super::Connection;
use crate::command::{Args, Command, CommandError};
use crate::server::arrival;
use crate::server::blocked::unless_gone;
use crate::server::forward::{self, ForwardError, follow};
use crate::server::listen::Access;
use crate::server::slots;
use crate::shard::batch::{Batch, Requests};

impl Connection {
    /// Adds the next reply of another node to the output.
    ///
    /// # Errors
    /// The client has left while its command was followed.
    pub(super) async fn add_outgoing_reply(
        &mut self,
        target: usize,
        input: &Requests,
    ) -> io::Result<()> {
        let ((command, request), reply) = self.outgoing.next(target).await;
        match reply {
            Ok(reply) if !forward::is_refusal(reply) => self.output.raw(reply),
            // One by one: of a batch that is too long, others may be short enough.
            Ok(_) | Err(ForwardError::NotSent(_) | ForwardError::Unsendable(_)) => {
                self.follow(command, input.request(request)).await?;
            }
            Err(error) => {
                let error = forward::failure(&error);
                self.session.node.errors.count(&error);
                error.write(&mut self.output);
            }
        }
        Ok(())
    }

    /// Adds one of a batch's replies to the output.
    ///
    /// # Errors
    /// The client has left while its command was followed.
    #[inline]
    pub(super) async fn add_reply(&mut self, batch: &Batch, index: usize) -> io::Result<()> {
        let (routed, start) = batch.replied(index);
        let reply = &batch.replies.as_bytes()[start..batch.ends[index]];
        if reply.is_empty() {
            self.answer_refused(routed.command, routed.args(&batch.requests)).await
        } else {
            self.output.raw(reply);
            Ok(())
        }
    }

    /// Answers a command that is not run here, unless its keys are about to come here.
    #[cold]
    pub(super) async fn answer_unadmitted(&mut self, request: Range<usize>, error: CommandError) {
        let args = self.input.request(request);
        let result = match arrival::awaited(&self.session, args) {
            Some(command) => {
                arrival::wait(&mut self.session, command, args, &mut self.output).await
            }
            None => Err(error),
        };
        if let Err(error) = result {
            self.session.node.errors.count(&error);
            error.write(&mut self.output);
        }
    }

    /// Runs a command wherever its keys are now, unless the client leaves meanwhile.
    async fn follow(&mut self, command: Command, args: Args<'_>) -> io::Result<()> {
        let client = self.session.client().clone();
        let follow = follow(&mut self.session, command, args, &mut self.output);
        unless_gone(&client, &self.socket, follow).await
    }

    /// Answers a command that a shard has refused since its keys are not served here (any more).
    #[cold]
    async fn answer_refused(&mut self, command: Command, args: Args<'_>) -> io::Result<()> {
        if self.session.access == Access::Any && self.session.node.cluster.forward().is_some() {
            return self.follow(command, args).await;
        }
        let mut error = slots::refused(&mut self.session, command, args);
        if error == slots::try_again() {
            match arrival::wait(&mut self.session, command, args, &mut self.output).await {
                Ok(()) => return Ok(()),
                Err(last) => error = last,
            }
        } else {
            self.session.node.commands.rejected(command.index);
        }
        self.session.node.errors.count(&error);
        error.write(&mut self.output);
        Ok(())
    }
}
