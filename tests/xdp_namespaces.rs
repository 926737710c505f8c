//! The fast path between hosts: real nodes, real interfaces, a real kernel.
#![cfg(target_os = "linux")]

mod xdp_helpers;

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kademlua::id::Id;
use kademlua::message::{Request, Response};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::xdp_helpers::{CLIENT, Client, Lab, SERVER, text};

const PORT: u16 = 8001;
const SECOND: Duration = Duration::from_secs(1);

fn answered(status: &Value) -> u64 {
    status["answered"]["ping"].as_u64().unwrap() + status["answered"]["findnode"].as_u64().unwrap()
}

/// Ten questions; all are answered, and by the kernel.
fn assert_answers_in_the_kernel(lab: &Lab, client: &mut Client) {
    let before = answered(&lab.status(PORT));
    for number in 0..5 {
        assert!(client.pings());
        let contacts = client.find(&number.to_string()).expect("an answer");
        assert!(contacts.len() >= 3, "{contacts:?}");
    }
    let status = lab.status(PORT);
    assert_eq!(answered(&status) - before, 10, "{status}");
}

#[test]
fn on_lo_the_kernel_answers_and_the_node_learns_who_asked() {
    let Some(mut lab) = Lab::new("lo") else { return };
    let told = lab.xdp(SERVER, &format!("attach --iface lo --port {PORT}"));
    assert!(told.contains("attached to lo by tcx"), "{told}");
    assert!(told.contains("routes go on by lo"), "{told}");
    lab.serve_known(PORT, "127.0.0.1", "--bootstrap 127.0.0.1:9");
    let target = ([127, 0, 0, 1], PORT).into();
    let mut client = lab.client(SERVER, "127.0.0.1:0", target);
    assert_answers_in_the_kernel(&lab, &mut client);
    // The client was a stranger. It answers when the node asks back, and so becomes a contact.
    lab.wait_for("contact", || {
        client.pings();
        lab.status(PORT)["contacts"]["ipv4"] == 4
    });
}

#[test]
fn over_veth_tcx_answers_ipv4_and_ipv6() {
    let Some(mut lab) = Lab::new("veth") else { return };
    let told = lab.xdp(SERVER, &format!("attach --iface veth-s --port {PORT}"));
    assert!(told.contains("attached to veth-s by tcx"), "{told}");
    assert!(told.contains("the kernel finds one (bpf_redirect_neigh)"), "{told}");
    for (bind, from) in [("10.77.0.1", "10.77.0.2:0"), ("fd77::1", "[fd77::2]:0")] {
        let node = lab.serve_known(PORT, bind, "");
        let target = SocketAddr::new(bind.parse().unwrap(), PORT);
        let mut client = lab.client(CLIENT, from, target);
        assert_answers_in_the_kernel(&lab, &mut client);
        kill(lab.pid(node), Signal::SIGTERM).unwrap();
        lab.wait_for("end of the node", || lab.status(PORT)["heartbeat"].is_null());
    }
}

/// Whether native XDP can make a packet longer here depends on the buffer that it came in; padded
/// requests of short answers need no room.
#[test]
fn over_veth_native_xdp_answers_padded_requests() {
    let Some(mut lab) = Lab::new("native") else { return };
    // A program at the other end makes it take what native XDP sends.
    lab.xdp(CLIENT, "attach --iface veth-c --port 9 --mode native");
    let told = lab.xdp(SERVER, &format!("attach --iface veth-s --port {PORT} --mode native"));
    assert!(told.contains("note: the other end"), "{told}");
    assert!(told.contains("left to the node, since XDP"), "{told}");
    lab.serve_known(PORT, "10.77.0.1", "");
    let target = ([10, 77, 0, 1], PORT).into();
    let mut client = lab.client(CLIENT, "10.77.0.2:0", target);
    assert_answers_in_the_kernel(&lab, &mut client);
    // This one needs room. Where there is none it goes up to the node, which answers as it should.
    let before = answered(&lab.status(PORT));
    let answer = client.ask_unpadded(Id::of_name("x"), SECOND);
    assert!(matches!(answer, Some(Response::Nodes(contacts)) if contacts.len() >= 3));
    let status = lab.status(PORT);
    let without_room = status["passed"]["no_room"].as_u64().unwrap();
    assert_eq!(answered(&status) - before + without_room, 1, "{status}");
}

#[test]
fn attaching_and_detaching_loses_no_reply() {
    let Some(mut lab) = Lab::new("load") else { return };
    let attach = format!("attach --iface lo --port {PORT}");
    lab.xdp(SERVER, &attach);
    lab.serve_known(PORT, "127.0.0.1", "--bootstrap 127.0.0.1:9");
    let over = AtomicBool::new(false);
    let look = format!("xdp status --port {PORT} --bpffs {}", lab.bpffs().display());
    let mut client = lab.client(SERVER, "127.0.0.1:0", ([127, 0, 0, 1], PORT).into());
    let (asked, lost) = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let (mut asked, mut lost) = (0, 0);
            while !over.load(Ordering::Relaxed) && asked < 1_000_000 {
                asked += 2;
                let pong = client.ask(&Request::Ping, 2 * SECOND);
                let contacts = client.find(&asked.to_string());
                if pong.is_none() || contacts.as_ref().is_none_or(|contacts| contacts.len() < 3) {
                    let status = lab.run(SERVER, &look);
                    let status = text(&status.stdout) + &text(&status.stderr);
                    println!("question {asked}: {pong:?}, {contacts:?}; {status}");
                    lost += 1;
                }
            }
            (asked, lost)
        });
        for _ in 0..4 {
            // Long enough for the node to notice, so that both ways are tried in full.
            lab.wait_for("answer of the kernel", || answered(&lab.status(PORT)) > 100);
            lab.xdp(SERVER, &format!("detach --port {PORT}"));
            std::thread::sleep(Duration::from_millis(200));
            lab.xdp(SERVER, &attach);
        }
        over.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    println!("{asked} questions");
    assert_eq!(lost, 0, "of {asked}");
    assert!(asked > 1_000);
}

/// A node that died, or hangs, is not answered for.
#[test]
fn the_kernel_falls_silent_with_its_node() {
    let Some(mut lab) = Lab::new("silence") else { return };
    lab.xdp(SERVER, &format!("attach --iface lo --port {PORT}"));
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        let node = lab.serve_known(PORT, "127.0.0.1", "--bootstrap 127.0.0.1:9");
        let mut client = lab.client(SERVER, "127.0.0.1:0", ([127, 0, 0, 1], PORT).into());
        assert_answers_in_the_kernel(&lab, &mut client);
        kill(lab.pid(node), signal).unwrap();
        let began = Instant::now();
        let mut last = Duration::ZERO;
        while began.elapsed() < 5 * SECOND {
            let asked = began.elapsed();
            if client.pings() {
                last = asked;
            }
        }
        println!("{signal}: the last answer after {last:?}");
        assert!(last > SECOND && last < 4 * SECOND, "{last:?}");
        assert!(lab.status(PORT)["passed"]["no_heartbeat"].as_u64().unwrap() > 0);
        let _ = kill(lab.pid(node), Signal::SIGKILL);
        lab.end_all();
    }
}

#[test]
fn a_node_needs_no_privilege() {
    let Some(mut lab) = Lab::new("user") else { return };
    let attach = format!("attach --iface lo --port {PORT} --user nobody");
    lab.xdp(SERVER, &attach);
    let bpffs = lab.bpffs().display().to_string();
    let arguments = format!("serve {PORT} --log error --xdp --bpffs {bpffs}");
    let mut command = lab.as_nobody(SERVER, &arguments);
    let mut node = command.stdin(Stdio::null()).spawn().unwrap();
    lab.wait_for_heart(PORT);
    lab.serve(PORT + 1, &format!("--bootstrap 127.0.0.1:{PORT}"));
    lab.wait_for("contact", || lab.status(PORT)["contacts"]["ipv4"] == 1);
    let mut client = lab.client(SERVER, "127.0.0.1:0", ([127, 0, 0, 1], PORT).into());
    let before = answered(&lab.status(PORT));
    assert!(client.pings());
    assert_eq!(answered(&lab.status(PORT)), before + 1);
    let seen = lab.as_nobody(SERVER, &format!("xdp status --port {PORT} --bpffs {bpffs}")).output();
    assert!(seen.unwrap().status.success());
    let refused = lab.as_nobody(SERVER, &format!("xdp {attach} --bpffs {bpffs}")).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    node.kill().unwrap();
    node.wait().unwrap();
}

#[test]
fn complaints_say_what_to_do() {
    let Some(lab) = Lab::new("errors") else { return };
    let bpffs = format!("--bpffs {}", lab.bpffs().display());
    let complaint = |arguments: &str| lab.complaint(SERVER, &format!("{arguments} {bpffs}"));
    let nowhere = lab.complaint(SERVER, "attach --iface lo --bpffs /tmp");
    assert!(nowhere.contains("/tmp is no bpf file system; mount one: sudo mount -t bpf"));
    let missing = complaint("attach --iface nosuch0");
    assert!(missing.contains("no interface 'nosuch0' here; there are: lo, veth-s"), "{missing}");
    assert!(complaint("detach").contains("no fast path is attached for port 8001"));
    assert!(complaint("status").contains("attach one: sudo kademlua xdp attach"));
    assert!(complaint("attach --iface lo --user nosuch").contains("no user 'nosuch'"));
    lab.xdp(SERVER, "attach --iface lo");
    let twice = complaint("attach --iface veth-s");
    assert!(twice.contains("attached to lo already; first: sudo kademlua xdp detach --port 8001"));
    lab.xdp(SERVER, "attach --iface veth-s --mode native --port 1");
    // What others have attached, or another bpf file system holds.
    let other = lab.other_bpffs();
    let others =
        format!("attach --iface veth-s --mode native --port 2 --bpffs {}", other.display());
    let occupied = lab.complaint(SERVER, &others);
    assert!(occupied.contains("an XDP program is at veth-s already"), "{occupied}");
    assert_eq!(std::fs::read_dir(&other).unwrap().filter(is_ours).count(), 0);
    lab.xdp(SERVER, "detach --port 1");
    lab.xdp(SERVER, "detach");
    // Nothing is left, not even of the attempt that failed.
    assert_eq!(std::fs::read_dir(lab.bpffs()).unwrap().filter(is_ours).count(), 0);
    // An interface without XDP in its driver gets another hook, unless the user insists.
    lab.bridge_on_server("bridge");
    let told = lab.xdp(SERVER, "attach --iface bridge --port 1");
    assert!(told.contains("attached to bridge by tcx: its driver runs no XDP"), "{told}");
    lab.xdp(SERVER, "detach --port 1");
    let insisted = complaint("attach --iface bridge --mode native");
    assert!(insisted.contains("the driver of bridge runs no XDP"), "{insisted}");
    lab.pair_on_server("deaf-a", "deaf-b");
    let deaf = complaint("attach --iface deaf-a --mode native");
    assert!(deaf.contains("its peer deaf-b runs no XDP itself"), "{deaf}");
}

/// As if all might write to the bpf file system, and the first to come made the folder that others
/// look for.
#[test]
fn a_folder_that_another_user_made_is_not_used() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let Some(lab) = Lab::new("foreign") else { return };
    let folder = lab.bpffs().join("kademlua");
    let bpffs = format!("--bpffs {}", lab.bpffs().display());
    for (owner, mode) in [(12_345, 0o755), (12_345, 0o700), (0, 0o777), (0, 0o1777), (0, 0o775)] {
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
        chown(&folder, Some(owner), None).unwrap();
        for command in ["attach --iface lo", "status", "status --port 8001", "detach"] {
            let said = lab.complaint(SERVER, &format!("{command} {bpffs}"));
            let expected = format!("belongs to user {owner} with mode {mode:o}");
            assert!(said.contains(&expected), "{command}: {said}");
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::remove_dir(&folder).unwrap();
    }
    lab.xdp(SERVER, "attach --iface lo");
    lab.xdp(SERVER, "detach");
}

fn is_ours(entry: &std::io::Result<std::fs::DirEntry>) -> bool {
    entry.as_ref().unwrap().file_name() == "kademlua"
}

/// The output of a fast path's `status`, and its exit status.
fn look(lab: &Lab, host: &str, options: &str) -> (Option<i32>, String) {
    let options = format!("xdp status --bpffs {} {options}", lab.bpffs().display());
    let output = lab.run(host, options.trim());
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn an_interface_that_is_renamed_or_gone_is_told() {
    let Some(lab) = Lab::new("gone") else { return };
    lab.xdp(SERVER, &format!("attach --iface veth-s --port {PORT}"));
    let ip = |order: &str| {
        let namespace = lab.namespace(SERVER);
        let ip = std::process::Command::new("ip")
            .args(["-n", &namespace])
            .args(order.split(' '))
            .status();
        assert!(ip.unwrap().success(), "{order}");
    };
    ip("link set veth-s down");
    ip("link set veth-s name other");
    let (status, said) = look(&lab, SERVER, &format!("--port {PORT}"));
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains(&format!("port {PORT} on other, tcx")), "{said}");
    assert!(said.contains("renamed    it was veth-s when the program was attached"), "{said}");
    assert_eq!(lab.status(PORT)["renamed_from"], "veth-s");
    let said = lab.complaint(
        SERVER,
        &format!("attach --iface other --port {PORT} --bpffs {}", lab.bpffs().display()),
    );
    assert!(said.contains("attached to other already"), "{said}");

    ip("link del other");
    let (status, said) = look(&lab, SERVER, &format!("--port {PORT}"));
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("which is gone") && said.contains("xdp detach --port 8001"), "{said}");
    let (_, said) = look(&lab, SERVER, "--json");
    assert!(said.contains(r#""gone":"interface""#), "{said}");
    // Attaching takes its place.
    lab.xdp(SERVER, &format!("attach --iface lo --port {PORT}"));
    let (status, said) = look(&lab, SERVER, "");
    assert_eq!((status, said.contains(&format!("port {PORT} on lo"))), (Some(0), true), "{said}");
    let said = lab.complaint(
        SERVER,
        &format!("attach --iface lo --port {PORT} --bpffs {}", lab.bpffs().display()),
    );
    assert!(said.contains("attached to lo already"), "{said}");
}

#[test]
fn what_is_left_of_a_namespace_that_is_gone_is_listed_and_taken_away() {
    let Some(lab) = Lab::new("orphan") else { return };
    let extra = format!("{}-extra", lab.namespace(SERVER));
    let ip = |order: &str| {
        let ip = std::process::Command::new("ip").args(order.split(' ')).status();
        assert!(ip.unwrap().success(), "{order}");
    };
    ip(&format!("netns add {extra}"));
    ip(&format!("-n {extra} link set lo up"));
    let mut attach = std::process::Command::new("nsenter");
    attach.arg(format!("--net=/run/netns/{extra}")).arg(env!("CARGO_BIN_EXE_kademlua"));
    attach.args(["xdp", "attach", "--iface", "lo", "--port", "8001", "--bpffs"]);
    assert!(attach.arg(lab.bpffs()).status().unwrap().success());
    lab.xdp(SERVER, "attach --iface lo --port 8002");
    // A fast path of a living namespace is nobody else's business.
    let (status, said) = look(&lab, SERVER, "");
    assert_eq!((status, said.contains("8001")), (Some(0), false), "{said}");
    let bpffs = lab.bpffs().display();
    lab.complaint(SERVER, &format!("detach --port {PORT} --bpffs {bpffs}"));

    ip(&format!("netns del {extra}"));
    let (status, said) = look(&lab, SERVER, "");
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("port 8001 on lo of network namespace ") && said.contains("8002"),
        "{said}"
    );
    let (_, said) = look(&lab, SERVER, &format!("--json --port {PORT}"));
    assert!(said.contains(r#""gone":"namespace""#), "{said}");
    lab.xdp(SERVER, &format!("detach --port {PORT}"));
    let (status, said) = look(&lab, SERVER, "");
    assert_eq!((status, said.contains("8001")), (Some(0), false), "{said}");
}
