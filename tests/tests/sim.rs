//! The simulator's own tests: a smoke campaign, and the promise that a seed tells the same story every time.

use std::num::NonZero;

use raftline_tests::sim::campaign::{self, OnBad};
use raftline_tests::sim::run::{self, Story};

/// Seeds of the smoke campaign: what fits into half a minute of one core in the dev profile.
const SMOKE_SEEDS: u64 = 200;

#[test]
fn some_hundred_seeds_hold_every_property() {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let summary = campaign::campaign(0..SMOKE_SEEDS, threads, OnBad::Stop, |_, _| {});
    println!("{summary}");
    if let Some(complaint) = summary.complaint() {
        panic!("{complaint}");
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in 0..12 {
        let (first, second) = (run::run(seed, Story::Hash), run::run(seed, Story::Lines(10)));
        assert_eq!(first.hash, second.hash, "seed {seed}: keeping lines, or a second run, changes the story");
        assert_eq!(first.events, second.events, "seed {seed}");
        assert_eq!(first.verdict, second.verdict, "seed {seed}");
    }
}
