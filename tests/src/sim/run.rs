//! One seed, from its plan to its verdict.

use std::time::Duration;

use raftline_proto::time::Monotonic;

use super::check::Violation;
use super::marks::Marks;
use super::plan::{Family, Plan};
use super::trace::Trace;
use super::world::{Counts, World};

/// What became of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which.
    pub seed: u64,
    /// Good, bad, or void.
    pub verdict: Verdict,
    /// How much happened.
    pub counts: Counts,
    /// The situations reached.
    pub marks: Marks,
    /// Stands for the whole story.
    pub hash: u64,
    /// Events in the story.
    pub events: u64,
    /// Facts judged.
    pub facts: u64,
    /// Virtual time until everything was well after the last fault.
    pub recovery: Duration,
    /// Virtual time in all.
    pub elapsed: Duration,
    /// The last lines of the story, if they were kept.
    pub lines: Vec<String>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Enough happened, and every property held.
    Good,
    /// Every property held, but too little happened to prove anything.
    Void,
    /// A property was broken.
    Bad(Violation),
}

/// How much of the story to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// Only its hash.
    Hash,
    /// The last lines too.
    Lines(usize),
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, story: Story) -> Outcome {
    run_plan(Plan::draw(seed), story)
}

/// Runs a plan.
#[must_use]
pub fn run_plan(plan: Plan, story: Story) -> Outcome {
    let seed = plan.seed;
    let limit = recovery_limit(&plan);
    let safety = Monotonic::ZERO + plan.safety;
    let trace = match story {
        Story::Hash => Trace::hash_only(),
        Story::Lines(bound) => Trace::with_lines(bound),
    };
    let mut world = World::new(plan, trace);
    world.run(safety);
    let mut recovery = Duration::ZERO;
    if world.judge.violation.is_none() {
        world.calm_down();
        recovery = world.settle(limit);
    }
    let verdict = match world.judge.violation.take() {
        Some(violation) => Verdict::Bad(violation),
        None if is_void(&world.counts) => Verdict::Void,
        None => Verdict::Good,
    };
    Outcome {
        seed,
        verdict,
        counts: world.counts,
        marks: world.judge.marks.clone(),
        hash: world.judge.trace.hash(),
        events: world.judge.trace.events(),
        facts: world.judge.checks.facts(),
        recovery,
        elapsed: world.elapsed(),
        lines: world.judge.trace.lines().map(str::to_owned).collect(),
    }
}

/// How long the cluster may take to become whole. A leader within five election timeouts (FAULTS, LIVE); the rest is
/// for requests that wait out their clients' patience, and for what has to be sent again.
fn recovery_limit(plan: &Plan) -> Duration {
    let elections = plan.timings.alive_lapse + plan.timings.election_max * 5;
    let rest = match plan.family {
        Family::Plain => Duration::from_secs(14),
        Family::Adversarial => Duration::from_secs(8),
    };
    elections + rest
}

fn is_void(counts: &Counts) -> bool {
    counts.acks < ACKS_MIN || counts.elections < ELECTIONS_MIN || counts.faults < FAULTS_MIN
}

/// With fewer, a run proves nothing.
const ACKS_MIN: u64 = 30;
const ELECTIONS_MIN: u64 = 3;
const FAULTS_MIN: u64 = 2;
