//! One program at an interface serves all nodes of it: each is told of its own, and comes and goes alone.
#![cfg(target_os = "linux")]

mod xdp_helpers;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::xdp_helpers::{Client, Lab, SERVER, sh, text};

/// Two nodes; each has three others behind it.
const PORTS: [u16; 2] = [8_001, 8_011];

/// More than there may be tcx programs at an interface.
const MANY: std::ops::Range<u16> = 9_001..9_071;

/// The folders of the lab's fast paths.
fn folders(lab: &Lab) -> Vec<PathBuf> {
    let all = fs::read_dir(lab.bpffs().join("kademlua")).into_iter().flatten();
    all.map(|entry| entry.unwrap().path()).filter(|path| !path.ends_with("lock")).collect()
}

fn folder(lab: &Lab, ending: &str) -> PathBuf {
    let is_it = |path: &PathBuf| path.to_str().unwrap().ends_with(ending);
    folders(lab).into_iter().find(is_it).unwrap_or_else(|| panic!("no folder of {ending}"))
}

/// The last one takes all along.
fn nothing_is_left(lab: &Lab) -> bool {
    !lab.bpffs().join("kademlua").exists()
}

/// The status of all, and the exit status.
fn all(lab: &Lab) -> (Vec<Value>, Option<i32>) {
    let options = format!("xdp status --json --bpffs {}", lab.bpffs().display());
    let output = lab.run(SERVER, &options);
    let lines = text(&output.stdout);
    let read = |line: &str| serde_json::from_str(line).unwrap();
    (lines.lines().map(read).collect(), output.status.code())
}

fn complaint(lab: &Lab, arguments: &str) -> String {
    lab.complaint(SERVER, &format!("{arguments} --bpffs {}", lab.bpffs().display()))
}

fn tally(lab: &Lab, port: u16, what: &str, which: &str) -> u64 {
    lab.status(port)[what][which].as_u64().unwrap()
}

#[test]
fn two_nodes_at_one_interface_are_answered_for_each_from_its_own_table() {
    let Some(mut lab) = Lab::new("two") else { return };
    let first = lab.xdp(SERVER, &format!("attach --iface lo --port {}", PORTS[0]));
    assert!(first.contains("attached to lo by tcx"), "{first}");
    let second = lab.xdp(SERVER, &format!("attach --iface lo --port {}", PORTS[1]));
    assert!(second.contains("joined the fast path at lo by tcx"), "{second}");
    for port in PORTS {
        lab.serve_known(port, "127.0.0.1", "--bootstrap 127.0.0.1:9");
    }
    let statuses = PORTS.map(|port| lab.status(port));
    assert_eq!(statuses[0]["program"], statuses[1]["program"]);

    let mut clients =
        PORTS.map(|port| lab.client(SERVER, "127.0.0.1:0", ([127, 0, 0, 1], port).into()));
    for (number, port) in PORTS.into_iter().enumerate() {
        let before = PORTS.map(|port| tally(&lab, port, "answered", "findnode"));
        let told = PORTS.map(|port| tally(&lab, port, "strangers", "told"));
        let contacts = clients[number].find("x").expect("an answer");
        let ports: BTreeSet<u16> = contacts.iter().map(|contact| contact.address.port()).collect();
        assert_eq!(ports, (port + 1..=port + 3).collect(), "the contacts of this node alone");
        for (other, at) in PORTS.into_iter().enumerate() {
            let change = u64::from(other == number);
            assert_eq!(tally(&lab, at, "answered", "findnode"), before[other] + change);
            assert_eq!(tally(&lab, at, "strangers", "told"), told[other] + change);
        }
        // The node hears of the stranger, and takes it in.
        lab.wait_for("contact", || {
            clients[number].pings();
            lab.status(port)["contacts"]["ipv4"] == 4
        });
    }

    lab.xdp(SERVER, &format!("detach --port {}", PORTS[0]));
    assert!(complaint(&lab, &format!("status --port {}", PORTS[0])).contains("no fast path"));
    let before = tally(&lab, PORTS[1], "answered", "ping");
    assert!(clients.iter_mut().all(Client::pings), "one by its node, one by the kernel");
    assert_eq!(tally(&lab, PORTS[1], "answered", "ping"), before + 1);
    lab.xdp(SERVER, &format!("detach --port {}", PORTS[1]));
    assert!(nothing_is_left(&lab), "the last one took all along");
    assert!(clients.iter_mut().all(Client::pings), "by the nodes");
}

#[test]
fn seventy_nodes_share_lo() {
    let Some(mut lab) = Lab::new("many") else { return };
    for port in MANY {
        lab.xdp(SERVER, &format!("attach --iface lo --port {port}"));
    }
    let (first, last) = (MANY.start, MANY.end - 1);
    for port in [first, last] {
        lab.serve_known(port, "127.0.0.1", "--bootstrap 127.0.0.1:9");
        let mut client = lab.client(SERVER, "127.0.0.1:0", ([127, 0, 0, 1], port).into());
        let before = tally(&lab, port, "answered", "findnode");
        assert!(client.pings() && client.find("x").is_some());
        assert!(tally(&lab, port, "answered", "findnode") > before);
    }
    let (statuses, exit) = all(&lab);
    let ports: Vec<_> = statuses.iter().filter_map(|status| status["port"].as_u64()).collect();
    assert_eq!((ports, exit), (MANY.map(u64::from).collect(), Some(0)));
    let programs: BTreeSet<_> =
        statuses.iter().map(|status| status["program"].as_u64().unwrap()).collect();
    assert_eq!(programs.len(), 1);
    let answering = statuses.iter().filter(|status| status["answering"] == true).count();
    assert_eq!(answering, 2);
    assert!(lab.xdp(SERVER, "detach --all").contains("detached 70 nodes"));
    assert!(nothing_is_left(&lab));
    assert!(complaint(&lab, "detach --all").contains("no fast path is attached"));
}

/// What holds for all nodes of an interface cannot be another for one of them.
#[test]
fn who_joins_takes_the_mode_and_the_limits_that_are_there() {
    let Some(lab) = Lab::new("join") else { return };
    lab.xdp(SERVER, "attach --iface veth-s --port 1 --mode native --source-rate 7");
    let other = complaint(&lab, "attach --iface veth-s --port 2 --mode tcx --source-rate 7");
    assert!(other.contains("a fast path is at veth-s already, and it is native"), "{other}");
    let limits = complaint(&lab, "attach --iface veth-s --port 2");
    assert!(limits.contains("--source-rate 7 --total-rate 0 --over-limit drop"), "{limits}");
    let passes =
        complaint(&lab, "attach --iface veth-s --port 2 --source-rate 7 --over-limit pass");
    assert!(passes.contains("share its limits"), "{passes}");
    assert_eq!(all(&lab).0.len(), 1, "nothing is left of those");
    let told = lab.xdp(SERVER, "attach --iface veth-s --port 2 --source-rate 7");
    assert!(told.contains("joined the fast path at veth-s by native"), "{told}");
    // Another interface has a program of its own.
    lab.xdp(SERVER, "attach --iface lo --port 3");
    let (statuses, _) = all(&lab);
    assert_eq!(statuses[0]["program"], statuses[1]["program"]);
    assert_ne!(statuses[0]["program"], statuses[2]["program"]);
    assert_eq!(folders(&lab).len(), 5);
    lab.xdp(SERVER, "detach --port 1");
    lab.xdp(SERVER, "detach --port 2");
    assert_eq!(folders(&lab).len(), 2);
}

#[test]
fn many_attach_at_once() {
    let Some(lab) = Lab::new("once") else { return };
    let start = |port: u16| {
        let bpffs = lab.bpffs().display();
        let attach = format!("xdp attach --iface lo --port {port} --bpffs {bpffs}");
        lab.kademlua(SERVER, &attach).stdout(Stdio::null()).spawn().unwrap()
    };
    for mut child in MANY.take(12).map(start).collect::<Vec<_>>() {
        assert!(child.wait().unwrap().success());
    }
    let (statuses, _) = all(&lab);
    let programs: BTreeSet<_> = statuses.iter().map(|status| status["program"].as_u64()).collect();
    assert_eq!((statuses.len(), programs.len()), (12, 1));
    let detach = |port: u16| {
        let bpffs = lab.bpffs().display();
        let detach = format!("xdp detach --port {port} --bpffs {bpffs}");
        lab.kademlua(SERVER, &detach).stdout(Stdio::null()).spawn().unwrap()
    };
    for mut child in MANY.take(12).map(detach).collect::<Vec<_>>() {
        assert!(child.wait().unwrap().success());
    }
    assert!(nothing_is_left(&lab));
}

/// Whenever attaching or detaching is killed, what comes next works, and in the end nothing is left.
#[test]
fn who_is_killed_in_between_leaves_nothing_in_the_way() {
    let Some(lab) = Lab::new("killed") else { return };
    lab.xdp(SERVER, "attach --iface lo --port 1");
    let bpffs = lab.bpffs().display().to_string();
    let kill_after = |command: &str, delay: Duration| {
        let arguments = format!("xdp {command} --bpffs {bpffs}");
        let mut command = lab.kademlua(SERVER, &arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(delay);
        let _ = kill(nix::unistd::Pid::from_raw(child.id() as i32), Signal::SIGKILL);
        child.wait().unwrap();
    };
    for step in 0..40 {
        let delay = Duration::from_micros(500) * step;
        for interface in ["lo", "veth-s"] {
            kill_after(&format!("attach --iface {interface} --port 2"), delay);
            kill_after("detach --port 2", delay);
            lab.xdp(SERVER, "attach --iface lo --port 3");
            lab.xdp(SERVER, "detach --port 3");
            if all(&lab).0.len() == 2 {
                lab.xdp(SERVER, "detach --port 2");
            }
            let left: Vec<_> = folders(&lab);
            assert_eq!(left.len(), 2, "step {step}: {left:?}");
            assert_eq!(all(&lab).0[0]["gone"], Value::Null);
        }
    }
    lab.xdp(SERVER, "detach --port 1");
    assert!(nothing_is_left(&lab));
}

/// Of each state that a crash can leave.
#[test]
fn what_is_half_done_is_taken_over() {
    let Some(lab) = Lab::new("half") else { return };
    for file in ["-8001/about", "-8001/node", "-if1/link", "-if1/about", "-if1/node_by_port"] {
        lab.xdp(SERVER, "attach --iface lo");
        let (of, name) = file.split_once('/').unwrap();
        fs::remove_file(folder(&lab, of).join(name)).unwrap();
        if file.ends_with("link") {
            let (statuses, exit) = all(&lab);
            assert_eq!((&statuses[0]["gone"], exit), (&Value::from("interface"), Some(1)));
        }
        if file == "-8001/about" {
            assert!(complaint(&lab, "status").contains("no fast path is attached"));
            lab.xdp(SERVER, "attach --iface lo");
        }
        lab.xdp(SERVER, "detach");
        assert!(nothing_is_left(&lab), "{file}");
    }
}

/// The number of a network namespace that is gone comes up again, and `lo` has the same in each.
#[test]
fn what_a_namespace_of_the_same_number_has_left_is_not_taken_for_attached() {
    let Some(lab) = Lab::new("again") else { return };
    lab.xdp(SERVER, "attach --iface lo --port 1");
    let own = folder(&lab, "-1").file_name().unwrap().to_str().unwrap().to_owned();
    let own = own.split_once('-').unwrap().0.to_owned();
    lab.xdp(SERVER, "detach --port 1");
    let extra = format!("{}-extra", lab.namespace(SERVER));
    sh(&format!("ip netns add {extra}; ip -n {extra} link set lo up"));
    for port in [8_001, 8_002] {
        let mut attach = std::process::Command::new("nsenter");
        attach.arg(format!("--net=/run/netns/{extra}")).arg(env!("CARGO_BIN_EXE_kademlua"));
        let port = port.to_string();
        attach.args(["xdp", "attach", "--iface", "lo", "--port", &port, "--bpffs"]);
        assert!(attach.arg(lab.bpffs()).status().unwrap().success());
    }
    sh(&format!("ip netns del {extra}"));
    for ending in ["-8001", "-8002", "-if1"] {
        let there = folder(&lab, ending);
        fs::rename(&there, there.with_file_name(format!("{own}{ending}"))).unwrap();
    }
    // The kernel takes its time to let go of a namespace.
    lab.wait_for("end of the namespace", || all(&lab).1 == Some(1));
    assert!(all(&lab).0.iter().all(|status| status["gone"] == "interface"));
    let told = lab.xdp(SERVER, "attach --iface lo --port 8001");
    assert!(told.contains("attached to lo"), "{told}");
    let gone: Vec<_> = all(&lab).0.iter().map(|status| status["gone"].clone()).collect();
    assert_eq!(gone, [Value::Null, Value::from("interface")]);
    assert!(lab.xdp(SERVER, "detach --all").contains("2 nodes"));
    assert!(nothing_is_left(&lab));
}
