//! The simulator: whole clusters from one seed, on one thread, in virtual time.
//!
//! Under test are the real shard, the real executor and the real storage. Replaced are exactly three things: the
//! clock ([`heap`]), the disk (`raftline_storage::SimDisk`) and the network ([`network`]). One seed decides
//! everything ([`plan`], [`chance`]): the same seed gives the same story, event for event ([`trace`]).
//!
//! After every event the checkers ([`check`]) judge what happened from plain facts ([`facts`]), read from the logs'
//! own bytes and the disks' durable images. Coverage marks ([`marks`]) tell what situations were reached.
//!
//! In reading order: [`plan`], [`world`], [`node`], [`clients`], [`facts`], [`check`], [`run`], [`campaign`].

pub mod campaign;
pub mod chance;
pub mod check;
pub mod clients;
pub mod facts;
pub mod heap;
pub mod marks;
pub mod network;
pub mod node;
pub mod plan;
pub mod run;
pub mod trace;
pub mod world;
