//! The nodes themselves report nothing impossible: no alarm, no log that cannot be opened or written without a
//! fault that explains it.

use super::{Check, Ledger};
use crate::sim::facts::Fact;

#[derive(Debug)]
pub(super) struct Fit;

impl Check for Fit {
    fn name(&self) -> &'static str {
        "no alarms, logs open again"
    }

    fn observe(&mut self, fact: &Fact<'_>, _: &Ledger) -> Result<(), String> {
        match fact {
            Fact::Failed { life, group, reason } => {
                Err(format!("{life} cannot use its log of group {group}: {reason}"))
            }
            Fact::Alarmed { life, group, alarm } => {
                Err(format!("{life} raises an alarm in group {group}: {alarm}"))
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
    fn alarms_and_failures_trip() {
        let alarm = Fact::Alarmed { life: life(1), group: GROUP, alarm: "TwoLeaders" };
        must_trip(Fit, &[alarm], "TwoLeaders");
        let failed = Fact::Failed { life: life(1), group: GROUP, reason: "bad checksum" };
        must_trip(Fit, &[failed], "bad checksum");
    }
}
