//! The simulator: whole clusters from one seed, on one thread, in virtual time.

pub mod chance;
pub mod check;
pub mod facts;
pub mod heap;
pub mod marks;
pub mod trace;
