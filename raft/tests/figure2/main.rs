//! The Raft paper's figure 2, rule by rule (extended version, 2014), and the scenario of its figure 8.
//!
//! One replica is told and asked; what the others would say is written out by hand.
#![allow(clippy::unwrap_used, reason = "a test may panic where it will")]

#[path = "../support/mod.rs"]
mod support;

mod confirming;
mod receivers;
mod roles;
mod tested;
