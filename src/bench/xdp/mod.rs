//! `kademlua bench --xdp`: the fast path beside the node itself, over a veth pair between two
//! network namespaces, in turns.
//!
//! The server's side has one core and the client's another. The ordinary client loads the node
//! itself; since no socket asks as fast as the kernel answers, the fast path is loaded from within
//! the kernel, where replies are counted too. Before that an ordinary client reads a sample of the
//! replies in full.
//!
//! `lab` makes the namespaces, `generator` asks and counts.

mod generator;
mod lab;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use self::generator::Generator;
use self::lab::{ADDRESSES, Lab};
use super::client::LoadClient;
use super::host::{self, Cores, Process};
use super::questions::{Questions, Workload};
use super::{Arguments, check, company, median_and_range};
use crate::id::Id;
use crate::shell::{Progress, say};
use crate::xdp::{self, Attachment, BPFFS, Counter, Mode, Pinning};

/// Requests that an ordinary client asks the fast path before it is measured.
const SAMPLE: u64 = 512;

/// How long a node may take to find the fast path: it looks every second.
const PATIENCE: Duration = Duration::from_secs(10);

/// A native program cannot make a packet longer: requests are padded to the longest reply.
const PADDED: usize = 1_400;

/// The node lends a value to the kernel after it has answered, in its next turn.
const LENT_AFTER: Duration = Duration::from_millis(100);

/// What is asked.
const ASKED: [Workload; 3] = [Workload::Ping, Workload::FindNode, Workload::Value];

/// One round of all measurements: replies a second, and the share of the time that the server's
/// core was busy.
#[derive(Clone, Copy, Default)]
struct Rates {
    own: [Rate; 3],
    swap: Rate,
    native: [Rate; 3],
    tcx: [Rate; 3],
}

#[derive(Clone, Copy, Default)]
struct Rate {
    each_second: f64,
    busy: f64,
}

impl Rate {
    /// What the rate would be if the server's core did nothing else; if that core is idle part of
    /// the time, the client bounds the rate.
    fn each_busy_second(&self) -> f64 {
        self.each_second / self.busy
    }
}

/// Measures how busy the server's core is meanwhile.
struct CoreWatch {
    core: usize,
    before: [u64; 2],
}

impl CoreWatch {
    fn start(core: usize) -> CoreWatch {
        CoreWatch { core, before: host::core_time(core).unwrap_or_default() }
    }

    /// The share of the time since then, 0 to 1.
    fn busy(&self) -> f64 {
        let after = host::core_time(self.core).unwrap_or_default();
        let [busy, all] = [0, 1].map(|index| after[index].saturating_sub(self.before[index]));
        busy as f64 / all.max(1) as f64
    }
}

struct Bench<'a> {
    arguments: &'a Arguments,
    lab: Lab,
    node: Process,
    generator: Generator,
}

/// Measures and prints.
///
/// # Errors
/// Without root, `ip`, or two cores; if the kernel refuses something, or a reply is wrong.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let cores = Cores::choose();
    let pair = cores.pair().context("--xdp needs two cores, one for each side")?;
    let lab = Lab::new(pair)?;
    let id = Id::of_name("bench");
    let ip = ADDRESSES[0].into();
    let node = lab.server.within(|| cores.on_server_core(|| Process::node_at(id, ip, true)))??;
    cores.stay_on_client_core();
    let company = lab.server.within(|| company::gather(id, node.address))??;
    let generator = Generator::load(&lab.client, node.address)?;
    let known = company.known;
    say(format_args!("node: {known} contacts known; two namespaces, veth; {cores}"))?;
    let mut bench = Bench { arguments, lab, node, generator };
    let progress = Progress::begin("rounds", arguments.rounds.into());
    let rounds = (0..arguments.rounds)
        .map(|round| {
            progress.set(round.into());
            bench.round()
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    drop(progress);
    say(report(&rounds))?;
    Ok(())
}

impl Bench<'_> {
    fn round(&mut self) -> anyhow::Result<Rates> {
        let mut own = [Rate::default(); 3];
        for (rate, rpc) in own.iter_mut().zip(ASKED) {
            *rate = self.own(rpc)?;
        }
        let swap = self.swap()?;
        let native = self.fast_path(Mode::Native)?;
        let tcx = self.fast_path(Mode::Tcx)?;
        Ok(Rates { own, swap, native, tcx })
    }

    /// The node itself, asked by an ordinary client.
    fn own(&self, rpc: Workload) -> anyhow::Result<Rate> {
        for end in [&self.lab.server, &self.lab.client] {
            end.steer_ordinary(true)?;
        }
        let mut questions = Questions::new(rpc);
        let mut client = self.client()?;
        client.wait_until_answered(&mut questions).context("the node does not answer")?;
        let Arguments { seconds, count, .. } = *self.arguments;
        let watch = CoreWatch::start(self.lab.server.core);
        let round = client.run(&mut questions, seconds, count, None)?;
        let busy = watch.busy();
        check(&round)?;
        for end in [&self.lab.server, &self.lab.client] {
            end.steer_ordinary(false)?;
        }
        Ok(Rate { each_second: round.rate(), busy })
    }

    /// A program that only sends findnode requests back.
    fn swap(&mut self) -> anyhow::Result<Rate> {
        let _sink = self.generator.attach("sink", &self.lab.client)?;
        let _swap = self.generator.attach("swap", &self.lab.server)?;
        self.steer_xdp()?;
        self.rate(Workload::FindNode, PADDED, false)
    }

    /// All that is asked.
    fn fast_path(&mut self, mode: Mode) -> anyhow::Result<[Rate; 3]> {
        let _sink = self.generator.attach("sink", &self.lab.client)?;
        // It passes all packets that come here, but an interface takes frames made by the kernel
        // only if it has XDP.
        let _entrance = match mode {
            Mode::Tcx => Some(self.generator.attach("sink", &self.lab.server)?),
            _ => None,
        };
        let attached = ServerFastPath::new(self, mode)?;
        self.steer_xdp()?;
        let len = |rpc| match (rpc, mode) {
            (Workload::FindNode | Workload::Value, Mode::Native) => PADDED,
            // In the state that it is in.
            _ => 0,
        };
        let mut rates = [Rate::default(); 3];
        for (rate, rpc) in rates.iter_mut().zip(ASKED) {
            self.check_sample(&attached.place, rpc, len(rpc))?;
            *rate = self.rate(rpc, len(rpc), true)?;
        }
        self.lab.server.within(|| attached.detach())??;
        Ok(rates)
    }

    /// Both sides' threads on their cores.
    fn steer_xdp(&self) -> anyhow::Result<()> {
        self.lab.client.steer_xdp()?;
        self.lab.server.steer_xdp()
    }

    /// Checks replies to an ordinary client in full; the kernel must have sent them.
    fn check_sample(&self, place: &Pinning, rpc: Workload, len: usize) -> anyhow::Result<()> {
        let answered = || -> anyhow::Result<u64> {
            let status = self.lab.server.within(|| xdp::status(place))??;
            Ok(status.count(match rpc {
                Workload::Ping => Counter::AnsweredPing,
                Workload::Value => Counter::AnsweredFindValue,
                _ => Counter::AnsweredFindNode,
            }))
        };
        let mut questions = Questions::new(rpc).padded(len);
        let mut client = self.client()?;
        // A value must be asked for before it is lent to the kernel.
        client.wait_until_answered(&mut questions).context("nobody answers")?;
        std::thread::sleep(LENT_AFTER);
        let before = answered()?;
        let round = client.run(&mut questions, PATIENCE, Some(SAMPLE), None)?;
        check(&round)?;
        let answered = answered()? - before;
        ensure!(
            answered >= SAMPLE && round.answered >= SAMPLE,
            "of {} {} requests the kernel answered {answered}",
            round.answered,
            rpc.name()
        );
        Ok(())
    }

    /// The rate that the generator reaches; if `responses`, whole responses must come back.
    fn rate(&mut self, rpc: Workload, len: usize, responses: bool) -> anyhow::Result<Rate> {
        let questions = Questions::new(rpc).padded(len);
        let (message, target) = questions.first();
        let target = (rpc == Workload::FindNode).then_some(&target.as_bytes()[..]);
        let client = SocketAddr::from((ADDRESSES[1], 0));
        self.generator.ask(client, message, target, message.len())?;
        let watch = CoreWatch::start(self.lab.server.core);
        let (replies, took) = self.generator.run(&self.lab.client, self.arguments.seconds)?;
        let busy = watch.busy();
        if responses {
            let mean = replies.bytes / replies.responses.max(1);
            // The node asks the generator now and then who it is.
            let others = replies.any - replies.responses;
            ensure!(
                others <= replies.any / 1_000 && (rpc == Workload::Ping || mean > 600),
                "of {} replies {} were responses, of {mean} bytes each",
                replies.any,
                replies.responses,
            );
        }
        Ok(Rate { each_second: replies.any as f64 / took.as_secs_f64(), busy })
    }

    fn client(&self) -> anyhow::Result<LoadClient> {
        self.lab.client.within(|| LoadClient::connect(self.node.address, self.arguments.window))?
    }
}

/// The fast path at the server's interface.
struct ServerFastPath {
    place: Pinning,
}

impl ServerFastPath {
    /// Attaches it, without limits, and waits until the node has filled it.
    fn new(bench: &Bench<'_>, mode: Mode) -> anyhow::Result<ServerFastPath> {
        let place = Pinning { bpffs: BPFFS.into(), port: bench.node.address.port() };
        let interface = &bench.lab.server.interface;
        let mut attachment = Attachment::new(place.clone(), interface);
        attachment.mode = Some(mode);
        bench.lab.server.within(|| xdp::attach(&attachment))??;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let status = bench.lab.server.within(|| xdp::status(&place))??;
            if status.is_answering() && status.contacts[0] > 0 {
                return Ok(ServerFastPath { place });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the node does not use the fast path within {PATIENCE:?}")
    }

    fn detach(&self) -> Result<(), xdp::Error> {
        xdp::detach(&self.place)
    }
}

fn report(rounds: &[Rates]) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, of: &dyn Fn(&Rates) -> Rate| {
        let rates = median_and_range(rounds.iter().map(|round| of(round).each_second), 0);
        let busy = rounds.iter().map(|round| 100.0 * of(round).busy);
        let busy = median_and_range(busy, 0);
        lines.push(format!("{name:26} {rates}/s, server {busy} % busy"));
    };
    line("ping, node", &|round| round.own[0]);
    line("ping, native", &|round| round.native[0]);
    line("ping, tcx", &|round| round.tcx[0]);
    line("findnode, node", &|round| round.own[1]);
    line("findnode, native, padded", &|round| round.native[1]);
    line("findnode, tcx", &|round| round.tcx[1]);
    line("value, node", &|round| round.own[2]);
    line("value, native, padded", &|round| round.native[2]);
    line("value, tcx", &|round| round.tcx[2]);
    line("addresses swapped", &|round| round.swap);
    lines.push("ratios, and what they are for each second that the server's core is busy:".into());
    let mut ratio = |name: &str, of: &dyn Fn(&Rates) -> (Rate, Rate)| {
        let pairs = || rounds.iter().map(of);
        let ratios = pairs().map(|(a, b)| a.each_second / b.each_second);
        let of_busy = pairs().map(|(a, b)| a.each_busy_second() / b.each_busy_second());
        let [ratios, of_busy] = [median_and_range(ratios, 2), median_and_range(of_busy, 2)];
        lines.push(format!("{name:40} {ratios:24} {of_busy}"));
    };
    ratio("ping, native / node", &|round| (round.native[0], round.own[0]));
    ratio("ping, tcx / node", &|round| (round.tcx[0], round.own[0]));
    ratio("findnode, native / node", &|round| (round.native[1], round.own[1]));
    ratio("findnode, native / addresses swapped", &|round| (round.native[1], round.swap));
    ratio("findnode, tcx / node", &|round| (round.tcx[1], round.own[1]));
    ratio("value, native / node", &|round| (round.native[2], round.own[2]));
    ratio("value, tcx / node", &|round| (round.tcx[2], round.own[2]));
    lines.push(
        "Where the server's core is not all busy, it could do more than the client asks.".into(),
    );
    lines.join("\n")
}
