//! Criterion benches, one file a subject beside this one. `cargo bench -p raftline-benches` runs them all.
