//! The `keyway` command.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// HTTP/2 allocates some 25 times a request, and the system's allocator takes a fifth of its time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    keyway::cli::main()
}
