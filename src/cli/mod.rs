//! The command line: what it means, and the exit status.
//!
//! Status 0: fine; 1: the program or command failed; 2: bad usage; 130: Ctrl-C ended the program, and
//! 143 or 129 SIGTERM or SIGHUP; 3: nobody answered `get`, `put` or `locate`. Each subcommand is a module
//! with its arguments and a `run`; add one to `CliCommand` and to its `run`.

mod attach;
mod configuration;
mod descriptors;
mod grade;
mod log;
mod node;
mod nodes;
mod ping;
mod program;
mod prompt;
mod resident;
mod serve;
mod shell;
mod sim;
mod thin;
mod xdp;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{CommandFactory, Parser, Subcommand};

use crate::net::ThinError;
use crate::net::door::Which;
use crate::shell::{ChunkError, INTERRUPTED, escape_lines, for_terminal};

use self::node::NodeArguments;

/// What is wrong in a command line is not yellow, which cannot be read on white.
const STYLES: Styles = Styles::styled().invalid(AnsiColor::Magenta.on_default());

/// A Kademlia node that you can hold in your hand.
#[derive(Debug, Parser)]
#[command(name = "kademlua", version, args_conflicts_with_subcommands = true, max_term_width = 80, styles = STYLES)]
#[command(after_help = "\
Without a program the shell prompts for one, or reads it from standard input if that is no \
terminal. help() lists the functions; with --json each result is a line of JSON, in which bytes \
that are no text stand as {\"hex\": \"…\"} and numbers that JSON has not, inf and nan, as null; with \
--csv rows are CSV. With both, what is printed goes to standard error.

Exit status: 0 fine, 1 the program or command failed, 2 bad usage, 130 Ctrl-C ended the program (SIGTERM: 143, SIGHUP: 129). However it ends, the node keeps first what it has acknowledged.")]
struct Cli {
    #[command(subcommand)]
    command: Option<CliCommand>,
    #[command(flatten)]
    shell: shell::Arguments,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Run a node without a shell until it is told to stop
    Serve(serve::Arguments),
    /// Open a shell on a node that runs already
    Attach(attach::Arguments),
    /// List the nodes of this user that run
    Nodes(nodes::Arguments),
    /// Run a program on simulated networks, without a node
    Sim(sim::Arguments),
    /// Load a node over UDP and print how fast it answers
    Bench(crate::bench::Arguments),
    /// Ask whether a node answers, leaving no trace there
    Ping(ping::Arguments),
    /// Find values under a key, by way of any node
    Get(thin::Lookup),
    /// Store a value under a key, by way of any node
    Put(thin::Store),
    /// Find the node nearest to a key, by way of any node
    Locate(thin::Lookup),
    /// Let the kernel answer ping and findnode for a node
    Xdp(xdp::Arguments),
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let arguments = with_program_apart(std::env::args_os().collect());
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_unread(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // The message may quote what came from the network. Nobody is left to tell that
            // standard error is closed.
            let text = format!("kademlua: {}", escape_lines(&format!("{error:#}")));
            let _ = writeln!(io::stderr(), "{}", for_terminal(io::stderr(), &text));
            ExitCode::from(status_of(&error))
        }
    }
}

/// The exit status of `get`, `put` and `locate` where nobody answers.
const NOBODY_ANSWERED: u8 = 3;

/// Says what is wrong with the command line, or what it asked for: help, or the version.
fn explain(error: &clap::Error) -> ExitCode {
    let text = error.render().ansi().to_string();
    // Nobody is left to tell that the stream is closed.
    let _ = if error.use_stderr() {
        write!(anstream::stderr(), "{}", for_terminal(io::stderr(), &text))
    } else {
        write!(anstream::stdout(), "{}", for_terminal(io::stdout(), &text))
    };
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

fn status_of(error: &anyhow::Error) -> u8 {
    match error.downcast_ref() {
        Some(ChunkError::Interrupted) => INTERRUPTED,
        _ if error.is::<BadUsage>() => 2,
        _ if error.is::<ThinError>() => NOBODY_ANSWERED,
        _ => 1,
    }
}

/// Whether the reader of standard output has left, as `head` does when it has enough. That is no failure, for
/// ripgrep and others too.
fn is_unread(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let broken = cause.downcast_ref::<io::Error>();
        broken.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
            || matches!(cause.downcast_ref(), Some(ChunkError::Unread))
    })
}

/// The command line asks for something that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BadUsage(String);

fn run(cli: Cli) -> anyhow::Result<()> {
    descriptors::check()?;
    match cli.command {
        None => shell::run(cli.shell),
        Some(CliCommand::Serve(arguments)) => serve::run(arguments),
        Some(CliCommand::Attach(arguments)) => attach::run(arguments),
        Some(CliCommand::Nodes(arguments)) => nodes::run(&arguments),
        Some(CliCommand::Sim(arguments)) => sim::run(arguments),
        Some(CliCommand::Bench(arguments)) => crate::bench::run(arguments),
        Some(CliCommand::Ping(arguments)) => ping::run(arguments),
        Some(CliCommand::Get(arguments)) => thin::get(&arguments),
        Some(CliCommand::Put(arguments)) => thin::put(&arguments),
        Some(CliCommand::Locate(arguments)) => thin::locate(&arguments),
        Some(CliCommand::Xdp(arguments)) => xdp::run(arguments),
    }
}

/// Puts `--` before the script's name, so that everything behind it belongs to the script, whatever
/// it looks like.
fn with_program_apart(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if let Some(at) = script_position(&arguments) {
        arguments.insert(at, "--".into());
    }
    arguments
}

/// Where the script is named: the first argument that is no option, no option's value, no node, no port,
/// and no subcommand except one that takes a script.
fn script_position(arguments: &[OsString]) -> Option<usize> {
    let command = Cli::command();
    let mut taker = &command;
    let mut position = 1;
    loop {
        let word = arguments.get(position)?;
        let text = word.to_string_lossy();
        let own = ["attach", "sim"].contains(&&*text).then(|| command.find_subcommand(&*text));
        if let Some(subcommand) = own.flatten().filter(|_| position == 1) {
            taker = subcommand;
            position += 1;
            continue;
        }
        let is_other =
            taker.find_subcommand(&*text).is_some() || taker.has_subcommands() && text == "help";
        if text == "--" || is_other {
            return None;
        }
        if text.starts_with('-') {
            position += if takes_value(taker, &text) { 2 } else { 1 };
            continue;
        }
        let is_node = match taker.get_name() {
            "sim" => false,
            "attach" if Which::of(Path::new(word)).is_some() => true,
            _ => text.parse::<u64>().is_ok(),
        };
        if !is_node {
            return Some(position);
        }
        position += 1;
    }
}

fn takes_value(command: &clap::Command, option: &str) -> bool {
    command.get_arguments().any(|argument| {
        let long = argument.get_long().is_some_and(|long| option == format!("--{long}"));
        let short = argument.get_short().is_some_and(|short| option == format!("-{short}"));
        (long || short) && argument.get_action().takes_values()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apart(line: &str) -> String {
        let arguments = line.split(' ').map(OsString::from).collect();
        let apart = with_program_apart(arguments).join(" ".as_ref());
        apart.into_string().unwrap()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_script_owns_all_that_follows_its_name() {
        for (line, expected) in [
            ("kademlua", "kademlua"),
            ("kademlua 9000 -e x()", "kademlua 9000 -e x()"),
            ("kademlua a.lua -e --json", "kademlua -- a.lua -e --json"),
            ("kademlua --id ab 9000 a.lua 1", "kademlua --id ab 9000 -- a.lua 1"),
            ("kademlua --id=ab a.lua", "kademlua --id=ab -- a.lua"),
            ("kademlua serve 9000 --id ab", "kademlua serve 9000 --id ab"),
            ("kademlua attach a.lua -e --json", "kademlua attach -- a.lua -e --json"),
            ("kademlua attach 9000 --json a.lua -x", "kademlua attach 9000 --json -- a.lua -x"),
            ("kademlua attach 127.0.0.2:9000 -e x()", "kademlua attach 127.0.0.2:9000 -e x()"),
            ("kademlua sim a.lua -e --json", "kademlua sim -- a.lua -e --json"),
            ("kademlua sim --lessons . 7 -x", "kademlua sim --lessons . -- 7 -x"),
            ("kademlua sim -e--1", "kademlua sim -e--1"),
            ("kademlua nodes --json", "kademlua nodes --json"),
            ("kademlua -- a.lua", "kademlua -- a.lua"),
        ] {
            assert_eq!(apart(line), expected);
        }
    }

    #[test]
    fn what_is_given_is_what_runs() {
        let parse = |line: &str| Cli::try_parse_from(apart(line).split(' '));
        let cli = parse("kademlua 9000 a.lua -e 5").unwrap();
        assert_eq!(
            cli.shell.words().unwrap(),
            (Some(9000), vec!["a.lua".into(), "-e".into(), "5".into()])
        );
        let cli = parse("kademlua a.lua 9000").unwrap();
        assert_eq!(cli.shell.words().unwrap(), (None, vec!["a.lua".into(), "9000".into()]));
        let any = parse("kademlua 0").unwrap().shell.words();
        assert_eq!(any.unwrap(), (Some(0), Vec::new()), "any port that is free");
        assert!(parse("kademlua 70000").unwrap().shell.words().is_err());
        assert!(parse("kademlua --nonsense").is_err());
        assert!(matches!(parse("kademlua serve 1").unwrap().command, Some(CliCommand::Serve(_))));
    }
}
