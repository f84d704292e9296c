//! The broker process of the end-to-end tests: `raftlined` as it is, under a name that these tests' build makes.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    raftline_broker::run(std::env::args_os())
}
