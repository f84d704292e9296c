//! ONCE-GIVEN: no producer id is given twice. Two producers with one id would take each other's batches for their own.

use std::collections::BTreeSet;

use raftline_proto::ids::ProducerId;

use super::{Check, Ledger};
use crate::sim::facts::Fact;

#[derive(Debug, Default)]
pub(super) struct GivenOnce {
    given: BTreeSet<ProducerId>,
}

impl Check for GivenOnce {
    fn name(&self) -> &'static str {
        "a producer id is given once"
    }

    fn observe(&mut self, fact: &Fact<'_>, _: &Ledger) -> Result<(), String> {
        match fact {
            Fact::IdGiven { life, id } if !self.given.insert(*id) => {
                Err(format!("{life} gives producer id {id} to a second one"))
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
    fn an_id_that_is_given_twice_trips() {
        let given = |node, id| Fact::IdGiven { life: life(node), id: ProducerId(id) };
        must_pass(GivenOnce::default(), &[given(1, 7), given(2, 8)]);
        must_trip(GivenOnce::default(), &[given(1, 7), given(2, 7)], "producer id 7");
    }
}
