//! Hosts on one machine: network namespaces with a pair of interfaces between them, a bpf file
//! system, and nodes in them. All of it is gone when the [`Lab`] is.
#![allow(dead_code, reason = "no test needs all of it")]

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use kademlua::id::Id;
use kademlua::message::{Contact, Request, Response, Rpc, TransactionId};
use kademlua::wire::{Body, Dialect, Envelope, Header, emit, parse};
use nix::sched::{CloneFlags, setns};

/// Two namespaces, `server` and `client`, joined by a pair of interfaces.
pub(crate) struct Lab {
    name: String,
    folder: PathBuf,
    nodes: Vec<Child>,
}

pub(crate) const SERVER: &str = "server";
pub(crate) const CLIENT: &str = "client";

impl Lab {
    /// `None` where the machine does not let it be built; says why.
    pub(crate) fn new(test: &str) -> Option<Lab> {
        if let Err(reason) = possible() {
            println!("skipped: {reason}");
            assert!(std::env::var_os("KADEMLUA_FORBID_SKIPS").is_none(), "{reason}");
            return None;
        }
        let name = format!("kad-{test}-{}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        fs::create_dir(&folder).unwrap();
        let lab = Lab { name, folder, nodes: Vec::new() };
        sh(&format!("mount -t bpf bpf {}", lab.bpffs().display()));
        let (server, client) = (lab.namespace(SERVER), lab.namespace(CLIENT));
        sh(&format!(
            "ip netns add {server}; ip netns add {client}
             ip link add veth-s netns {server} type veth peer name veth-c netns {client}
             ip -n {server} addr add 10.77.0.1/24 dev veth-s
             ip -n {client} addr add 10.77.0.2/24 dev veth-c
             ip -n {server} addr add fd77::1/64 dev veth-s nodad
             ip -n {client} addr add fd77::2/64 dev veth-c nodad
             ip -n {server} link set lo up; ip -n {server} link set veth-s up
             ip -n {client} link set lo up; ip -n {client} link set veth-c up"
        ));
        Some(lab)
    }

    pub(crate) fn bpffs(&self) -> &Path {
        &self.folder
    }

    /// A second bpf file system.
    pub(crate) fn other_bpffs(&self) -> PathBuf {
        let folder = self.folder.with_extension("other");
        fs::create_dir(&folder).unwrap();
        sh(&format!("mount -t bpf bpf {}", folder.display()));
        folder
    }

    pub(crate) fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    /// A command of this program on a host. `ip netns exec` would hide bpf file systems.
    pub(crate) fn kademlua(&self, host: &str, arguments: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace(host)));
        command.arg(env!("CARGO_BIN_EXE_kademlua")).args(arguments.split(' '));
        command
    }

    pub(crate) fn run(&self, host: &str, arguments: &str) -> Output {
        self.kademlua(host, arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command of the fast path that must succeed, with this lab's bpf file system.
    pub(crate) fn xdp(&self, host: &str, arguments: &str) -> String {
        let arguments = format!("xdp {arguments} --bpffs {}", self.bpffs().display());
        let output = self.run(host, &arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{arguments}: {out}{err}");
        out
    }

    /// The complaint of a command of the fast path that must fail.
    pub(crate) fn complaint(&self, host: &str, arguments: &str) -> String {
        let output = self.run(host, &format!("xdp {arguments}"));
        assert_eq!(output.status.code(), Some(1), "{arguments}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    pub(crate) fn status(&self, port: u16) -> serde_json::Value {
        serde_json::from_str(&self.xdp(SERVER, &format!("status --json --port {port}"))).unwrap()
    }

    /// Starts a node without a shell on the server.
    pub(crate) fn serve(&mut self, port: u16, options: &str) -> usize {
        let options = format!("serve {port} --log error {options}");
        let mut command = self.kademlua(SERVER, options.trim());
        self.nodes.push(command.stdin(Stdio::null()).spawn().unwrap());
        self.nodes.len() - 1
    }

    /// Starts a node that uses the fast path.
    pub(crate) fn serve_fast(&mut self, port: u16, options: &str) -> usize {
        let bpffs = self.bpffs().display().to_string();
        self.serve(port, &format!("--xdp --bpffs {bpffs} {options}"))
    }

    /// A node that others know: itself, and three to be its contacts, with their ports behind its.
    pub(crate) fn serve_known(&mut self, port: u16, bind: &str, options: &str) -> usize {
        let node = self.serve_fast(port, &format!("--bind {bind} {options}"));
        self.wait_for_heart(port);
        let host = if bind.contains(':') { format!("[{bind}]") } else { bind.to_owned() };
        for other in 1..=3 {
            self.serve(port + other, &format!("--bind {bind} --bootstrap {host}:{port}"));
        }
        self.wait_for("contacts", || {
            let status = self.status(port);
            let contacts = &status["contacts"];
            let known = contacts["ipv4"].as_u64().unwrap() + contacts["ipv6"].as_u64().unwrap();
            known >= 3 && status["answering"] == true
        });
        node
    }

    /// A command of this program as a user without privileges.
    pub(crate) fn as_nobody(&self, host: &str, arguments: &str) -> Command {
        let mut command = self.kademlua(host, arguments);
        let program: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        command = Command::new("nsenter");
        command.arg(&program[0]).args(["setpriv", "--reuid=nobody", "--clear-groups"]);
        // Where it was built nobody else may go.
        let copy = self.folder.with_extension("program");
        if !copy.exists() {
            fs::copy(&program[1], &copy).unwrap();
        }
        command.arg(copy).args(&program[2..]);
        command
    }

    pub(crate) fn end_all(&mut self) {
        for mut node in self.nodes.drain(..) {
            let _ = node.kill();
            let _ = node.wait();
        }
    }

    pub(crate) fn bridge_on_server(&self, name: &str) {
        sh(&format!("ip -n {} link add {name} type bridge", self.namespace(SERVER)));
    }

    /// One more pair of interfaces, both ends on the server.
    pub(crate) fn pair_on_server(&self, one: &str, other: &str) {
        let server = self.namespace(SERVER);
        sh(&format!("ip -n {server} link add {one} type veth peer name {other}"));
    }

    pub(crate) fn pid(&self, node: usize) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.nodes[node].id() as i32)
    }

    pub(crate) fn wait_for(&self, what: &str, mut there: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !there() {
            assert!(Instant::now() < end, "no {what} in time");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the node of a fast path runs: others that begin earlier find nobody to join
    /// through, and try again ever later.
    pub(crate) fn wait_for_heart(&self, port: u16) {
        let beats = || self.status(port)["heartbeat"].as_f64().is_some_and(|age| age < 1.5);
        self.wait_for("heartbeat", beats);
    }

    /// A client on a host.
    pub(crate) fn client(&self, host: &str, bind: &str, target: SocketAddr) -> Client {
        let socket = self.within(host, || UdpSocket::bind(bind).unwrap());
        socket.connect(target).unwrap();
        Client { socket, next: 0, id: Id::of_name("client"), is_node: true }
    }

    /// Does something on a host. What is opened there stays there.
    pub(crate) fn within<R: Send>(&self, host: &str, act: impl FnOnce() -> R + Send) -> R {
        let namespace = fs::File::open(format!("/run/netns/{}", self.namespace(host))).unwrap();
        // A thread of its own, since a thread stays where it goes.
        let work = || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            act()
        };
        std::thread::scope(|scope| scope.spawn(work).join().unwrap())
    }
}

/// Datagrams in frames that are written by hand, from the client's interface to the server's: they may
/// name any source.
#[cfg(fast_path)]
pub(crate) struct Frames {
    socket: std::os::fd::OwnedFd,
    interface: nix::sys::socket::LinkAddr,
    server: [u8; 6],
}

#[cfg(fast_path)]
impl Frames {
    pub(crate) fn new(lab: &Lab) -> Frames {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

        let link = |host, name: &str| lab.within(host, || link_address(name));
        let server = link(SERVER, "veth-s").addr().expect("a station's address");
        let open =
            || socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).unwrap();
        let socket = lab.within(CLIENT, open);
        Frames { socket, interface: link(CLIENT, "veth-c"), server }
    }

    pub(crate) fn send(&self, source: SocketAddr, destination: SocketAddr, payload: &[u8]) {
        use nix::sys::socket::{MsgFlags, sendto};
        use std::os::fd::AsRawFd as _;

        let mut frame = kademlua::xdp::udp_frame(source, destination, payload);
        frame[..6].copy_from_slice(&self.server);
        let fd = self.socket.as_raw_fd();
        let sent = sendto(fd, &frame, &self.interface, MsgFlags::empty());
        assert_eq!(sent.unwrap(), frame.len());
    }
}

#[cfg(fast_path)]
fn link_address(name: &str) -> nix::sys::socket::LinkAddr {
    let mut all = nix::ifaddrs::getifaddrs().unwrap().filter(|one| one.interface_name == name);
    all.find_map(|one| one.address?.as_link_addr().copied()).expect("the interface")
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.end_all();
        let _ = fs::remove_file(self.folder.with_extension("program"));
        // An attached program goes with the namespaces and with the file system that holds it.
        for host in [SERVER, CLIENT] {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(host)]).status();
        }
        for folder in [self.folder.clone(), self.folder.with_extension("other")] {
            if folder.exists() {
                let _ = Command::new("umount").arg(&folder).status();
                let _ = fs::remove_dir(folder);
            }
        }
    }
}

/// Asks one thing after the other.
pub(crate) struct Client {
    pub(crate) socket: UdpSocket,
    next: u64,
    id: Id,
    /// Whether it answers when it is asked, and so becomes a contact.
    pub(crate) is_node: bool,
}

impl Client {
    /// The answer, if one comes in time.
    pub(crate) fn ask(&mut self, request: &Request<'_>, within: Duration) -> Option<Response> {
        let datagram = self.datagram(request);
        self.exchange(&datagram, request.kind(), within)
    }

    /// As an original node asks: without padding.
    pub(crate) fn ask_unpadded(&mut self, target: Id, within: Duration) -> Option<Response> {
        let mut datagram = self.datagram(&Request::FindNode { target });
        datagram.truncate(81);
        self.exchange(&datagram, Rpc::FindNode, within)
    }

    pub(crate) fn find(&mut self, name: &str) -> Option<Vec<Contact>> {
        let target = Id::of_name(name);
        match self.ask(&Request::FindNode { target }, Duration::from_secs(2))? {
            Response::Nodes(contacts) => Some(contacts),
            other => panic!("{other:?} in answer to a findnode"),
        }
    }

    pub(crate) fn pings(&mut self) -> bool {
        self.ask(&Request::Ping, Duration::from_millis(300)) == Some(Response::Pong)
    }

    fn datagram(&mut self, request: &Request<'_>) -> Vec<u8> {
        self.next += 1;
        let header = Header {
            dialect: Dialect::V1,
            from: self.id,
            transaction: TransactionId::new(self.next.to_be_bytes()),
            asker: None,
        };
        let mut datagram = Vec::new();
        emit(&mut datagram, &header, request);
        datagram
    }

    fn exchange(&mut self, datagram: &[u8], kind: Rpc, within: Duration) -> Option<Response> {
        let rpc_id = TransactionId::new(self.next.to_be_bytes());
        // The system tells of a killed node at the next call.
        if let Err(error) = self.socket.send(datagram) {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            return None;
        }
        let end = Instant::now() + within;
        let mut buffer = [0; 2_048];
        loop {
            let left = end.checked_duration_since(Instant::now())?;
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
            let len = match self.socket.recv(&mut buffer) {
                Ok(len) => len,
                Err(error) => match error.kind() {
                    // A signal; the answer may still come.
                    ErrorKind::Interrupted => continue,
                    ErrorKind::WouldBlock | ErrorKind::ConnectionRefused => return None,
                    _ => panic!("{error}"),
                },
            };
            let frame = parse(&buffer[..len]).expect("a message");
            match frame.body {
                // The node takes the client for a node, and asks back.
                Body::Query(_) if self.is_node => self.pong(&frame),
                Body::Query(_) => {}
                // A late answer to an earlier question.
                _ if frame.transaction != rpc_id => {}
                Body::Answer(answer) => return Some(answer.read(kind).unwrap()),
                other => panic!("{other:?}"),
            }
        }
    }

    fn pong(&self, asked: &Envelope<'_>) {
        let mut pong = Vec::new();
        emit(&mut pong, &asked.reply_from(self.id), &Response::Pong);
        let _ = self.socket.send(&pong);
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn possible() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("network namespaces and programs in the kernel take root".into());
    }
    for tool in ["ip", "nsenter", "setpriv", "mount"] {
        let there = Command::new(tool).arg("-V").output().is_ok();
        if !there {
            return Err(format!("{tool} is missing"));
        }
    }
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = kernel.split('.').map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (6, 6) {
        return Err(format!("tcx needs Linux 6.6, this is {}", kernel.trim()));
    }
    Ok(())
}

pub(crate) fn sh(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", text(&output.stderr));
}
