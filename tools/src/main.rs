//! `raftline`, Raftline's command line.

fn main() -> std::process::ExitCode {
    raftline_tools::run(std::env::args_os())
}
