//! How long a command waits for the cluster: `--timeout`, for all of it and not for each question.
//!
//! Commands that ask and answer end within it. Those that go on for as long as there is something to do (`produce`,
//! `consume`, `bench`) end once the cluster has been out of reach for so long.

use crate::cli::Common;
use anyhow::{anyhow, bail};
use raftline_client::proto::ids::PartitionIndex;
use raftline_client::{Admin, AdminError, StartAt};
use std::future::Future;
use std::time::Duration;
use tokio::task::JoinSet;

/// What a question that times out by itself gets on top, so that it can say why.
const GRACE: Duration = Duration::from_millis(500);

/// Runs a command that asks and answers.
///
/// # Errors
/// Its own, or that it took too long.
pub async fn bounded<T>(
    common: &Common,
    command: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    match tokio::time::timeout(common.timeout() + GRACE, command).await {
        Ok(result) => result,
        Err(_) => bail!(
            "not done within --timeout {} s: `raftline cluster health` says what is wrong, a longer --timeout waits for it",
            common.timeout
        ),
    }
}

/// Whom a command that waits for records depends on.
pub enum Source {
    /// The leaders of these partitions of a topic, for records that are yet to come.
    Partitions(String, Vec<PartitionIndex>),
    /// The same, for records that are there.
    Rest(String, Vec<PartitionIndex>),
    /// The coordinator of this consumer group.
    Group(String),
}

impl Source {
    /// Asks all of them. A refusal is an answer, too: whoever waits hears of it by itself.
    async fn ask(self, admin: Admin) -> Result<(), String> {
        let mut asked = JoinSet::new();
        match self {
            Self::Group(group) => {
                asked.spawn(async move {
                    (format!("group `{group}`"), admin.group_members(&group).await.map(drop))
                });
            }
            Self::Partitions(topic, partitions) | Self::Rest(topic, partitions) => {
                for partition in partitions {
                    let (admin, topic) = (admin.clone(), topic.clone());
                    asked.spawn(async move {
                        let end = admin.offset(&topic, partition, StartAt::End).await;
                        (format!("{topic}/{partition}"), end.map(drop))
                    });
                }
            }
        }
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok((_, Ok(()) | Err(AdminError::Refused(_)))) => {}
                Ok((whom, Err(error))) => return Err(format!("{whom}: {error}")),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }
}

/// Returns once nobody has answered for `--timeout`. Looks when half of it has passed: to be dropped, and called anew, at
/// each record.
pub async fn out_of_reach(common: &Common, admin: &Admin, source: impl Fn() -> Source) -> anyhow::Error {
    let half = common.timeout() / 2;
    let mut answered = false;
    loop {
        tokio::time::sleep(half).await;
        if let (true, Source::Rest(topic, partitions)) = (answered, source()) {
            let places: Vec<String> = partitions.iter().map(|of| format!("{topic}/{of}")).collect();
            return anyhow!(
                "no record came for --timeout {} s, though {} should have more: `raftline cluster health` says what is \
                 wrong",
                common.timeout,
                places.join(", ")
            );
        }
        let failure = match tokio::time::timeout(half, source().ask(admin.clone())).await {
            Ok(Ok(())) => {
                answered = true;
                continue;
            }
            Ok(Err(failure)) => failure,
            Err(_) => "no answer".to_owned(),
        };
        return anyhow!(
            "nothing can be read for --timeout {} s ({failure}): `raftline cluster health` says what is wrong",
            common.timeout
        );
    }
}
