//! `packets`, `tap` and `capture` at the shell, in small networks of real nodes.

#![cfg(feature = "shell")]

mod shell;

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kademlua::net::Handle;
use shell::{free_port, kademlua, network, texts};

/// The output of a chunk in a node that joins these; standard error comes second.
fn run_in(nodes: &[Handle], chunk: &str, status: i32) -> (String, String) {
    let (bootstrap, port) = (nodes[0].local_addr().to_string(), free_port().to_string());
    let output = kademlua().args(["--bootstrap", &bootstrap, &port, "-e", chunk]).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(status), "{chunk}: {err}");
    (out, err)
}

fn shown_in(nodes: &[Handle], chunk: &str) -> String {
    let (out, err) = run_in(nodes, chunk, 0);
    assert_eq!(err, "");
    out
}

/// A file of this test that is not there yet.
fn fresh(name: &str) -> PathBuf {
    let name = format!("kademlua-shell-{name}-{}.pcap", std::process::id());
    let file = std::env::temp_dir().join(name);
    let _ = std::fs::remove_file(&file);
    file
}

#[test]
fn packets_are_shown_both_ways_and_filtered() {
    let nodes = network(3);
    let (one, two) = (nodes[1].local_addr().port(), nodes[2].local_addr().port());
    let chunk = format!(
        "assert(#packets() > 0, 'the node keeps its packets from its start')
        add(sha1('key'), 'value') findvalue(sha1('key')) ping({one}) ping({two})
        local pings = packets{{rpc = 'ping', peer = {two}, n = 2}}
        local asked, answered = pings[1], pings[2]
        assert(asked.kind == 'request' and asked.direction == 'out' and #asked.args == 0)
        assert(answered.kind == 'answer' and answered.direction == 'in' and answered.results[1] == 5)
        assert(asked.call == answered.call and #asked.call == 16 and answered.ms > 0)
        assert(asked.time <= answered.time and math.abs(asked.time - os.time()) < 60)
        assert(answered.peer.port == {two} and #answered.peer.id == 40 and answered.size == 37)
        assert(#packets{{call = asked.call}} == 2 and #packets(1) == 1 and #packets{{n = 3}} == 3)
        assert(packets{{call = asked.call, direction = 'in'}}[1].kind == 'answer')
        assert(#packets{{rpc = 'no'}} == 0 and #packets{{peer = '127.0.0.9:9'}} == 0)
        for _, packet in ipairs(packets{{rpc = 'store', kind = 'request', direction = 'out'}}) do
            assert(packet.args[1] == sha1('key') and packet.args[2] == 'value')
        end
        for _, packet in ipairs(packets{{peer = answered.peer}}) do
            assert(packet.peer.port == {two} and packet.rpc)
        end
        packets(false)
        assert(#packets() == 0) ping({one}) assert(#packets{{rpc = 'ping', peer = {one}}} == 2)
        return true"
    );
    assert_eq!(shown_in(&nodes, &chunk), "true\n");
}

#[test]
fn wrong_filters_are_explained() {
    let nodes = network(1);
    for (call, problem) in [
        ("packets('x')", "packets: filter: expected how many, a table or false, got a string"),
        ("packets(0)", "packets: n: expected a whole number from 1 to 1000, got 0"),
        ("packets{n = 1001}", "packets: n: expected a whole number from 1 to 1000, got 1001"),
        ("packets{rcp = 'ping'}", "packets: there is nothing to filter by 'rcp'"),
        ("packets{rpc = 5}", "packets: rpc: expected a string, got 5"),
        (
            "packets{kind = 'reqest'}",
            "packets: kind: unknown variant `reqest`, expected one of `request`",
        ),
        (
            "packets{direction = 'up'}",
            "packets: direction: unknown variant `up`, expected `in` or `out`",
        ),
        ("packets{peer = 'x'}", "packets: peer: expected a contact"),
        ("tap(5)", "tap: function: expected a function, got 5. Try tap("),
        ("tap(print, {n = 1})", "tap: there is nothing to filter by 'n'"),
        ("untap('x')", "untap: task: expected what tap returned"),
        ("capture(5)", "capture: file: expected the name of a file"),
        ("capture('/tmp/x', 'append')", "capture: existing: expected \"replace\" or nothing"),
        ("capture('/nowhere/x.pcap')", "capture: /nowhere/x.pcap: No such file"),
    ] {
        let out = shown_in(&nodes, &format!("select(2, pcall(function() return {call} end))"));
        assert!(out.contains(&problem.replace('"', "\\\"")), "{call}: {out}");
    }
}

/// How a node with this environment shows packets that would take over a terminal.
fn shown_of_a_stranger(environment: &[(&str, &str)]) -> String {
    let port = free_port();
    let ended = Arc::new(AtomicBool::new(false));
    let ended_too = ended.clone();
    let payload = b"d4:name8:\x1b[2J\xff\xe2\x80\xae4:argsl500:";
    let payload = [&payload[..], &b"\x1b[31m".repeat(100), b"ee"].concat();
    let header = [&[1][..], &[7; 28], &[1], &(payload.len() as u16).to_be_bytes()].concat();
    let stranger = std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let request = [header, payload].concat();
        // Again and again, because the node may not be there yet.
        while !ended_too.load(Ordering::Relaxed) {
            let _ = socket.send_to(&request, ("127.0.0.1", port));
            let _ = socket.send_to(b"\x1b]0;title\x07\r\n\x1b[1m\x9b2J", ("127.0.0.1", port));
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let port = port.to_string();
    let chunk = "while #packets{kind = 'malformed'} < 2 do sleep(0.01) end
        pprint(packets())
        for _, packet in ipairs(packets()) do pprint(packet) end";
    let mut command = kademlua();
    command.envs(environment.iter().copied());
    let output = command.args(["--bootstrap", &port, &port, "-e", chunk]).output().unwrap();
    ended.store(true, Ordering::Relaxed);
    stranger.join().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(err, "");
    assert!(out.contains(" malformed ") && out.contains(" \\x1b[2J\\xff\\u{2"), "{out}");
    assert!(!out.contains('\u{202e}'));
    out
}

/// The width of the widest line, after a check that no line is too wide or holds bytes that are no
/// text.
fn widest(out: &str, columns: usize) -> usize {
    assert!(!out.contains(|char: char| char.is_control() && char != '\n'), "{out:?}");
    let widest = out.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= columns, "{out}");
    widest
}

#[test]
fn what_peers_send_is_shown_escaped_in_the_columns_there_are() {
    let out = shown_of_a_stranger(&[]);
    assert!(out.contains(" \\x1b[2J\\xff\\u{2… ? "), "{out}");
    assert_eq!(widest(&out, 80), 80);
    assert_eq!(widest(&shown_of_a_stranger(&[("COLUMNS", "200")]), 200), 200);
    assert_eq!(widest(&shown_of_a_stranger(&[("COLUMNS", "40")]), 80), 80);
}

#[test]
fn packets_are_ascii_where_the_locale_is() {
    let out = shown_of_a_stranger(&[("LC_ALL", "C")]);
    assert!(out.is_ascii(), "{out}");
    assert_eq!(widest(&out, 80), 80);
}

#[test]
fn no_peer_chooses_the_colours() {
    let out = shown_of_a_stranger(&[("CLICOLOR_FORCE", "1")]);
    let bad: Vec<_> = out.lines().filter(|line| line.contains(" malformed ")).collect();
    assert!(bad.len() >= 4);
    for line in bad {
        let inner = line.strip_prefix("\x1b[31m").and_then(|rest| rest.strip_suffix("\x1b[0m"));
        widest(inner.unwrap_or_else(|| panic!("{line:?}")), 80);
    }
    let rest = out.lines().filter(|line| !line.contains(" malformed "));
    rest.for_each(|line| _ = widest(line, 80));
}

#[test]
fn a_tap_gets_events_in_order_until_it_is_ended() {
    let nodes = network(2);
    let port = nodes[1].local_addr().port();
    let chunk = format!(
        "local seen = {{}}
        local first = tap(function(event) seen[#seen + 1] = event end, {{peer = {port}, rpc = 'ping'}})
        for _ = 1, 5 do ping({port}) end
        sleep(0.2)
        assert(#seen == 10, #seen)
        for i = 1, 10, 2 do
            assert(seen[i].kind == 'request' and seen[i + 1].kind == 'answer')
            assert(seen[i].call == seen[i + 1].call and seen[i].lost == 0)
            assert(i == 1 or seen[i].time >= seen[i - 1].time)
        end
        assert(untap(first).ended == 1 and untap(first).ended == 0)
        ping({port}) sleep(0.1)
        assert(#seen == 10)
        tap(function() end) tap(function() end)
        print(untap())
        print(untap())"
    );
    assert_eq!(shown_in(&nodes, &chunk), "2 taps ended\n0 taps ended\n");
}

#[test]
fn a_tap_sees_contacts_come() {
    let nodes = network(1);
    let chunk = "local come = {}
        tap(function(event) come[event.peer.id] = event end, {kind = 'contact added'})
        local c = cluster(1)
        local id = c:node(1).id
        for _ = 1, 500 do if come[id] then break end sleep(0.01) end
        return tostring(come[id]):match('contact added 127.0.0.1') ~= nil";
    assert_eq!(shown_in(&nodes, chunk), "true\n");
}

#[test]
fn a_tap_that_never_returns_is_ended_by_ctrl_c_and_the_node_goes_on() {
    let nodes = network(2);
    let (bootstrap, port) = (nodes[0].local_addr().to_string(), free_port().to_string());
    let chunk = format!(
        "tap(function() print('caught') while true do end end, {{rpc = 'ping'}})
        ping({0}) sleep(0.1) assert(ping({0}).ms > 0) print('free')",
        nodes[1].local_addr().port()
    );
    let mut command = kademlua();
    command.args(["--bootstrap", &bootstrap, &port, "-e", &chunk]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "caught\n");
    let own = std::net::SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(nodes[1].ping(own.into())).unwrap();
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    // The chunk that waits is ended as well: Ctrl-C is meant for it first.
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(err.contains("interrupted"), "{err}");
}

#[test]
fn a_tap_that_fails_ends_and_says_so() {
    let nodes = network(2);
    let port = nodes[1].local_addr().port();
    let chunk = format!(
        "local calls = 0
        tap(function(event) calls = calls + 1 error('no \\27[2J') end, {{rpc = 'ping', peer = {port}}})
        ping({port}) ping({port}) sleep(0.2)
        return calls, untap().ended"
    );
    let (out, err) = run_in(&nodes, &chunk, 1);
    assert_eq!(out, "1\n0\n");
    assert_eq!(err, "task 1 (tap): -e:2: no \\x1b[2J\nkademlua: a task failed\n");
}

#[test]
fn a_slow_tap_loses_events_and_says_so_while_the_node_goes_on() {
    let nodes = network(2);
    let port = nodes[1].local_addr().port();
    let chunk = format!(
        "local calls, lost = 0, 0
        local watch = tap(function(event) calls, lost = calls + 1, event.lost sleep(0.01) end)
        for _ = 1, 3000 do ping({port}) end
        sleep(0.1)
        local ended = untap(watch)
        assert(calls > 0 and lost > 0 and ended.lost >= lost, lost)
        return tostring(ended):match('1 tap ended, %d+ events lost') ~= nil"
    );
    let (out, err) = run_in(&nodes, &chunk, 0);
    assert_eq!(out, "true\n");
    assert_eq!(
        err,
        "tap: the function is slower than the node; events are lost, and counted in `lost`\n"
    );
}

#[test]
fn a_capture_that_cannot_be_written_ends_with_its_last_whole_packet() {
    let nodes = network(2);
    let (port, file) = (nodes[1].local_addr().port(), fresh("full"));
    let name = file.display();
    let chunk = format!(
        "capture('{name}')
        while capture().running do ping({port}) end
        print(select(2, pcall(capture, false)))
        print(capture(false), ping({port}).ms > 0)
        print(capture('{name}', 'replace').running)"
    );
    let (bootstrap, own) = (nodes[0].local_addr().to_string(), free_port().to_string());
    // The system lets no file grow beyond that, and says so as it does of a full disk.
    let limited = "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", limited, env!("CARGO_BIN_EXE_kademlua")]).env_remove("RUST_LOG");
    let arguments = ["--bootstrap", &bootstrap, &own, "-e", &chunk];
    let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
    let (out, err) = texts(&output);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}{err}");
    let expected = format!("capture: {name}: File too large");
    assert!(lines[0].starts_with(&expected) && lines[0].ends_with(" packets before"), "{out}");
    assert_eq!(lines[1..], ["no capture\ttrue", "true"]);
    assert!(err.contains("ERROR") && err.contains("the capture ends"), "{err}");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_capture_is_told_of_and_never_overwrites_by_accident() {
    let nodes = network(2);
    let (port, file) = (nodes[1].local_addr().port(), fresh("told"));
    let name = file.display();
    let chunk = format!(
        "print(capture())
        capture('{name}')
        for _ = 1, 10 do ping({port}) end
        print(capture().running, capture().file)
        local done = capture(false)
        assert(done.packets >= 20 and not done.running and done.lost == 0)
        print((tostring(done):gsub('%d+ packets, %d+ bytes', 'N')))
        print(capture(false))
        print(select(2, pcall(capture, '{name}')))
        capture('{name}', 'replace')
        print(select(2, pcall(capture, '/tmp/other.pcap')))
        local _ = ping({port})"
    );
    let out = shown_in(&nodes, &chunk);
    let expected = format!(
        "no capture\ntrue\t{name}\n{name}: N\nno capture\n\
         capture: {name} is there already; choose another name, or capture(file, \"replace\")\n\
         capture: {name} is still being written; capture(false) ends it\n"
    );
    assert_eq!(out, expected);
    // A capture that nobody ended is whole as well.
    let len = std::fs::metadata(&file).unwrap().len();
    assert!(len >= 24 + 2 * (16 + 28) + 54 + 37, "{len}");
    std::fs::write(&file, "a text").unwrap();
    let chunk = format!("select(2, pcall(capture, '{name}', 'replace'))");
    let out = shown_in(&nodes, &chunk);
    assert!(out.contains("is no pcap file; it was left alone"), "{out}");
    assert_eq!(std::fs::read(&file).unwrap(), b"a text");
    std::fs::remove_file(file).unwrap();
}
