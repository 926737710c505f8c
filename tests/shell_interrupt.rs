//! Ctrl-C ends programs, whatever they do.

#![cfg(feature = "shell")]

mod shell;

use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kademlua::id::Id;
use kademlua::message::{Request, RpcId};
use kademlua::wire::v1::{self, Body, Frame, Header};

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
        "print('go') return setmetatable({}, {__tostring = function() while true do end end})",
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
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let mut ping = Vec::new();
    let header = Header { from: Id::of_name("asker"), rpc_id: RpcId(*b"question") };
    v1::put_request(&mut ping, &header, &Request::Ping);
    socket.send_to(&ping, address).unwrap();
    let mut buffer = [0; 2_048];
    let len = socket.recv(&mut buffer).unwrap();
    matches!(Frame::parse(&buffer[..len]).unwrap().body, Body::Response(b"li5ee"))
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
    assert_eq!((out.as_str(), err.as_str()), ("\"on\"\n", "task 1 (spawn): -e:1: lost\n"));
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
