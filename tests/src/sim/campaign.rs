//! Many seeds: run, counted, and judged together.

use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::marks::{Mark, Marks};
use super::run::{self, Outcome, Story, Verdict};
use super::world::Counts;

/// What a campaign came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Seeds that proved something.
    pub good: u64,
    /// Seeds in which too little happened.
    pub void: Vec<u64>,
    /// Seeds that broke a property, with what was broken.
    pub bad: Vec<(u64, String)>,
    /// How much happened.
    pub counts: Counts,
    /// The situations reached.
    pub marks: Marks,
    /// Events in all stories.
    pub events: u64,
    /// Facts judged.
    pub facts: u64,
    /// Virtual time.
    pub elapsed: Duration,
    /// The longest that a cluster took to become whole.
    pub recovery_max: Duration,
    /// The seed that took it.
    pub slowest: u64,
}

impl Summary {
    /// Takes in a seed's outcome.
    pub fn add(&mut self, outcome: &Outcome) {
        match &outcome.verdict {
            Verdict::Good => self.good += 1,
            Verdict::Void => self.void.push(outcome.seed),
            Verdict::Bad(violation) => self.bad.push((outcome.seed, violation.to_string())),
        }
        self.marks.add(&outcome.marks);
        self.events += outcome.events;
        self.facts += outcome.facts;
        self.elapsed += outcome.elapsed;
        if outcome.recovery > self.recovery_max {
            (self.recovery_max, self.slowest) = (outcome.recovery, outcome.seed);
        }
        let (mine, theirs) = (&mut self.counts, &outcome.counts);
        mine.acks += theirs.acks;
        mine.elections += theirs.elections;
        mine.faults += theirs.faults;
        mine.starts += theirs.starts;
        mine.served += theirs.served;
        mine.messages += theirs.messages;
        mine.closed_by_disk += theirs.closed_by_disk;
    }

    /// Seeds taken in.
    #[must_use]
    pub fn seeds(&self) -> u64 {
        self.good + self.void.len() as u64 + self.bad.len() as u64
    }

    /// Situations that no seed reached.
    #[must_use]
    pub fn missed(&self) -> Vec<Mark> {
        self.marks.missed()
    }

    /// Why the campaign proves nothing or shows a fault; `None` if it is green.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        if let Some((seed, text)) = self.bad.iter().min() {
            return Some(format!("seed {seed}: {text}\nreplay: {}", replay(*seed)));
        }
        if self.void.len() as u64 * 4 > self.seeds() {
            return Some(format!(
                "{} of {} seeds are void: too little happened",
                self.void.len(),
                self.seeds()
            ));
        }
        let missed = self.missed();
        (!missed.is_empty()).then(|| format!("never reached: {missed:?}"))
    }
}

/// The command that repeats a seed with its story.
#[must_use]
pub fn replay(seed: u64) -> String {
    format!("cargo run --release -p raftline-tests -- sim --seed {seed}")
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(
            formatter,
            "{} seeds: {} good, {} void, {} bad; {:.0} virtual seconds, {} events, {} facts judged",
            self.seeds(),
            self.good,
            self.void.len(),
            self.bad.len(),
            self.elapsed.as_secs_f64(),
            self.events,
            self.facts
        )?;
        writeln!(
            formatter,
            "{} acks, {} records served, {} elections, {} faults, {} starts, {} messages, {} logs closed by a bad disk",
            counts.acks,
            counts.served,
            counts.elections,
            counts.faults,
            counts.starts,
            counts.messages,
            counts.closed_by_disk
        )?;
        writeln!(
            formatter,
            "slowest recovery after the last fault: {:.2} s (seed {})",
            self.recovery_max.as_secs_f64(),
            self.slowest
        )?;
        write!(formatter, "marks:\n{}", self.marks)
    }
}

/// Whether to go on after a bad seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBad {
    /// Stop at the first.
    Stop,
    /// Run all seeds.
    GoOn,
}

/// Runs seeds on so many threads, each seed on one. `progress` sees every outcome as it comes.
#[must_use]
pub fn campaign(
    seeds: Range<u64>,
    threads: usize,
    on_bad: OnBad,
    progress: impl Fn(&Outcome, &Summary) + Sync,
) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let summary = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = run_guarded(seed);
                    let mut summary = summary.lock().expect("no holder of this lock panics");
                    summary.add(&outcome);
                    progress(&outcome, &summary);
                    if on_bad == OnBad::Stop && !summary.bad.is_empty() {
                        next.store(seeds.end, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    summary.into_inner().expect("no holder of this lock panics")
}

/// Runs a seed; a panic of the code under test is a broken property like any other.
#[must_use]
pub fn run_guarded(seed: u64) -> Outcome {
    match std::panic::catch_unwind(|| run::run(seed, Story::Hash)) {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "a panic without words".to_owned());
            let check = "no panic";
            Outcome {
                seed,
                verdict: Verdict::Bad(super::check::Violation { check, text }),
                counts: Counts::default(),
                marks: Marks::default(),
                hash: 0,
                events: 0,
                facts: 0,
                recovery: Duration::ZERO,
                elapsed: Duration::ZERO,
                lines: Vec::new(),
            }
        }
    }
}
