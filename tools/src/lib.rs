//! `raftline`: everything a person types. One file a command; [`run`] is the whole of the binary.
//!
//! Results go to stdout, as text for people or as JSON for programs (`-o json`); everything else goes to stderr. The
//! exit code is 0 only on success, 1 on failure, 2 for a command line that makes no sense, 10 for a cluster that is
//! not healthy.
//!
//! In reading order: [`cli`] (the grammar), then the commands by name; [`output`], [`mod@format`], [`time`] and [`lines`]
//! serve several of them.
#![forbid(unsafe_code)]

pub mod bench;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod consume;
pub mod demo;
pub mod format;
pub mod group;
pub mod lines;
pub mod log;
pub mod output;
pub mod partition;
pub mod patience;
pub mod produce;
pub mod time;
pub mod topic;

use anyhow::Context as _;
use clap::Parser;
use cli::{Cli, Command, Common};
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// Exit code of `cluster health` when the cluster is not healthy.
pub const NOT_HEALTHY: u8 = 10;

/// Runs one command.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let Cli { common, command } = cli;
    if let Command::Broker(args) = command {
        return broker::run(args);
    }
    if let Err(error) = log_to_stderr() {
        return fail(&error);
    }
    for line in raftline_broker::config::variables_that_nobody_reads() {
        let _ = writeln!(io::stderr(), "warning: {line}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start the runtime")),
    };
    let result = runtime.block_on(dispatch(common, command));
    // A task that still waits for a broker must not hold the exit up.
    runtime.shutdown_background();
    result.unwrap_or_else(|error| fail(&error))
}

async fn dispatch(common: Common, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(args) => demo::run(&common, args).await,
        Command::Topic(command) => asked(&common, topic::run(&common, command)).await,
        Command::Produce(args) => produce::run(&common, args).await.map(|()| ExitCode::SUCCESS),
        Command::Consume(args) => consume::run(&common, args).await.map(|()| ExitCode::SUCCESS),
        Command::Cluster(command) => cluster::run(&common, command).await,
        Command::Partition(command) => asked(&common, partition::run(&common, command)).await,
        Command::Group(command) => asked(&common, group::run(&common, command)).await,
        Command::Bench(command) => bench::run(&common, command).await.map(|()| ExitCode::SUCCESS),
        Command::Log(command) => log::run(&common, command),
        Command::Broker(_) => unreachable!("run before the runtime was made"),
    }
}

/// A command that asks and answers: in time, or not at all.
async fn asked(
    common: &Common,
    command: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<ExitCode> {
    patience::bounded(common, command).await.map(|()| ExitCode::SUCCESS)
}

/// Exit code of a process whose reader went away, as shells show it (128 + SIGPIPE).
const READER_GONE: u8 = 141;

fn fail(error: &anyhow::Error) -> ExitCode {
    let gone = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(gone) {
        return ExitCode::from(READER_GONE);
    }
    // If stderr is gone as well, the exit code is all that is left to say.
    let _ = writeln!(io::stderr(), "error: {error:#}");
    ExitCode::FAILURE
}

fn log_to_stderr() -> anyhow::Result<()> {
    let wanted = std::env::var("RAFTLINE_LOG").unwrap_or_else(|_| "warn".to_owned());
    let filter = raftline_broker::logging::filter(&wanted).with_context(|| {
        format!("RAFTLINE_LOG is `{wanted}`: write a filter such as info or raftline_client=debug,warn")
    })?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Where tests run several commands in one process, the first subscriber stays.
    let _ = subscriber.try_init();
    Ok(())
}
