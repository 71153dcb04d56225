//! The command line: parse it, run one command, turn its outcome into an exit code.

use std::process::ExitCode;

// Freed memory is given back to the same thread's requests: measured to be cheaper than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    bartizan::cli::main()
}
