//! Conversations with the group coordinator, rule by rule, and a model that holds its promises against chance.

mod anything;
mod bounds;
mod chance;
mod classic;
mod consumer;
mod consumer_model;
mod expressions;
mod late_commits;
mod ledger;
mod migrating;
mod model;
mod offsets;
mod refused;
mod world;
