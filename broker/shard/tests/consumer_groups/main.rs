//! Conversations with the group coordinator, rule by rule, and a model that holds its promises against chance.

mod chance;
mod classic;
mod consumer;
mod ledger;
mod model;
mod offsets;
mod world;
