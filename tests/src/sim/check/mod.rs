//! One checker per property, each in its own file, each judging facts alone and tested with hand-made bad histories.

mod acked;
mod append_durable;
mod bounded;
mod commit_kept;
mod compaction;
mod current_term;
mod deletion;
mod election;
mod fit;
#[cfg(test)]
mod hand_made;
mod idempotence;
mod identical;
mod ids;
mod leader_complete;
mod log_matching;
mod offsets;
mod quorum_durable;
mod rest;
mod retention;
mod told;
mod vote_durable;
mod voted;
mod watermark;

use std::fmt;

use super::facts::{Fact, Ledger};

/// A property of the whole cluster's history.
pub trait Check: fmt::Debug {
    /// The property's name, as FAULTS and the documentation call it.
    fn name(&self) -> &'static str;

    /// Takes in the next fact; `ledger` holds everything first committed before it.
    ///
    /// # Errors
    /// Says in words what was broken, with both sides of the contradiction.
    fn observe(&mut self, fact: &Fact<'_>, ledger: &Ledger) -> Result<(), String>;
}

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The property.
    pub check: &'static str,
    /// What was seen.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.check, self.text)
    }
}

/// All checkers and the ledger they share.
#[derive(Debug)]
pub struct Checks {
    checks: Vec<Box<dyn Check>>,
    ledger: Ledger,
    facts: u64,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            checks: vec![
                Box::new(fit::Fit),
                Box::<election::ElectionSafety>::default(),
                Box::<voted::VotedFor>::default(),
                Box::<log_matching::LogMatching>::default(),
                Box::<leader_complete::LeaderComplete>::default(),
                Box::<commit_kept::CommitKept>::default(),
                Box::<identical::Identical>::default(),
                Box::new(quorum_durable::QuorumDurable),
                Box::new(current_term::CurrentTerm),
                Box::new(vote_durable::VoteDurable),
                Box::<append_durable::AppendDurable>::default(),
                Box::<offsets::OffsetsDense>::default(),
                Box::<watermark::HighWatermark>::default(),
                Box::<told::Told>::default(),
                Box::<acked::AckedKept>::default(),
                Box::<idempotence::OncePerProducer>::default(),
                Box::new(compaction::KeyedKept),
                Box::<deletion::DeletedGone>::default(),
                Box::<ids::GivenOnce>::default(),
                Box::<retention::KeptLongEnough>::default(),
                Box::new(bounded::Bounded),
                Box::<rest::Rest>::default(),
            ],
            ledger: Ledger::default(),
            facts: 0,
        }
    }
}

impl Checks {
    /// Shows a fact to every checker, then enters it into the ledger.
    ///
    /// # Errors
    /// The first property found broken.
    pub fn observe(&mut self, fact: &Fact<'_>) -> Result<(), Violation> {
        self.facts += 1;
        for check in &mut self.checks {
            if let Err(text) = check.observe(fact, &self.ledger) {
                return Err(Violation { check: check.name(), text });
            }
        }
        self.ledger.observe(fact);
        Ok(())
    }

    /// What was committed so far.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// How many facts were judged.
    #[must_use]
    pub fn facts(&self) -> u64 {
        self.facts
    }
}
