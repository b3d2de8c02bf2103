//! The cluster: who is a member of it, and which node owns which partition.
//!
//! Modules in reading order: [`table`], [`planner`], [`bus`], [`view`], [`raft`], [`bootstrap`],
//! [`voters`], [`lease`], [`leases`], [`leader`], `leading`, [`membership`], [`links`].

pub mod bootstrap;
pub mod bus;
pub mod leader;
mod leading;
pub mod lease;
pub mod leases;
pub mod links;
pub mod membership;
pub mod planner;
pub mod raft;
pub mod table;
pub mod view;
pub mod voters;
