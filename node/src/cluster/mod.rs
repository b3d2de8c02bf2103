//! The cluster: who is a member of it, and which node owns which partition.
//!
//! Modules in reading order: [`table`], [`planner`], [`bus`], [`view`].

pub mod bus;
pub mod planner;
pub mod table;
pub mod view;
