//! Whole groups under random faults, from one seed each: what must never happen, and that it comes right afterwards.
//!
//! `RAFT_MODEL_SEEDS=10000 cargo test -p raftline-raft --test model` runs longer; `RAFT_MODEL_SEED=7` runs one seed and
//! prints what happens.
#![allow(clippy::unwrap_used, reason = "a test may panic where it will")]

#[path = "../support/mod.rs"]
mod support;

mod checker;
mod faults;
mod mischief;
mod world;

use faults::Faults;
use world::World;

/// Seeds of a plain `cargo test`.
const SEEDS: u64 = 400;
const SHORT_REIGNS_SEEDS: u64 = 200;

/// Virtual time with faults, and then without.
const FAULTY_US: u64 = 12_000_000;
const CALM_US: u64 = 12_000_000;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Prints the seed if the test panics while it runs.
struct Announce(u64);

impl Drop for Announce {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("\nfailing seed: RAFT_MODEL_SEED={} cargo test -p raftline-raft --test model", self.0);
        }
    }
}

fn run(seed: u64, faults: Faults, verbose: bool) -> checker::Marks {
    let announce = Announce(seed);
    let mut world = World::new(seed, faults, verbose);
    // A faster pace makes more of the same time.
    let scale = |us: u64| if world.pace() == 1 { us } else { us / 3 };
    let (faulty_us, calm_us) = (scale(FAULTY_US), scale(CALM_US));
    world.run_until(faulty_us);
    world.calm();
    world.run_until(faulty_us + calm_us);
    world.assert_converged("after the faults");
    world.propose_anywhere();
    world.run_until(faulty_us + calm_us + 3_000_000);
    world.assert_converged("after one more write");
    world.checker.marks.thin_runs = u64::from(world.checker.marks.commits < 20);
    drop(announce);
    world.checker.marks
}

/// The seeds that were asked for, or so many; what they reached together.
fn campaign(seeds: u64, faults: fn(u64) -> Faults) -> (u64, checker::Marks) {
    if let Some(seed) = from_environment("RAFT_MODEL_SEED") {
        return (1, run(seed, faults(seed), true));
    }
    let seeds = from_environment("RAFT_MODEL_SEEDS").unwrap_or(seeds);
    let first = from_environment("RAFT_MODEL_FIRST").unwrap_or(1);
    let mut total = checker::Marks::default();
    for seed in first..first + seeds {
        total.add(&run(seed, faults(seed), false));
    }
    (seeds, total)
}

#[test]
fn random_faults() {
    let (seeds, total) = campaign(SEEDS, Faults::draw);
    eprintln!("{seeds} seeds: {total:#?}");
    if seeds > 1 {
        total.assert_reached();
        assert!(total.thin_runs * 5 < seeds, "runs that commit next to nothing prove nothing");
    }
}

#[test]
fn short_reigns() {
    let (seeds, total) = campaign(SHORT_REIGNS_SEEDS, Faults::short_reigns);
    eprintln!("{seeds} seeds: {total:#?}");
    assert!(
        total.old_term_pending_at_election * 3 > total.elections,
        "few elections with old entries: {total:#?}"
    );
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 1..4 {
        let marks = || run(seed, Faults::draw(seed), false);
        assert_eq!(marks(), marks(), "seed {seed}");
    }
}
