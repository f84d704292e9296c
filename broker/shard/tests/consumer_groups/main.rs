//! Conversations with the group coordinator, rule by rule, and a model that holds its promises against chance.

mod classic;
mod offsets;
mod world;
