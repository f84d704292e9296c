//! Whole groups under random faults, from one seed each: what must never happen, and that it comes right afterwards.
//!
//! `RAFT_MODEL_SEEDS=10000 cargo test -p raftline-raft --test model` runs longer; `RAFT_MODEL_SEED=7` runs one seed and
//! prints what happens.
#![allow(clippy::unwrap_used, reason = "a test may panic where it will")]

#[path = "../support/mod.rs"]
mod support;

mod checker;
mod faults;
mod world;

use faults::Faults;
use world::World;

/// Seeds of a plain `cargo test`.
const SEEDS: u64 = 600;

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

fn run(seed: u64, verbose: bool) -> checker::Marks {
    let announce = Announce(seed);
    let mut world = World::new(seed, Faults::draw(seed), verbose);
    world.run_until(FAULTY_US);
    world.calm();
    world.run_until(FAULTY_US + CALM_US);
    world.assert_converged("after the faults");
    world.propose_anywhere();
    world.run_until(FAULTY_US + CALM_US + 3_000_000);
    world.assert_converged("after one more write");
    world.checker.marks.thin_runs = u64::from(world.checker.marks.commits < 20);
    drop(announce);
    world.checker.marks
}

#[test]
fn random_faults() {
    if let Some(seed) = from_environment("RAFT_MODEL_SEED") {
        eprintln!("{:#?}", run(seed, true));
        return;
    }
    let seeds = from_environment("RAFT_MODEL_SEEDS").unwrap_or(SEEDS);
    let first = from_environment("RAFT_MODEL_FIRST").unwrap_or(1);
    let mut total = checker::Marks::default();
    for seed in first..first + seeds {
        total.add(&run(seed, false));
    }
    eprintln!("{seeds} seeds: {total:#?}");
    total.assert_reached();
    assert!(total.thin_runs * 5 < seeds, "runs that commit next to nothing prove nothing");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 1..4 {
        assert_eq!(run(seed, false), run(seed, false), "seed {seed}");
    }
}
