//! What goes into and comes out of a shard.
//!
//! `P` is the payload: the bytes of a record batch or of a run of entries. It moves through untouched; having no
//! bounds, it cannot even be looked at here.

mod client;
mod coordinator;
mod effect;
mod event;
mod storage;

pub use client::{
    DeleteError, DeleteUpTo, Durability, EmptyFetch, FetchError, FindBy, FollowerDescription,
    GroupDescription, OffsetQuery, ProduceError, Produced, Reply, RequestId,
};
pub use coordinator::{ConfigFault, CoordinatorCommand, CoordinatorError, CoordinatorReply};
pub use effect::Effect;
pub use event::Event;
pub use storage::{
    CompactionFacts, CompactionRule, DiskSpace, LivenessChange, LogConfig, OpenedGroup, Outlived, ShardAlarm,
};
