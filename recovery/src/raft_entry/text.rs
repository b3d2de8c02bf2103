//! Entries as text. What nodes say of themselves is escaped: it may hold anything.

use std::fmt::{Display, Formatter, Result};

use super::{Addresses, Announcement, Change, Content, Entry, Membership, RaftId, RaftPart};
use super::{Role, Then};

impl Display for RaftPart<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.content {
            Content::Blank => write!(f, "node {} begins its term", self.log_id.leader.node),
            Content::Entry(entry) => entry.fmt(f),
            Content::Membership(membership) => membership.fmt(f),
        }
    }
}

impl Display for Entry {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Create { cluster, node, announcement } => {
                write!(f, "cluster {cluster}  node {node}  {announcement}")
            }
            Self::NodeJoin { node, announcement } => write!(f, "node {node}  {announcement}"),
            Self::NodeUp { node, replaces, announcement } => {
                write!(f, "node {node}  replaces process {replaces}  {announcement}")
            }
            Self::NodeDown { node, incarnation } => {
                write!(f, "node {node}  process {incarnation}")
            }
            Self::NodeLeaving { node } | Self::NodeForget { node } => write!(f, "node {node}"),
            Self::Partition { partition, expect_epoch, change } => {
                write!(f, "p{partition} if in epoch {expect_epoch}  {change}")
            }
        }
    }
}

impl Display for Change {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::BeginMove { move_id, target, incarnation, then, drop } => {
                let then = match then {
                    Then::BecomePrimary => "primary",
                    Then::Replica => "replica",
                };
                write!(f, "move {move_id}  to node {target}  process {incarnation}  as {then}")?;
                match drop {
                    Some(node) => write!(f, "  instead of node {node}"),
                    None => Ok(()),
                }
            }
            Self::JoinIsr { move_id } | Self::CancelMove { move_id } => {
                write!(f, "move {move_id}")
            }
            Self::ShrinkIsr { remove } => write!(f, "without node {remove}"),
            Self::Switch { move_id, from, to, sequence } => {
                write!(f, "move {move_id}  from node {from} to node {to}  at change {sequence}")
            }
            Self::Promote { to, unclean } => {
                let unclean = if *unclean { "  unclean" } else { "" };
                write!(f, "to node {to}{unclean}")
            }
            Self::AssignEmpty { to } => write!(f, "to node {to}"),
        }
    }
}

impl Display for Announcement {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { incarnation, addresses, zone, weight, role } = self;
        write!(f, "process {incarnation}")?;
        let Addresses { bus, client, direct, http } = addresses;
        for (name, text) in
            [("bus", bus), ("client", client), ("direct", direct), ("http", http), ("zone", zone)]
        {
            if !text.is_empty() {
                write!(f, "  {name} {}", text.escape_debug())?;
            }
        }
        let role = match role {
            Role::Data => "data",
            Role::Witness => "witness",
        };
        write!(f, "  weight {weight}  {role}")
    }
}

impl Display for Membership {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let list = |ids: &[RaftId]| ids.iter().map(RaftId::to_string).collect::<Vec<_>>().join(" ");
        let groups: Vec<_> = self.configs.iter().map(|ids| list(ids)).collect();
        // Two groups are the change from one to the other.
        write!(f, "voters {}", groups.join(" -> "))?;
        let is_voter = |id: &RaftId| self.configs.iter().any(|ids| ids.contains(id));
        let learners: Vec<_> = self.nodes.keys().copied().filter(|id| !is_voter(id)).collect();
        if !learners.is_empty() {
            write!(f, "  learners {}", list(&learners))?;
        }
        Ok(())
    }
}
