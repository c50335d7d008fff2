//! The command line: what each command takes, and nothing of how it is done.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::{parse_duration, parse_listen_address};
use crate::topology::Address;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

mod admin_client;
mod demo;
mod output;
mod ring;
mod run;
mod top;

/// The exit code for "no", and for a start that failed; usage errors are clap's 2.
const NO: u8 = 1;

/// A sidecar proxy that gives an application transparent sharding and failover.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve, by a configuration file or by flags alone
    Run(RunArgs),
    /// Start three shards of two nodes with keyway in front, to try things on
    Demo(DemoArgs),
    /// Check a keyway.yaml and the topology it names, or a topology.yaml alone
    Check(CheckArgs),
    /// Look into a topology's placement
    #[command(subcommand)]
    Ring(RingCommand),
    /// Ask a running keyway where a key goes, and why
    Explain(ExplainArgs),
    /// Exit with 0 when a running keyway is ready, for containers
    Health(HealthArgs),
    /// Wait until a running keyway is ready, for scripts and startup probes
    Wait(WaitArgs),
    /// Watch a running keyway in a terminal: traffic, nodes and their standing
    Top(TopArgs),
    /// Print the JSON Schema of a configuration file
    Schema(SchemaArgs),
    /// Print the manual page, for `man`
    Man,
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Arguments of `run`.
#[derive(Args, Clone, Debug)]
struct RunArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["listen", "key", "node"])]
    config: Option<PathBuf>,
    /// Where to listen: HOST:PORT or unix:PATH
    #[arg(long, value_name = "ADDRESS", required_unless_present = "config")]
    listen: Vec<String>,
    /// Where the key is, for example header:x-user-id; several are tried in order
    #[arg(long, value_name = "SOURCE", required_unless_present = "config")]
    key: Vec<String>,
    /// A node: ID=ADDRESS
    #[arg(long, value_name = "ID=ADDRESS", required_unless_present = "config")]
    node: Vec<String>,
    /// Where the admin server listens, in place of the file's
    #[arg(long, value_name = "ADDRESS", value_parser = parse_listen_address)]
    admin: Option<Address>,
    /// This sidecar's zone, in place of the file's
    #[arg(long, env = "KEYWAY_ZONE", value_name = "ZONE")]
    zone: Option<String>,
    /// How log lines look
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormatArg,
}

/// Arguments of `demo`.
#[derive(Args, Clone, Debug)]
struct DemoArgs {
    /// Where keyway listens
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: String,
    /// Where its admin server listens
    #[arg(long, default_value = "127.0.0.1:9901", value_name = "ADDRESS")]
    admin: String,
    /// Serve as one of the demo's nodes
    #[arg(long, hide = true, value_names = ["ID", "STORE"], num_args = 2)]
    serve_node: Option<Vec<String>>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum LogFormatArg {
    /// Text on a terminal, JSON otherwise
    #[default]
    Auto,
    /// Readable lines
    Text,
    /// One JSON object a line
    Json,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    #[default]
    Text,
    /// For programs: JSON
    Json,
}

/// Arguments of `check`.
#[derive(Args, Debug)]
struct CheckArgs {
    /// The file
    file: PathBuf,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum RingCommand {
    /// Tell where keys go
    Locate(LocateArgs),
    /// Tell exactly how much of the key space a change moves, and between whom
    Diff(DiffArgs),
    /// Tell what share each shard owns
    Stats(StatsArgs),
}

/// Arguments of `ring locate`.
#[derive(Args, Debug)]
struct LocateArgs {
    /// The topology file
    #[arg(long, value_name = "FILE")]
    topology: PathBuf,
    /// The cluster
    #[arg(long, value_name = "NAME")]
    cluster: String,
    /// A file with a key a line; `-` is standard input
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// The keys
    #[arg(required_unless_present = "keys", value_name = "KEY")]
    key: Vec<std::ffi::OsString>,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Arguments of `ring diff`.
#[derive(Args, Debug)]
struct DiffArgs {
    /// The topology file before
    old: PathBuf,
    /// The topology file after
    new: PathBuf,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Arguments of `ring stats`.
#[derive(Args, Debug)]
struct StatsArgs {
    /// The topology file
    file: PathBuf,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Arguments of `explain`.
#[derive(Args, Debug)]
struct ExplainArgs {
    /// Where the admin server listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: String,
    /// The cluster
    #[arg(long, value_name = "NAME")]
    cluster: String,
    /// The key
    key: std::ffi::OsString,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Arguments of `health`.
#[derive(Args, Debug)]
struct HealthArgs {
    /// Where the admin server listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: String,
}

/// Arguments of `top`.
#[derive(Args, Debug)]
struct TopArgs {
    /// Where the admin server listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: String,
    /// How often it is asked
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    interval: Duration,
    /// Print the state once, as text, and end
    #[arg(long)]
    once: bool,
}

/// Arguments of `wait`.
#[derive(Args, Debug)]
struct WaitArgs {
    /// Where the admin server listens, or will
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: String,
    /// How long to wait, for example 30s
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    timeout: Duration,
}

/// Arguments of `schema`.
#[derive(Args, Debug)]
struct SchemaArgs {
    /// Which file's schema
    #[arg(value_enum, default_value_t)]
    file: SchemaFile,
}

/// A configuration file.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum SchemaFile {
    /// keyway.yaml
    #[default]
    Keyway,
    /// topology.yaml
    Topology,
}

/// Runs the command that the process was given.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => demo::demo(&args),
        Command::Check(args) => ring::check(&args),
        Command::Ring(RingCommand::Locate(args)) => ring::locate(&args),
        Command::Ring(RingCommand::Diff(args)) => ring::diff(&args),
        Command::Ring(RingCommand::Stats(args)) => ring::stats(&args),
        Command::Explain(args) => admin_client::explain(&args),
        Command::Health(args) => admin_client::health(&args),
        Command::Wait(args) => admin_client::wait(&args),
        Command::Top(args) => top::top(&args),
        Command::Schema(args) => ring::schema(args.file),
        Command::Man => output::manual(Cli::command()),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "keyway", &mut std::io::stdout());
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(output::Failure::No) => ExitCode::from(NO),
        Err(output::Failure::Error(message)) => {
            output::error(&message);
            ExitCode::from(NO)
        }
    }
}
