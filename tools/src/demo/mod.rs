//! `raftline demo`: three broker processes, real input, `kill -9` of a leader in the middle, and a reckoning.
//!
//! In reading order: this file (the conductor), [`processes`], [`input`], [`load`] (writing), [`verify`] (reading back
//! and comparing), [`story`] (what is said).

pub mod input;
pub mod load;
pub mod processes;
pub mod story;
pub mod verify;

use crate::cli::Common;
use crate::clock;
use crate::cluster;
use crate::log::diff;
use crate::output::{Output, bytes as size, count, print_json};
use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use load::{Fate, Load, PartitionHistory};
use processes::Processes;
use raftline_client::proto::ids::PartitionIndex;
use raftline_client::{Client, NewTopic, ProducerConfig};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use story::{Progress, Report, Teller};
use tokio::signal::unix::{SignalKind, signal};
use verify::Findings;

/// What to show.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Broker processes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..=9))]
    nodes: u32,
    /// A file whose lines are written [default: 200,000 lines of a made-up access log].
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Over how many seconds the lines are spread, at least.
    #[arg(long, value_name = "SECONDS", default_value_t = 8)]
    spread: u64,
    /// Keep the data and the logs, and say where.
    #[arg(long)]
    keep: bool,
}

const TOPIC: &str = "access-log";
const PARTITIONS: u32 = 6;

/// Replicas of each partition, however many nodes there are.
const REPLICATION_MAX: u32 = 3;

/// Exit code after Ctrl-C, as shells show it (128 + SIGINT).
const INTERRUPTED: u8 = 130;

/// Runs the command.
///
/// # Errors
/// The demo could not be shown; that says nothing about a verdict.
pub async fn run(common: &Common, args: DemoArgs) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // Dropping the demo ends its processes and removes its folder, whichever way this goes.
    tokio::select! {
        shown = show(common, &args) => shown,
        _ = interrupt.recv() => Ok(ExitCode::from(INTERRUPTED)),
        _ = terminate.recv() => Ok(ExitCode::from(INTERRUPTED)),
        _ = hangup.recv() => Ok(ExitCode::from(INTERRUPTED)),
    }
}

async fn show(common: &Common, args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let began = clock::monotonic();
    let teller = Teller::new(common.output);
    let lines = Arc::new(match &args.input {
        Some(path) => input::read(path)?,
        None => input::generate(input::GENERATED_LINES),
    });
    let total_bytes = lines.iter().map(|line| line.len() as u64).sum();
    let mut processes = Processes::start(args.nodes)?;
    teller.say(&format!("starting {} brokers in {}", args.nodes, processes.folder().display()));
    let mut stage = Stage { teller: &teller, nodes: args.nodes, processes: &mut processes };
    let result = stage.play(&lines, Duration::from_secs(args.spread)).await;
    let act = match result {
        Ok(act) => act,
        Err(error) => {
            let folder = processes.keep();
            return Err(error).with_context(|| {
                format!("the demo broke off; data and logs are kept in {}", folder.display())
            });
        }
    };
    let replicas_identical = match compare_replicas(&mut processes, args.nodes) {
        Ok(identical) => identical,
        Err(error) => {
            teller.say(&format!("the replicas' logs cannot be compared: {error:#}"));
            false
        }
    };
    let failed = act.failed();
    let good = act.findings.good() && failed == 0 && replicas_identical;
    let folder = (!good || args.keep).then(|| processes.keep());
    let report = Report {
        verdict: if good { "held" } else { "broken" },
        nodes: args.nodes,
        partitions: PARTITIONS,
        replication: args.nodes.min(REPLICATION_MAX),
        records: lines.len() as u64,
        bytes: total_bytes,
        acknowledged: lines.len() as u64 - failed,
        failed,
        killed_node: act.killed_node,
        killed_partitions: act.killed_partitions.iter().map(|partition| partition.get()).collect(),
        pause_ms: act.pause_ms(|partition| act.killed_partitions.contains(&partition)),
        pause_others_ms: act.pause_ms(|partition| !act.killed_partitions.contains(&partition)),
        caught_up_ms: act.caught_up.as_secs_f64() * 1000.0,
        replicas_identical,
        findings: act.findings,
        write_seconds: act.write_time.as_secs_f64(),
        seconds: began.elapsed().as_secs_f64(),
        folder: folder.map(|folder| folder.display().to_string()),
    };
    match common.output {
        Output::Json => print_json(&report)?,
        Output::Text => teller.print(&report.text()),
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What happened on the stage.
struct Act {
    killed_node: u32,
    killed_partitions: BTreeSet<PartitionIndex>,
    histories: Vec<PartitionHistory>,
    findings: Findings,
    caught_up: Duration,
    write_time: Duration,
}

impl Act {
    fn failed(&self) -> u64 {
        let fates = self.histories.iter().flat_map(|history| &history.sent);
        fates.filter(|(_, fate)| !matches!(fate, Fate::Stored(_))).count() as u64
    }

    fn pause_ms(&self, of: impl Fn(PartitionIndex) -> bool) -> f64 {
        let histories = (0..).map(PartitionIndex).zip(&self.histories);
        let pauses = histories.filter(|(partition, _)| of(*partition)).map(|(_, history)| history.pause);
        pauses.max().unwrap_or_default().as_secs_f64() * 1000.0
    }
}

struct Stage<'a> {
    teller: &'a Teller,
    nodes: u32,
    processes: &'a mut Processes,
}

impl Stage<'_> {
    async fn play(&mut self, lines: &Arc<Vec<Bytes>>, spread: Duration) -> anyhow::Result<Act> {
        let client = self.processes.client().await?;
        let topic = NewTopic {
            name: TOPIC.into(),
            partitions: PARTITIONS,
            replication: self.nodes.min(REPLICATION_MAX),
            ..NewTopic::default()
        };
        client.admin().create_topic(&topic).await?;
        let total_bytes = lines.iter().map(|line| line.len() as u64).sum();
        self.teller.say(&format!(
            "all up; writing {} lines ({}) into {PARTITIONS} partitions, each on {} brokers",
            count(lines.len() as u64),
            size(total_bytes),
            topic.replication
        ));
        let began = clock::monotonic();
        let progress = Progress::new(lines.len() as u64);
        let producer = client.producer(ProducerConfig::default());
        let load = Load::start(producer, TOPIC, PARTITIONS, lines.clone(), spread);
        let (killed_node, killed_partitions) =
            self.kill(&client, &load, &progress, lines.len() as u64).await?;
        self.restart(&load, &progress, lines.len() as u64, killed_node).await?;
        let restarted = clock::monotonic();
        self.wait(&load, &progress, Load::is_finished).await?;
        load.show(&progress);
        progress.finish();
        let histories = load.finish().await?;
        let write_time = began.elapsed();
        self.teller.say(&format!("every line is settled after {:.1} s", write_time.as_secs_f64()));
        let caught_up = self.catch_up(&client, restarted).await?;
        self.teller.say(&format!("node {killed_node} has caught up; reading everything back"));
        let mut findings = Findings::default();
        for (partition, history) in (0..).map(PartitionIndex).zip(&histories) {
            let found = verify::read_back(&client, TOPIC, partition).await?;
            verify::compare(history, &found, lines, &mut findings);
        }
        Ok(Act { killed_node, killed_partitions, histories, findings, caught_up, write_time })
    }

    /// Kills the leader of the busiest partition once a third is acknowledged.
    async fn kill(
        &mut self,
        client: &Client,
        load: &Load,
        progress: &Progress,
        total: u64,
    ) -> anyhow::Result<(u32, BTreeSet<PartitionIndex>)> {
        self.wait(load, progress, |load| load.counts.acknowledged() >= total / 3 || load.is_finished())
            .await?;
        let busiest = load.counts.busiest();
        let metadata = client.admin().cluster(vec![TOPIC.into()]).await?;
        let partitions = metadata.topics.first().map(|topic| topic.partitions.as_slice()).unwrap_or_default();
        let leader_of = |partition: PartitionIndex| {
            let found = partitions.iter().find(|info| info.partition == partition.get());
            found.and_then(|info| info.leader_node)
        };
        let Some(node) = leader_of(busiest) else {
            bail!("partition {busiest} has no leader before anything was killed")
        };
        let led = (0..PARTITIONS).map(PartitionIndex).filter(|partition| leader_of(*partition) == Some(node));
        let led: BTreeSet<PartitionIndex> = led.collect();
        self.processes.kill(node)?;
        let names: Vec<String> = led.iter().map(ToString::to_string).collect();
        let text = format!(
            "kill -9 of node {node}, which leads partition {busiest}, the busiest (it led {})",
            names.join(", ")
        );
        progress.tell(self.teller, &text);
        Ok((node, led))
    }

    /// Starts the killed node again once two thirds are acknowledged.
    async fn restart(
        &mut self,
        load: &Load,
        progress: &Progress,
        total: u64,
        node: u32,
    ) -> anyhow::Result<()> {
        self.wait(load, progress, |load| load.counts.acknowledged() >= total / 3 * 2 || load.is_finished())
            .await?;
        self.processes.restart(node)?;
        progress.tell(self.teller, &format!("node {node} is started again, on the data that it left"));
        Ok(())
    }

    async fn wait(
        &mut self,
        load: &Load,
        progress: &Progress,
        until: impl Fn(&Load) -> bool,
    ) -> anyhow::Result<()> {
        while !until(load) {
            load.show(progress);
            self.processes.check_running()?;
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until nothing is wrong with the cluster and every replica has everything.
    async fn catch_up(&mut self, client: &Client, since: Instant) -> anyhow::Result<Duration> {
        loop {
            self.processes.check_running()?;
            let sight = cluster::look(&client.admin()).await?;
            let mut problems = cluster::health::Health::of(&sight).problems;
            if problems.is_empty() && sight.nodes.len() == self.nodes as usize {
                problems.extend(lagging(&sight));
                if problems.is_empty() {
                    return Ok(since.elapsed());
                }
            }
            if since.elapsed() > CATCH_UP_MAX {
                bail!(
                    "the cluster is not whole again {CATCH_UP_MAX:?} after the restart: {}",
                    problems.join("; ")
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// How often the stage is looked at.
const POLL: Duration = Duration::from_millis(20);

/// How long the restarted node may take to catch up.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);

/// Replicas whose last entry is not the one that their leader has committed.
fn lagging(sight: &cluster::Sight) -> Vec<String> {
    let replicas = || {
        sight
            .nodes
            .values()
            .flatten()
            .flat_map(|status| status.replicas.iter().map(move |replica| (status.node, replica)))
    };
    let mut lagging = Vec::new();
    for (_, leader) in replicas().filter(|(_, replica)| replica.role == "leader") {
        for (node, replica) in replicas().filter(|(_, replica)| replica.group == leader.group) {
            if replica.last_index != leader.last_index || replica.commit_index != leader.last_index {
                lagging.push(format!("node {node} is behind in {}", cluster::place(leader)));
            }
        }
    }
    lagging
}

/// Ends all processes and compares what they left on disk.
fn compare_replicas(processes: &mut Processes, nodes: u32) -> anyhow::Result<bool> {
    processes.end_all();
    let dirs: Vec<PathBuf> = (1..=nodes).map(|node| processes.data_dir(node)).collect();
    let comparisons = diff::compare_all(&dirs)?;
    // A copy that a node was never given is no difference: with more nodes than replicas there are some.
    Ok(comparisons.values().all(|comparison| {
        let mut last = comparison.last.iter().flatten();
        let first = last.next();
        comparison.difference.is_none() && comparison.damage.is_none() && last.all(|last| Some(last) == first)
    }))
}
