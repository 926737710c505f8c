//! Ctrl-C ends programs, whatever they do.

#![cfg(feature = "shell")]

mod shell;

use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kademlua::bencode::Item;
use kademlua::id::Id;
use kademlua::message::{Request, RpcError, TransactionId};
use kademlua::wire::{Body, Dialect, Header, emit, parse};

use shell::alone;

fn start(chunk: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut command = alone();
    command.args(["-e", chunk]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

fn send(signal: &str, child: &Child) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// Far longer than any machine takes to end a program that ends at all.
const LONG: Duration = Duration::from_secs(20);

/// The exit status of a child; one that does not end is killed.
fn status(child: &mut Child) -> Option<i32> {
    let begun = Instant::now();
    while begun.elapsed() < LONG {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap().code()
}

/// Runs a chunk that prints `go` and would go on for ever, and ends it; what the program printed
/// on standard error is the result.
fn interrupted(chunk: &str) -> String {
    let (mut child, mut out) = start(chunk);
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "go\n", "{chunk}");
    send("-INT", &child);
    let status = status(&mut child);
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(status, Some(130), "{chunk}: {err}");
    err
}

#[test]
fn ctrl_c_ends_any_loop() {
    for chunk in [
        "print('go') while true do end",
        "print('go') while true do pcall(error) end",
        "print('go') while true do pcall(function() while true do end end) end",
        "print('go') while true do xpcall(function() while true do end end, function() while true do end end) end",
        "print('go') while true do xpcall(error, pcall, error) end",
        "print('go') local function f() return pcall(f) or pcall(f) end while true do f() end",
        "print('go') while true do coroutine.wrap(function() while true do end end)() end",
        "print('go') while true do coroutine.resume(coroutine.create(function() while true do pcall(error) end end)) end",
        "local function nest(n) while true do coroutine.wrap(n > 0 and nest or function() while true do end end)(n - 1) end end print('go') nest(6)",
        "print('go') while true do pcall(table.sort, {1, 2, 3}, function() while true do pcall(error) end end) end",
        "print('go') while true do pcall(string.gsub, 'abc', '.', function() while true do end end) end",
        "print('go') while true do pcall(load, function() while true do end end) end",
        "local t = setmetatable({}, {__index = function() while true do end end}) print('go') while true do pcall(function() return t.x end) end",
        "print('go') while true do local x <close> = setmetatable({}, {__close = function() while true do end end}) end",
        "print('go') local x <close> = setmetatable({}, {__close = function() while true do end end}) while true do end",
        "print('go') while true do pcall(sleep, 0) end",
        "print('go') while true do local s = ('x'):rep(1e5) end",
        "print('go') print(setmetatable({}, {__tostring = function() while true do end end}))",
    ] {
        assert_eq!(interrupted(chunk), "kademlua: interrupted\n", "{chunk}");
    }
}

#[test]
fn ctrl_c_ends_a_program_that_waits() {
    for chunk in [
        "print('go') sleep(1e6)",
        "print('go') while true do pcall(sleep, 1e6) end",
        "print('go') while true do coroutine.wrap(function() pcall(sleep, 1e6) end)() end",
    ] {
        assert_eq!(interrupted(chunk), "kademlua: interrupted\n", "{chunk}");
    }
}

#[test]
fn ctrl_c_ends_what_keeps_a_program_from_going_on() {
    let err =
        interrupted("spawn(function() print('go') while true do pcall(error) end end) sleep(1e6)");
    assert_eq!(err, "task 1 (spawn): interrupted\nkademlua: interrupted\n");
}

/// A child that does not outlive its test, which has no end of its own.
struct Endless(Child);

impl Drop for Endless {
    fn drop(&mut self) {
        // It fails only where the child has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As `help()` has it.
#[test]
fn a_long_call_of_the_library_is_left_by_a_second_ctrl_c_and_the_node_answers_meanwhile() {
    let (child, mut out) = start(
        "print(node().address .. ':' .. node().port) return string.find(('a'):rep(500), ('a-'):rep(50) .. 'b')",
    );
    let mut child = Endless(child);
    let mut address = String::new();
    out.read_line(&mut address).unwrap();
    // Until it is inside the call.
    std::thread::sleep(Duration::from_millis(500));
    send("-INT", &child.0);
    let mut err = BufReader::new(child.0.stderr.take().unwrap());
    let mut line = String::new();
    err.read_line(&mut line).unwrap();
    assert_eq!(line, "the program is inside of a library function; Ctrl-C again leaves kademlua\n");
    assert!(is_answered(address.trim()), "{address}");
    assert!(child.0.try_wait().unwrap().is_none(), "the program goes on");
    send("-INT", &child.0);
    assert_eq!(status(&mut child.0), Some(130));
}

/// Whether the node at an address answers a ping.
fn is_answered(address: &str) -> bool {
    let mut peer = Peer::of(address);
    peer.ask(&Request::Ping);
    peer.answer().1 == Answer::Returned(b"li5ee".to_vec())
}

/// A peer that asks a node.
struct Peer {
    socket: UdpSocket,
    asked: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Returned(Vec<u8>),
    Failed,
}

impl Peer {
    fn of(address: &str) -> Peer {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket.connect(address).unwrap();
        Peer { socket, asked: 0 }
    }

    /// The number of the call.
    fn ask(&mut self, request: &Request<'_>) -> u64 {
        self.asked += 1;
        let rpc_id = TransactionId::new(self.asked.to_be_bytes());
        let mut bytes = Vec::new();
        emit(
            &mut bytes,
            &Header {
                dialect: Dialect::V1,
                from: Id::of_name("asker"),
                transaction: rpc_id,
                asker: None,
            },
            request,
        );
        self.socket.send(&bytes).unwrap();
        self.asked
    }

    fn call(&mut self, name: &str) -> u64 {
        let args = Item::parse(b"le").unwrap().list().unwrap();
        self.ask(&Request::Custom { name: name.as_bytes(), args })
    }

    /// The next answer, and the number of its call.
    fn answer(&self) -> (u64, Answer) {
        let mut buffer = [0; 2_048];
        loop {
            let len = self.socket.recv(&mut buffer).unwrap();
            let frame = parse(&buffer[..len]).unwrap();
            let answer = match frame.body {
                Body::Answer(answer) => Answer::Returned(answer.as_bytes().to_vec()),
                Body::Error(RpcError::Failed) => Answer::Failed,
                // The node asks back whether somebody is there.
                Body::Query(_) => continue,
                body => panic!("{body:?}"),
            };
            return (u64::from_be_bytes(frame.transaction.as_bytes().try_into().unwrap()), answer);
        }
    }
}

/// Functions for `rpc` that never end, each in its way; all but the last can be suspended.
const ENDLESS: [&str; 4] = [
    "while true do end",
    "while true do pcall(error) end",
    "coroutine.wrap(function() while true do coroutine.wrap(function() while true do end end)() end end)()",
    "table.sort({1, 2, 3}, function() while true do end end)",
];

fn offers(body: &str, then: &str) -> String {
    format!(
        "rpc('endless', function() {body} end) rpc('quick', function() return 'here' end)
        print(node().address .. ':' .. node().port) {then}"
    )
}

#[test]
fn an_endless_function_for_peers_keeps_no_other_caller_waiting() {
    for body in &ENDLESS[..3] {
        let (child, mut out) = start(&offers(body, "sleep(1e6)"));
        let _child = Endless(child);
        let mut address = String::new();
        out.read_line(&mut address).unwrap();
        let mut peer = Peer::of(address.trim());
        let mut endless: Vec<u64> = (0..20).map(|_| peer.call("endless")).collect();
        let quick = peer.call("quick");
        // Before any of the others is told that it failed, which is long before any of them is ended.
        assert_eq!(peer.answer(), (quick, Answer::Returned(b"l4:heree".to_vec())), "{body}");
        while !endless.is_empty() {
            let (call, answer) = peer.answer();
            assert_eq!(answer, Answer::Failed);
            endless.retain(|&other| other != call);
        }
    }
}

#[test]
fn ctrl_c_ends_endless_functions_for_peers_however_many() {
    for body in ENDLESS {
        let (child, mut out) = start(&offers(body, "sleep(1e6)"));
        let mut child = Endless(child);
        let mut address = String::new();
        out.read_line(&mut address).unwrap();
        let mut peer = Peer::of(address.trim());
        for _ in 0..64 {
            peer.call("endless");
        }
        assert!(is_answered(address.trim()), "the node itself is never busy");
        send("-INT", &child.0);
        assert_eq!(status(&mut child.0), Some(130), "{body}");
    }
}

#[test]
fn a_coroutine_of_a_long_function_for_peers_yields_what_it_yields() {
    // Long enough for several slices, each of which ends somewhere inside.
    let body = "local function long() for i = 1, 2e6 do end end
        local numbers = coroutine.wrap(function()
            for i = 1, 3 do long() coroutine.yield(i) end
            long() coroutine.yield() long() return 'end'
        end)
        local seen = {}
        for i = 1, 3 do seen[i] = numbers() long() end
        return seen, select('#', numbers()), numbers()";
    let (child, mut out) = start(&offers(body, "sleep(1e6)"));
    let _child = Endless(child);
    let mut address = String::new();
    out.read_line(&mut address).unwrap();
    let mut peer = Peer::of(address.trim());
    let call = peer.call("endless");
    let expected = b"lli1ei2ei3eei0e3:ende".to_vec();
    assert_eq!(peer.answer(), (call, Answer::Returned(expected)));
}

#[test]
fn coroutines_go_on_beside_each_other() {
    let chunk = "local log = {}
        spawn(function() for i = 1, 3 do log[#log + 1] = 'a' sleep(0.02) end end)
        local ticks = every(0.02, function() log[#log + 1] = 'b' end)
        after(0.001, function(x) log[#log + 1] = x end, 'c')
        sleep(0.5)
        local ended, again = cancel(ticks), cancel(ticks)
        local seen = table.concat(log)
        sleep(0.1)
        assert(table.concat(log) == seen, 'a cancelled task goes on')
        local _, a = seen:gsub('a', '') local _, b = seen:gsub('b', '') local _, c = seen:gsub('c', '')
        assert(a == 3 and b >= 2 and c == 1, seen)
        return ended, again";
    assert_eq!(shell::shown(chunk), "true\nfalse\n");
}

#[test]
fn an_error_in_the_background_is_told_and_ends_only_its_task() {
    let output = shell::run("spawn(function() error('lost') end) sleep(0.05) return 'on'");
    let (out, err) = shell::texts(&output);
    assert_eq!(
        (out.as_str(), err.as_str()),
        ("\"on\"\n", "task 1 (spawn): -e:1: lost\nkademlua: a task failed\n")
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn serve_ends_cleanly_when_told() {
    for signal in ["-INT", "-TERM"] {
        let port = shell::free_port().to_string();
        let mut command = shell::kademlua();
        command.args(["serve", &port, "--bootstrap", &port]).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        assert!(line.contains("started") && line.contains(&port), "{line}");
        send(signal, &child);
        assert_eq!(status(&mut child), Some(0), "{signal}");
    }
}
