//! The command line's grammar, and what all commands share.

use crate::output::Output;
use crate::{bench, broker, cluster, consume, demo, group, log, partition, produce, topic};
use anyhow::anyhow;
use clap::{Args, Parser, Subcommand};
use raftline_client::{Client, ClientConfig, ConnectError};
use std::time::Duration;

/// Talks to a Raftline cluster, tries it out, measures it, and reads its files.
#[derive(Debug, Parser)]
#[command(name = "raftline", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
    /// Which command.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// gRPC addresses of some brokers; the others are learnt from them.
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        env = "RAFTLINE_BROKERS",
        default_value = "127.0.0.1:9192"
    )]
    pub brokers: Vec<String>,
    /// How results are printed; diagnostics always go to stderr.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub output: Output,
    /// How long to wait for the cluster, in seconds. Commands that ask and answer end within it; `produce` gives a record
    /// up after it, `consume` once nobody can be reached for so long (for new records it waits without an end).
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 10.0, value_parser = parse_timeout)]
    pub timeout: f64,
}

impl Common {
    /// How long to wait for the cluster.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.timeout)
    }

    /// Connects.
    ///
    /// # Errors
    /// No broker answered in time.
    pub async fn client(&self) -> anyhow::Result<Client> {
        let timeout = self.timeout();
        let config = ClientConfig {
            request_timeout: timeout,
            connect_timeout: timeout.min(Duration::from_secs(3)),
            ..ClientConfig::default()
        };
        Client::connect(self.brokers.clone(), config).await.map_err(|error| match error {
            ConnectError::Unreachable { tried } => anyhow!(
                "no broker answered ({tried}): is the cluster up? --brokers or RAFTLINE_BROKERS say where it is, \
                 `raftline broker --dev` starts one of a single node"
            ),
            other => other.into(),
        })
    }
}

fn parse_timeout(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(seconds),
        Ok(_) => Err("expected more than 0 and at most 86400 seconds".into()),
        Err(_) => Err("expected a number of seconds".into()),
    }
}

/// Everything a person types.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show a three-broker cluster survive `kill -9` of a leader without losing a record.
    Demo(demo::DemoArgs),
    /// Make, list, describe, change and delete topics.
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Send lines from stdin as records.
    Produce(produce::ProduceArgs),
    /// Print records.
    Consume(consume::ConsumeArgs),
    /// Look at the cluster as a whole.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Look at partitions and move their leadership.
    #[command(subcommand)]
    Partition(partition::PartitionCommand),
    /// Look at consumer groups and set where they go on.
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Measure a cluster.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Read the files of a broker that is stopped (or running: nothing is changed).
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Run a broker in this process: the same as `raftlined`.
    Broker(broker::BrokerArgs),
}
