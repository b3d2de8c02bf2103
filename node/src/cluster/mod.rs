//! The cluster: who is a member of it, and which node owns which partition.
//!
//! Modules in reading order: [`table`], [`planner`], [`bus`], [`view`], [`raft`], [`bootstrap`],
//! [`voters`], [`lease`], [`leases`], [`leader`], `leading`, [`membership`], [`links`]; [`moves`]
//! and [`follow`], by which the table becomes true for keys; [`addresses`], [`service`] and
//! [`run`], which put all of it together; [`admin`], which operators ask; [`fault`].

pub mod addresses;
pub mod admin;
pub mod bootstrap;
pub mod bus;
pub mod fault;
pub mod follow;
pub mod leader;
mod leading;
pub mod lease;
pub mod leases;
pub mod links;
pub mod membership;
pub mod moves;
pub mod planner;
pub mod raft;
pub mod run;
pub mod service;
pub mod table;
pub mod view;
pub mod voters;
