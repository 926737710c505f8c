//! Processes, the processors they run on, and the time they take.

use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use crate::id::Id;

/// A process of this program under measurement; it ends with this.
pub(super) struct Process {
    pub(super) address: SocketAddr,
    child: Child,
}

impl Process {
    /// A node that knows nobody yet, on a free port.
    pub(super) fn node(id: Id) -> anyhow::Result<Process> {
        Process::node_at(id, Ipv4Addr::LOCALHOST, false)
    }

    /// The same at an address of this machine; it may use a fast path.
    pub(super) fn node_at(id: Id, ip: Ipv4Addr, xdp: bool) -> anyhow::Result<Process> {
        let address = UdpSocket::bind((ip, 0))?.local_addr()?;
        let (port, id) = (address.port().to_string(), id.to_string());
        // It is its own bootstrap, so that it asks nobody else.
        let own = address.to_string();
        let arguments = [
            "serve",
            &port,
            "--id",
            &id,
            "--bootstrap",
            &own,
            "--bind",
            &ip.to_string(),
            "--log",
            "error",
            "--config",
            "/dev/stdin",
        ];
        let mut command = this_program()?;
        command.args(arguments).args(xdp.then_some("--xdp"));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut node = Process { address, child: child.context("cannot start a node")? };
        // The point is to measure what it can serve, not what it lets one source have.
        let mut configuration = node.child.stdin.take().context("a pipe")?;
        configuration.write_all(b"source_rate = 0 total_rate = 0")?;
        Ok(node)
    }

    /// An echo whose replies have `size` bytes.
    pub(super) fn echo(size: usize) -> anyhow::Result<Process> {
        let mut command = this_program()?;
        command.args(["bench", "--echo", &size.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start an echo")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("a pipe")?).read_line(&mut line)?;
        let address = line.trim().parse().context("the echo tells no address")?;
        Ok(Process { address, child })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It fails only if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn this_program() -> anyhow::Result<Command> {
    Ok(Command::new(std::env::current_exe()?))
}

/// CPU time that a process has used so far, where the system tells.
pub(super) fn cpu_time(pid: u32) -> Option<Duration> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let nanos = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Some(Duration::from_nanos(nanos.sum()))
}

/// How long a core was busy, and how long in all, in ticks since the system began; whatever it did,
/// interrupts included.
#[cfg(fast_path)]
pub(super) fn core_time(core: usize) -> Option<[u64; 2]> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let name = format!("cpu{core}");
    let fields = text.lines().find_map(|line| line.strip_prefix(&name)?.strip_prefix(' '))?;
    // user, nice, system, idle, waiting for disks, interrupts, their second half
    let ticks: Vec<u64> =
        fields.split(' ').take(7).filter_map(|field| field.parse().ok()).collect();
    let all = ticks.iter().sum::<u64>();
    Some([all - ticks.get(3)? - ticks.get(4)?, all])
}

/// One processor for the server and one for the client, if two can be had.
pub(super) struct Cores(Option<(usize, usize)>);

impl Cores {
    pub(super) fn choose() -> Cores {
        let mut allowed = allowed_cores().into_iter();
        Cores(allowed.next().zip(allowed.next()))
    }

    /// The server's core and the client's, if there are two.
    #[cfg(fast_path)]
    pub(super) fn pair(&self) -> Option<(usize, usize)> {
        self.0
    }

    /// Processes that `start` starts stay on the server's core.
    pub(super) fn on_server_core<T>(&self, start: impl FnOnce() -> T) -> T {
        if let Some((server, _)) = self.0 {
            stay_on(server);
        }
        start()
    }

    /// Keeps this thread, and those that it starts, on the client's core.
    pub(super) fn stay_on_client_core(&self) {
        if let Some((_, client)) = self.0 {
            stay_on(client);
        }
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((server, client)) => write!(f, "server on core {server}, client on core {client}"),
            None => f.write_str("server and client share what cores there are"),
        }
    }
}

#[cfg(target_os = "linux")]
fn allowed_cores() -> Vec<usize> {
    use nix::sched::{CpuSet, sched_getaffinity};
    use nix::unistd::Pid;

    let Ok(allowed) = sched_getaffinity(Pid::from_raw(0)) else { return Vec::new() };
    (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false)).collect()
}

#[cfg(target_os = "linux")]
fn stay_on(core: usize) {
    use nix::sched::{CpuSet, sched_setaffinity};
    use nix::unistd::Pid;

    let mut only = CpuSet::new();
    // Unpinned is slower and less even, not wrong.
    let _ = only.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &only));
}

#[cfg(not(target_os = "linux"))]
fn allowed_cores() -> Vec<usize> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
fn stay_on(_core: usize) {}
