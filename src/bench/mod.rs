//! `kademlua bench`: loads one running node over UDP and tells how fast it answers.
//!
//! Without a target it measures this program: a node in a process of its own that knows a hundred
//! others, beside a bare echo of datagrams of the same size, in turns. The difference between the
//! two is the node's own work; the rest is the system's. The client works about as hard as an echo
//! does, so if the server is not fully busy the client bounds the rates, and the CPU time of the
//! server tells more.
//!
//! `client` asks and checks, `questions` has the requests, `company` the hundred others, `echo` the
//! echo; `host` looks after processes and processors; `xdp` measures the fast path.

mod client;
mod company;
mod echo;
mod host;
mod questions;
#[cfg(fast_path)]
mod xdp;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;

use self::client::{LoadClient, Round};
use self::host::{Cores, Process};
use self::questions::{Questions, Workload};
use crate::id::Id;
use crate::shell::{Progress, say};

/// What `bench` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Node to load; one on another machine answers no more than its source_rate [default: one that
    /// is started for the purpose, beside a bare echo]
    #[arg(long, value_name = "ADDR:PORT")]
    target: Option<SocketAddr>,
    /// What to ask, repeatable [default: ping and findnode]
    #[arg(long, value_enum)]
    rpc: Vec<Workload>,
    /// Measure the fast path in the kernel beside the node itself, over a veth pair between two
    /// network namespaces that are made for the purpose; takes root and 'ip' of iproute2
    #[arg(long, conflicts_with_all = ["target", "rpc"])]
    xdp: bool,
    /// Length of a round
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    seconds: Duration,
    /// End a round after this number of requests
    #[arg(long, value_name = "REQUESTS")]
    count: Option<u64>,
    /// Rounds of each measurement
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Requests outstanding at any time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    window: u32,
    /// Process of the target, to tell its CPU time for each request
    #[arg(long, requires = "target")]
    pid: Option<u32>,
    /// Be the echo; its replies have this number of bytes
    #[arg(long, hide = true)]
    echo: Option<usize>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds")?;
    if (0.01..=3_600.0).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err("expected 0.01 to 3600 seconds".to_owned())
}

/// Measures and prints.
///
/// # Errors
/// If the node does not answer, or a process cannot be started.
pub(crate) fn run(mut arguments: Arguments) -> anyhow::Result<()> {
    if let Some(size) = arguments.echo {
        return echo::run(size);
    }
    if arguments.xdp {
        return measure_fast_path(&arguments);
    }
    if arguments.rpc.is_empty() {
        arguments.rpc = vec![Workload::Ping, Workload::FindNode];
    }
    match arguments.target {
        Some(target) => measure_target(&arguments, target),
        None => measure_self(&arguments),
    }
}

#[cfg(fast_path)]
fn measure_fast_path(arguments: &Arguments) -> anyhow::Result<()> {
    xdp::run(arguments)
}

#[cfg(not(fast_path))]
fn measure_fast_path(_arguments: &Arguments) -> anyhow::Result<()> {
    Err(crate::xdp::Error::Unsupported.into())
}

/// Somebody else's node, alone.
fn measure_target(arguments: &Arguments, target: SocketAddr) -> anyhow::Result<()> {
    say(format_args!("{target}, {} requests outstanding", arguments.window))?;
    for &rpc in &arguments.rpc {
        let mut questions = Questions::new(rpc);
        let mut client = LoadClient::connect(target, arguments.window)?;
        client.wait_until_answered(&mut questions).context("the target does not answer")?;
        let progress = Progress::begin(rpc.name(), arguments.rounds.into());
        let rounds = (0..arguments.rounds)
            .map(|round| {
                progress.set(round.into());
                client.run(&mut questions, arguments.seconds, arguments.count, arguments.pid)
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        drop(progress);
        let total = Round::sum(rounds);
        say(format_args!("{}", line(rpc.name(), "node", &total)))?;
        check(&total)?;
    }
    Ok(())
}

/// A node of our own, in turns with an echo.
fn measure_self(arguments: &Arguments) -> anyhow::Result<()> {
    let cores = Cores::choose();
    let id = Id::of_name("bench");
    let node = cores.on_server_core(|| Process::node(id))?;
    cores.stay_on_client_core();
    let company = company::gather(id, node.address)?;
    say(format_args!(
        "node: {} contacts known; {} requests outstanding; {cores}",
        company.known, arguments.window
    ))?;
    for &rpc in &arguments.rpc {
        measure_in_turns(arguments, rpc, &node, &cores)?;
    }
    Ok(())
}

fn measure_in_turns(
    arguments: &Arguments,
    rpc: Workload,
    node: &Process,
    cores: &Cores,
) -> anyhow::Result<()> {
    let mut questions = Questions::new(rpc);
    let mut client = LoadClient::connect(node.address, arguments.window)?;
    let size = client.wait_until_answered(&mut questions).context("the node does not answer")?;
    let echo = cores.on_server_core(|| Process::echo(size))?;
    cores.stay_on_client_core();
    let mut echoed = Questions::echoed(rpc, size);
    let mut echo_client = LoadClient::connect(echo.address, arguments.window)?;
    echo_client.wait_until_answered(&mut echoed).context("the echo does not answer")?;
    let (mut echoes, mut answers) = (Vec::new(), Vec::new());
    let progress = Progress::begin(rpc.name(), arguments.rounds.into());
    for round in 0..arguments.rounds {
        progress.set(round.into());
        let (seconds, count) = (arguments.seconds, arguments.count);
        echoes.push(echo_client.run(&mut echoed, seconds, count, Some(echo.pid()))?);
        answers.push(client.run(&mut questions, seconds, count, Some(node.pid()))?);
    }
    drop(progress);
    let rates = spread(&echoes, &answers, |echo, node| Some(node.rate() / echo.rate()));
    let work = spread(&echoes, &answers, |echo, node| {
        Some(echo.cpu_micros_each()? / node.cpu_micros_each()?)
    });
    let (echoes, answers) = (Round::sum(echoes), Round::sum(answers));
    say(format_args!("{}", line(rpc.name(), "node", &answers)))?;
    say(format_args!("{}", line("", "echo", &echoes)))?;
    say(format_args!(
        "{:>20} {rates} by rate, {work} by server CPU; {size} bytes a reply",
        "node / echo"
    ))?;
    check(&answers)
}

/// Median and range of how rounds of the echo compare to rounds of the node.
fn spread(
    echoes: &[Round],
    answers: &[Round],
    ratio: impl Fn(&Round, &Round) -> Option<f64>,
) -> String {
    let ratios = echoes.iter().zip(answers).filter_map(|(echo, node)| ratio(echo, node));
    median_and_range(ratios, 2)
}

/// With `digits` decimal places.
fn median_and_range(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values[..] {
        [] => "unknown".to_owned(),
        [least, .., most] => {
            let median = values[values.len() / 2];
            format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
        }
        [only] => format!("{only:.digits$}"),
    }
}

fn check(round: &Round) -> anyhow::Result<()> {
    ensure!(round.wrong == 0, "{} of {} replies were wrong", round.wrong, round.answered);
    Ok(())
}

fn line(rpc: &str, who: &str, round: &Round) -> String {
    let micros = |quantile| round.latency_micros(quantile);
    let cpu = round.cpu_micros_each().map_or(String::new(), |cpu| {
        let busy = round.server_busy().unwrap_or_default();
        format!("  server {cpu:.2} µs CPU a request, {:.0} % busy", 100.0 * busy)
    });
    format!(
        "{rpc:10} {who:>9} {:>9.0}/s  p50 {:.0} µs  p99 {:.0} µs  p99.9 {:.0} µs  max {:.0} µs{cpu}  \
         {} lost, {} wrong",
        round.rate(),
        micros(0.5),
        micros(0.99),
        micros(0.999),
        micros(1.0),
        round.lost,
        round.wrong,
    )
}
