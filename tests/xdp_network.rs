//! A network of fifty nodes, half of them with the kernel answering for them.
#![cfg(target_os = "linux")]

mod xdp_helpers;

use kademlua::id::Id;
use serde_json::Value;

use crate::xdp_helpers::{Lab, SERVER, text};

const FIRST: u16 = 9_001;
const NODES: u16 = 50;
const LOOKUPS: usize = 40;

/// The nodes with a fast path.
fn fast() -> impl Iterator<Item = u16> {
    (FIRST..FIRST + NODES).step_by(2)
}

/// Pings and findnodes that the kernel answered, and that it left to the node.
fn tallies(lab: &Lab) -> (u64, u64) {
    let (mut answered, mut left) = (0, 0);
    for status in fast().map(|port| lab.status(port)) {
        let counts = status["answered"].as_object().unwrap().values();
        answered += counts.filter_map(Value::as_u64).sum::<u64>();
        let passed = status["passed"].as_object().unwrap().iter();
        // Values that nobody has asked for yet are the node's business, replies answer its own questions.
        let others = ["other_request", "not_cached", "reply"];
        let asked = passed.filter(|(why, _)| !others.contains(&why.as_str()));
        left += asked.filter_map(|(_, count)| count.as_u64()).sum::<u64>();
    }
    (answered, left)
}

/// Runs a program in a shell of its own, and returns its output.
fn shell(lab: &Lab, port: u16, program: &str) -> Vec<Value> {
    let mut command = lab.kademlua(SERVER, &format!("{port} --json --bootstrap 127.0.0.1:{FIRST}"));
    let output = command.args(["-e", program]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The ports whose ids are nearest to a target, of all that run.
fn nearest(target: Id, except: u16) -> Vec<u64> {
    let mut ports: Vec<u16> = (FIRST..FIRST + NODES).filter(|port| *port != except).collect();
    ports.sort_by_key(|port| Id::of_name(port.to_string()).distance(&target));
    ports.into_iter().take(20).map(u64::from).collect()
}

#[test]
fn lookups_and_values_are_the_same_with_half_of_the_nodes_in_the_kernel() {
    let Some(mut lab) = Lab::new("network") else { return };
    for port in FIRST..FIRST + NODES {
        let options = format!("--bootstrap 127.0.0.1:{FIRST}");
        if fast().any(|fast| fast == port) {
            lab.xdp(SERVER, &format!("attach --iface lo --port {port}"));
            lab.serve_fast(port, &options);
        } else {
            lab.serve(port, &options);
        }
    }
    lab.wait_for("mirrored network", || {
        fast().map(|port| lab.status(port)).all(|status| {
            status["answering"] == true && status["contacts"]["ipv4"].as_u64() >= Some(20)
        })
    });
    let before = tallies(&lab);
    let store = format!("for i = 1, {LOOKUPS} do add(sha1('key' .. i), 'value' .. i) end");
    shell(&lab, 9_101, &store);
    let find = format!(
        "local found = {{}} for i = 1, {LOOKUPS} do
             local values = findvalue(sha1('key' .. i)).values
             found[i] = values[1] and values[1].value
         end return found"
    );
    let expected: Vec<Value> = (1..=LOOKUPS).map(|i| format!("value{i}").into()).collect();
    assert_eq!(shell(&lab, 9_102, &find), [Value::from(expected)]);
    // A node of the network itself looks up: the answer is exact.
    let look = format!(
        "local all = {{}} for i = 1, {LOOKUPS} do
             all[i] = {{}}
             for j, node in ipairs(findnode(sha1('target' .. i)).nodes) do all[i][j] = node.port end
         end return all"
    );
    let ports = shell(&lab, 9_103, &look);
    for (number, found) in ports[0].as_array().unwrap().iter().enumerate() {
        let target = Id::of_name(format!("target{}", number + 1));
        // The shells have come and gone; a node that still names one is not wrong.
        let ports = found.as_array().unwrap().iter().filter_map(Value::as_u64);
        let ports: Vec<u64> = ports.filter(|port| *port < 9_100).collect();
        assert!(ports.len() >= 17, "{ports:?}");
        assert_eq!(ports, nearest(target, 9_103)[..ports.len()], "target {}", number + 1);
    }
    let after = tallies(&lab);
    let (answered, left) = (after.0 - before.0, after.1 - before.1);
    let share = answered as f64 / (answered + left) as f64;
    println!("{answered} answered in the kernel, {left} left to the nodes: {:.1} %", 100.0 * share);
    assert!(answered > 500 && share > 0.95, "{answered} {left}");
}
