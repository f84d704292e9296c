//! `raftlined`, Raftline's broker.

fn main() {}
