//! `raftlined`, Raftline's broker.

/// Keeps the resident memory of many small, short-lived buffers low; in the binary only, so that the library leaves
/// the choice to others.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    raftline_broker::run(std::env::args_os())
}
