//! BOUND: every queue stays within its bound.

use super::{Check, Ledger};
use crate::sim::facts::Fact;

#[derive(Debug)]
pub(super) struct Bounded;

impl Check for Bounded {
    fn name(&self) -> &'static str {
        "bounded queues"
    }

    fn observe(&mut self, fact: &Fact<'_>, _: &Ledger) -> Result<(), String> {
        match fact {
            Fact::Filled { life, what, level, bound } if level > bound => {
                Err(format!("{what} of {life} holds {level}, its bound is {bound}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::*;
    use super::*;

    #[test]
    fn past_the_bound_trips() {
        let filled = |level| Fact::Filled { life: life(1), what: "inbox", level, bound: 8 };
        must_trip(Bounded, &[filled(8), filled(9)], "inbox of node 1 (start 0) holds 9");
    }
}
