//! The membership actor: the node's membership of its cluster, alone on its thread, where nothing
//! blocks: consensus runs beside it, and a heartbeat that is late costs an election.
//!
//! It must never touch keys: what the table means for them, `cluster::follow` carries out.

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use actix_rt::ArbiterHandle;
use tokio::sync::{oneshot, watch};

use crate::cluster::membership::{Left, Membership, MembershipError};
use crate::cluster::table::ClusterId;

/// Says that this process runs, and leads when it is its turn: its keys are there, so many.
#[derive(Message)]
#[rtype(result = "()")]
struct Announce {
    keys: u64,
}

/// What became of a membership.
pub type Ended = Result<Left, MembershipError>;

/// Owns a node's membership.
pub struct MembershipActor {
    /// `None` while it is at work.
    membership: Option<Membership>,
    new_cluster: ClusterId,
    ended: Option<oneshot::Sender<Ended>>,
    /// How many keys the node has, once they are there.
    keys: watch::Sender<Option<u64>>,
}

/// The way to the actor, and what it tells.
pub struct MembershipHandle {
    address: actix::Addr<MembershipActor>,
    /// The membership has ended, and the process must.
    pub ended: oneshot::Receiver<Ended>,
}

impl MembershipHandle {
    /// Starts the actor on its arbiter; a cluster that the node creates is called `new_cluster`.
    pub fn start(
        arbiter: &ArbiterHandle,
        membership: Membership,
        new_cluster: ClusterId,
    ) -> MembershipHandle {
        let (ended_sender, ended) = oneshot::channel();
        let actor = MembershipActor {
            membership: Some(membership),
            new_cluster,
            ended: Some(ended_sender),
            keys: watch::Sender::new(None),
        };
        let address = MembershipActor::start_in_arbiter(arbiter, move |_| actor);
        MembershipHandle { address, ended }
    }

    /// Lets the node say that it runs, once its keys are there: so many. One that is new in a
    /// cluster of others does not join with any.
    pub async fn announce(&self, keys: u64) {
        // An actor that has ended has said why.
        let _ = self.address.send(Announce { keys }).await;
    }
}

impl MembershipActor {
    /// Goes on with the membership once the node is in a cluster and has its keys.
    fn run(&mut self, context: &mut Context<Self>) {
        if self.keys.borrow().is_none() {
            return;
        }
        let Some(membership) = self.membership.take() else { return };
        let running = async move { membership.run().await };
        context.spawn(running.into_actor(self).map(|ended, actor, _| actor.end(ended)));
    }

    fn end(&mut self, ended: Ended) {
        if let Some(sender) = self.ended.take() {
            // Nobody listens where the node is stopping.
            let _ = sender.send(ended);
        }
    }
}

impl Actor for MembershipActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let Some(mut membership) = self.membership.take() else { return };
        let (new_cluster, keys) = (self.new_cluster, self.keys.subscribe());
        let bootstrap = async move { (membership.bootstrap(new_cluster, keys).await, membership) };
        context.spawn(bootstrap.into_actor(self).map(|(found, membership), actor, context| {
            match found {
                Ok(_) => {
                    actor.membership = Some(membership);
                    actor.run(context);
                }
                Err(error) => actor.end(Err(error)),
            }
        }));
    }
}

impl Handler<Announce> for MembershipActor {
    type Result = ();

    fn handle(&mut self, Announce { keys }: Announce, context: &mut Self::Context) {
        self.keys.send_replace(Some(keys));
        self.run(context);
    }
}
