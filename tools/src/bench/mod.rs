//! stub
use crate::cli::Common;
/// Stub.
#[derive(Debug, clap::Subcommand)]
pub enum BenchCommand {
    /// Stub.
    Produce,
}
/// Stub.
///
/// # Errors
/// Stub.
pub async fn run(_: &Common, _: BenchCommand) -> anyhow::Result<()> {
    Ok(())
}
