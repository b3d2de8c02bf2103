//! The cluster: who is a member of it, and which node owns which partition.
//!
//! Modules in reading order: [`table`], [`planner`], [`bus`], [`view`], [`raft`], [`bootstrap`],
//! [`voters`], [`membership`], [`links`].

pub mod bootstrap;
pub mod bus;
pub mod links;
pub mod membership;
pub mod planner;
pub mod raft;
pub mod table;
pub mod view;
pub mod voters;
