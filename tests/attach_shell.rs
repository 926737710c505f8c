//! The promise: `kademlua attach` is the shell of a node that runs in another process, which goes on as
//! before; `kademlua nodes` lists the nodes; and a shell asks other nodes by the way.

#![cfg(feature = "shell")]

mod attach;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use attach::{Lab, await_that, text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value as Json;

/// The complaint of a command; it must fail with this status.
fn complaint(lab: &Lab, status: i32, arguments: &[&str]) -> String {
    let output = lab.run(arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {out}{err}");
    err
}

#[test]
fn a_chunk_a_script_and_standard_input_run_on_a_node() {
    let lab = Lab::new();
    let node = lab.node();
    let other = lab.node_via(&node);
    let port = node.port.to_string();
    assert_eq!(
        lab.shown(&["attach", &port, "-e", "print(node().id, #contacts())"]),
        format!("{}\t1\n", node.id)
    );
    let tree = lab.shown(&["attach", &port, "-e", "tree()"]);
    assert!(tree.contains(&format!("own id {}", &node.id[..12])), "{tree}");
    let rows = lab.shown(&["attach", &format!("127.0.0.1:{port}"), "--json", "-e", "contacts()"]);
    let rows: Json = serde_json::from_str(&rows).unwrap();
    assert_eq!(rows[0]["port"], other.port);
    let script = lab.0.join("script.lua");
    std::fs::write(&script, "print(arg[1], #contacts())").unwrap();
    let script = script.to_str().unwrap();
    assert_eq!(lab.shown(&["attach", &port, script, "--json"]), "--json\t1\n");
    let mut attach = lab.kademlua(&["attach", &port]);
    let mut child = attach.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"print(#contacts())").unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap().stdout), "1\n");
    // Names, traces, packets and values are the node's.
    let chunk = "local key = sha1('key') add(key, {1, 'a\\255', {x = 'y'}})
        local story = trace(findvalue, key)
        assert(tostring(story):find('who named whom') and story.values[1].value[3].x == 'y')
        assert(story.values[1].value[2] == 'a\\255')
        assert(lookups()[1].call == 'findvalue' and #packets() > 0 and estimate().nodes > 0)
        assert(settings()[1].name == 'k' and not xdp().attached and #routing().buckets > 0)
        return node().stored.values";
    assert_eq!(lab.shown(&["attach", &port, "-e", chunk]), "1\n");
    // The node goes on, with no dead contact.
    assert_eq!(lab.shown(&["attach", &port, "-e", "#contacts()"]), "1\n");
    assert_eq!(complaint(&lab, 1, &["attach", &port, "-e", "error('no')"]), "kademlua: -e:1: no\n");
}

#[test]
fn without_a_port_it_is_the_only_node_or_an_error_that_lists_them() {
    let lab = Lab::new();
    assert!(complaint(&lab, 1, &["attach", "-e", "1"]).contains("no node of yours runs"));
    let node = lab.node();
    assert_eq!(lab.shown(&["attach", "-e", "node().port"]), format!("{}\n", node.port));
    let other = lab.node_via(&node);
    let problem = complaint(&lab, 1, &["attach", "-e", "1"]);
    for port in [node.port, other.port] {
        assert!(problem.contains(&format!("127.0.0.1:{port}")), "{problem}");
    }
    assert!(
        complaint(&lab, 1, &["attach", "1", "-e", "1"]).contains("no node of yours runs on port 1")
    );
    assert!(complaint(&lab, 1, &["attach", "missing.lua"]).contains("missing.lua"));
    // Two nodes of one port are told apart.
    let port = node.port.to_string();
    let _twin = lab.node_with(&[&port, "--bind", "127.0.0.2", "--bootstrap", "1"]);
    let problem = complaint(&lab, 1, &["attach", &port, "-e", "1"]);
    let second = lab.sockets().join(format!("{port}-127.0.0.2.sock"));
    assert!(problem.contains(second.to_str().unwrap()), "{problem}");
    for name in [format!("127.0.0.2:{port}"), second.to_str().unwrap().to_owned()] {
        assert_eq!(lab.shown(&["attach", &name, "-e", "node().address"]), "\"127.0.0.2\"\n");
    }
}

#[test]
fn what_an_attached_shell_watches_and_offers_ends_with_it() {
    let lab = Lab::new();
    let node = lab.node();
    let other = lab.node_via(&node);
    let (port, peer) = (node.port.to_string(), other.port);
    let chunk = format!(
        "rpc('greet', function(from, name) return 'hello ' .. name, from.port end)
         local seen = {{}}
         tap(function(event) seen[#seen + 1] = event.rpc end, {{rpc = 'ping', direction = 'out'}})
         ping({peer})
         local words, port = on({peer}, call, {port}, 'greet', 'you')
         sleep(0.2)
         print(words, port == {peer}, seen[1], untap().lost)"
    );
    assert_eq!(lab.shown(&["attach", &port, "-e", &chunk]), "hello you\ttrue\tping\t0\n");
    let call = format!("call({port}, 'greet', 'you')");
    let problem = complaint(&lab, 1, &["attach", &peer.to_string(), "-e", &call]);
    assert!(problem.contains("no such RPC"), "{problem}");
    // A capture goes where the attached shell is, and ends with it.
    let mut attach = lab.kademlua(&["attach", &port, "-e"]);
    attach
        .arg(format!("print(capture('here.pcap').running) local _ = ping({peer})"))
        .current_dir(&lab.0);
    assert_eq!(text(&attach.output().unwrap().stdout), "true\n");
    let file = lab.0.join("here.pcap");
    await_that("the capture is written", || {
        std::fs::metadata(&file).is_ok_and(|file| file.len() > 100)
    });
    await_that("the capture ends", || {
        lab.shown(&["attach", &port, "-e", "capture().running"]) == "false\n"
    });
}

#[test]
fn ctrl_c_ends_the_program_and_not_the_node() {
    let lab = Lab::new();
    let node = lab.node();
    let port = node.port.to_string();
    let mut attach = lab.kademlua(&["attach", &port, "-e", "print('begun') while true do end"]);
    let mut child = attach.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut begun = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut begun).unwrap();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(lab.shown(&["attach", &port, "-e", "node().port"]), format!("{port}\n"));
}

#[test]
fn a_node_that_ends_is_an_error_and_not_the_end() {
    let lab = Lab::new();
    let mut node = lab.node();
    let chunk = "assert(node().id) print('begun')
         while pcall(node) do sleep(0.01) end
         local _, problem = pcall(node)
         print(problem:match('node: (.*)'))";
    let mut attach = lab.kademlua(&["attach", &node.port.to_string(), "-e", chunk]);
    let mut child = attach.stdout(Stdio::piped()).spawn().unwrap();
    let mut begun = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut begun).unwrap();
    node.kill();
    let out = text(&child.wait_with_output().unwrap().stdout);
    assert_eq!(out, "the node has ended, or has closed the door\n");
}

#[test]
fn nodes_lists_those_that_run() {
    let lab = Lab::new();
    assert_eq!(lab.shown(&["nodes"]), "no node of yours runs here\n");
    let node = lab.node();
    let mut other = lab.node_via(&node);
    let dead = lab.socket(other.port);
    let stopped = lab.node();
    kill(Pid::from_raw(stopped.child.id() as i32), Signal::SIGSTOP).unwrap();
    let listed = lab.shown(&["nodes"]);
    let row =
        listed.lines().find(|line| line.contains(&node.id)).unwrap_or_else(|| panic!("{listed}"));
    let words: Vec<_> = row.split_whitespace().collect();
    assert_eq!(
        (words[0], words[2], words[6]),
        (&*format!("127.0.0.1:{}", node.port), "1", "serve")
    );
    let socket = lab.socket(stopped.port);
    let row = listed.lines().find(|line| line.starts_with(socket.to_str().unwrap()));
    assert!(row.is_some_and(|row| row.contains("does not answer")), "{listed}");
    kill(Pid::from_raw(stopped.child.id() as i32), Signal::SIGCONT).unwrap();
    other.kill();
    assert!(dead.exists());
    let rows = lab.shown(&["nodes", "--json"]);
    let rows: Vec<Json> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2, "{rows:?}");
    let row = rows.iter().find(|row| row["port"] == node.port).unwrap();
    assert_eq!((&row["id"], &row["role"]), (&node.id.as_str().into(), &"serve".into()));
    assert!(row["memory"].as_f64().unwrap() > 1_000.0 && row["uptime"].as_f64().unwrap() > 0.0);
    assert!(!dead.exists(), "what the dead node left is taken away");
}

#[test]
fn a_shell_asks_other_nodes() {
    let lab = Lab::new();
    let node = lab.node();
    let other = lab.node_via(&node);
    let chunk = format!(
        "local there = node({0})
         assert(there.id == '{1}' and there.node().id == there.id and there:node().id == there.id)
         assert(tostring(there) == 'node {0} {1}')
         assert(on({0}, node).id == there.id and on('127.0.0.1:{0}', 'node').id == there.id)
         assert(on({{address = '127.0.0.1', port = {0}}}, node).id == there.id)
         assert(#on({0}, contacts) == 1 and there.tree().id == there.id)
         assert(tostring(on({0}, trace, findnode, there.id)):find('who named whom'))
         assert(tostring(there.trace(findnode, there.id)):find('who named whom'))
         local _, problem = pcall(on, 1, tree)
         assert(problem:find('no node of yours runs on port 1', 1, true), problem)
         _, problem = pcall(on, {0}, print)
         assert(problem:find('on: expected a function that asks a node', 1, true), problem)
         _, problem = pcall(node, {{}})
         assert(problem:find('node: node: expected a port', 1, true), problem)
         _, problem = pcall(there.findvalue, 'short')
         assert(problem:find('findvalue: key: expected a 20%-byte'), problem)
         return 'done'",
        other.port, other.id
    );
    // Also where there is no node of one's own.
    assert_eq!(lab.shown(&["sim", "-e", &chunk]), "\"done\"\n");
    assert_eq!(lab.shown(&["0", "--bootstrap", "1", "-e", &chunk]), "\"done\"\n");
}

#[test]
fn members_of_a_cluster_have_all_functions() {
    let lab = Lab::new();
    let chunk = "local c, key = cluster(3), sha1('key')
        c:add(1, key, 'value')
        assert(tostring(c:trace(findvalue, 2, key)):find('who named whom'))
        c:packets(3)
        c:ping(3, c:status()[1].port)
        assert(#c:packets(3, {rpc = 'ping'}) > 0 and c:settings(1)[1].name == 'k')
        local _, problem = pcall(c.trace, c, print, 1, key)
        assert(problem:find('c:trace: expected add, put, findvalue, findnode or route', 1, true), problem)
        local port = c:status()[2].port
        c:kill(2) c:start(2)
        assert(c:node(2).port == port and c:status()[2].alive)
        return #c:contacts(2) > 0";
    assert_eq!(lab.shown(&["sim", "-e", chunk]), "true\n");
    await_that("nothing is left behind", || lab.names().is_empty());
}

#[test]
fn it_prompts_as_the_node_is_and_completes() {
    let lab = Lab::new();
    let node = lab.node();
    let _other = lab.node_via(&node);
    let mut command = lab.kademlua(&["attach", &node.port.to_string()]);
    command.env("TERM", "xterm").stdin(Stdio::inherit());
    let mut session = rexpect::session::spawn_command(command, Some(30_000)).unwrap();
    session.exp_string(&format!("attached to node 127.0.0.1:{}", node.port)).unwrap();
    session.exp_regex(r"1~\d+ \| *\d+ > ").unwrap();
    session.send("findv\t").unwrap();
    session.flush().unwrap();
    session.exp_string("findvalue").unwrap();
    session.send_control('u').unwrap();
    session.send_control('d').unwrap();
    session.exp_eof().unwrap();
    let port = node.port.to_string();
    assert_eq!(lab.shown(&["attach", &port, "-e", "#contacts()"]), "1\n");
}

#[test]
fn several_shells_are_on_one_node() {
    let lab = Lab::new();
    let node = lab.node();
    let port = node.port.to_string();
    let spawn = |_| {
        let mut attach = lab.kademlua(&["attach", &port, "-e", "sleep(0.5) print(node().port)"]);
        attach.stdout(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..5).map(spawn).collect();
    for child in children {
        assert_eq!(text(&child.wait_with_output().unwrap().stdout), format!("{port}\n"));
    }
}

/// Where the machine is not busy with other things a run takes some 15 ms.
#[test]
fn a_chunk_starts_at_once() {
    let lab = Lab::new();
    let node = lab.node();
    let port = node.port.to_string();
    let took = || {
        let began = Instant::now();
        lab.shown(&["attach", &port, "-e", "1"]);
        began.elapsed()
    };
    let fastest = (0..20).map(|_| took()).min().unwrap();
    assert!(fastest < Duration::from_millis(200), "{fastest:?}");
}

#[test]
fn another_user_is_not_attached_to() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can be another user");
        return;
    }
    let lab = Lab::new();
    let node = lab.node();
    let strange = lab.0.join("strange.sock");
    // A socket of somebody else, where ours would be.
    let listen = "import socket, sys, time\ns = socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\nprint('ready', flush=True)\ntime.sleep(60)";
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&lab.0, open).unwrap();
    let mut command = Command::new("python3");
    command.args(["-c", listen]).arg(&strange);
    std::os::unix::process::CommandExt::uid(&mut command, 12_345);
    let Ok(mut child) = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() else { return };
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let problem = complaint(&lab, 1, &["attach", strange.to_str().unwrap(), "-e", "1"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(problem.contains("is not one of yours"), "{problem}");
    drop(node);
}
