//! Two network namespaces with a pair of interfaces between them.
//!
//! They have no names and belong only to this process and its children, as the mounts do: however
//! it ends, nothing of them is left.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns, unshare};
use nix::unistd::{Pid, geteuid};

/// The server's address, and the client's.
pub(super) const ADDRESSES: [[u8; 4]; 2] = [[10, 77, 0, 1], [10, 77, 0, 2]];

/// Where the kernel tells of the interfaces of a namespace.
const SYSFS: &str = "/sys";

/// How long the kernel may take to start a thread.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) struct Lab {
    pub(super) server: LinkEnd,
    pub(super) client: LinkEnd,
}

/// A namespace and its interface.
pub(super) struct LinkEnd {
    pub(super) interface: String,
    /// This core handles arriving packets.
    pub(super) core: usize,
    namespace: File,
    /// Switches of the interface in sysfs: a thread of its own for arriving packets, and the cores
    /// that handle them if it has none.
    threaded: PathBuf,
    cores: PathBuf,
}

impl Lab {
    /// Sets everything up, so that one core handles packets that arrive at the server, and the
    /// other those at the client.
    pub(super) fn new(cores: (usize, usize)) -> anyhow::Result<Lab> {
        ensure!(geteuid().is_root(), "--xdp makes network namespaces, which takes root: use sudo");
        for (tool, package) in [("ip", "iproute2"), ("chrt", "util-linux")] {
            let is_there = Command::new(tool).arg("-V").output().is_ok();
            ensure!(is_there, "--xdp needs '{tool}' of {package}");
        }
        unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
        // Nobody else sees what is mounted from here on.
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
        let (server, client) = (LinkEnd::new("s", cores.0)?, LinkEnd::new("c", cores.1)?);
        server.within(|| connect(&server, &client))??;
        client.within(|| set_up(&client, ADDRESSES[1]))??;
        mount(Some("bpf"), crate::xdp::BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>)
            .context("cannot mount a bpf file system")?;
        Ok(Lab { server, client })
    }
}

fn connect(server: &LinkEnd, client: &LinkEnd) -> anyhow::Result<()> {
    let there = format!("/proc/{}/fd/{}", std::process::id(), client.namespace.as_raw_fd());
    let (ours, theirs) = (&server.interface, &client.interface);
    ip(&["link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", &there])?;
    set_up(server, ADDRESSES[0])
}

fn set_up(end: &LinkEnd, [a, b, c, d]: [u8; 4]) -> anyhow::Result<()> {
    let address = format!("{a}.{b}.{c}.{d}/24");
    ip(&["address", "add", &address, "dev", &end.interface])?;
    ip(&["link", "set", "lo", "up"])?;
    ip(&["link", "set", &end.interface, "up"])
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    run("ip", arguments)
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("cannot run '{program}'"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", arguments.join(" "), errors.trim());
    Ok(())
}

impl LinkEnd {
    fn new(letter: &str, core: usize) -> anyhow::Result<LinkEnd> {
        let outside = current()?;
        unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
        let namespace = current()?;
        setns(&outside, CloneFlags::CLONE_NEWNET)?;
        // Kernel threads are found by this name, so nobody else may have it.
        let interface = format!("k{letter}{}", std::process::id());
        let of = PathBuf::from(SYSFS).join("class/net").join(&interface);
        let (threaded, cores) = (of.join("threaded"), of.join("queues/rx-0/rps_cpus"));
        Ok(LinkEnd { interface, namespace, core, threaded, cores })
    }

    /// Does something in this namespace; processes that it starts stay there.
    pub(super) fn within<T>(&self, work: impl FnOnce() -> T) -> anyhow::Result<T> {
        let outside = current()?;
        setns(&self.namespace, CloneFlags::CLONE_NEWNET)?;
        let done = work();
        setns(&outside, CloneFlags::CLONE_NEWNET)?;
        Ok(done)
    }

    pub(super) fn index(&self) -> anyhow::Result<u32> {
        Ok(self.within(|| if_nametoindex(self.interface.as_str()))??)
    }

    /// Without XDP: this end's core handles arriving packets, whichever core sent them.
    pub(super) fn steer_ordinary(&self, on: bool) -> anyhow::Result<()> {
        let mask = if on { 1_u64 << self.core } else { 0 };
        self.write(&self.cores, &format!("{mask:x}"))
    }

    /// With XDP: a thread on this end's core handles arriving packets.
    pub(super) fn steer_xdp(&self) -> anyhow::Result<()> {
        self.write(&self.threaded, "1")?;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(thread) = kernel_thread(&format!("napi/{}-", self.interface)) {
                let mut only = CpuSet::new();
                only.set(self.core)?;
                sched_setaffinity(Pid::from_raw(thread as i32), &only)?;
                // After each batch it takes turns with the generator, which is on this core too:
                // ordinary threads take such long turns that meanwhile its queue runs full or
                // empty.
                run("chrt", &["--fifo", "--pid", "1", &thread.to_string()])?;
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("the kernel starts no thread for {}", self.interface)
    }

    /// A sysfs shows the interfaces of the namespace in which it was mounted.
    fn write(&self, file: &Path, text: &str) -> anyhow::Result<()> {
        let none = MsFlags::empty();
        self.within(|| mount(Some("sysfs"), SYSFS, Some("sysfs"), none, None::<&str>))?
            .context("cannot mount a sysfs")?;
        let written = fs::write(file, text).with_context(|| format!("writing {}", file.display()));
        umount2(SYSFS, MntFlags::MNT_DETACH)?;
        written
    }
}

fn current() -> std::io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}

/// The kernel thread whose name begins with `prefix`.
fn kernel_thread(prefix: &str) -> Option<u32> {
    let id = |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    let mut ids = fs::read_dir("/proc").ok()?.filter_map(id);
    ids.find(|id: &u32| {
        fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.starts_with(prefix))
    })
}
