//! `raftline broker`: the broker's own main in this binary, so that one executable is enough for a whole cluster.

use clap::Args;
use std::ffi::OsString;
use std::process::ExitCode;

/// Everything after `broker` is raftlined's.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct BrokerArgs {
    /// As for `raftlined`: see `raftline broker --help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// Runs until the broker is stopped.
pub fn run(args: BrokerArgs) -> ExitCode {
    raftline_broker::run(std::iter::once(OsString::from("raftlined")).chain(args.args))
}
