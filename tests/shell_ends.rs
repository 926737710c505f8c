//! Whatever ends a run, the node has kept every value that it acknowledged, the exit status tells what
//! ended it, and the terminal is as before.

#![cfg(all(unix, feature = "shell"))]

mod shell;

use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rexpect::reader::Options;
use rexpect::session::PtySession;
use shell::{free_port, kademlua, texts};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kademlua");

/// Stores a value at the node itself and says so.
const STORE: &str = "add(sha1('k'), 'v') print('go') ";

/// Far longer than any machine takes to end a program that ends at all.
const LONG: Duration = Duration::from_secs(60);

/// A folder for a state, removed at the end.
struct State(PathBuf);

impl State {
    fn new(name: &str) -> State {
        let name = format!("ends-{name}-{}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
        State(path)
    }

    /// Arguments of a node that keeps its state here and knows no other.
    fn arguments(&self) -> Vec<String> {
        let port = free_port().to_string();
        let state = self.0.display().to_string();
        [&port, "--bootstrap", &port, "--state", &state].map(str::to_owned).to_vec()
    }

    /// Whether the value is there; from now on it is not.
    fn has_value(&self) -> bool {
        let chunk = "return #findvalue(sha1('k')).values";
        let mut command = kademlua();
        command.args(self.arguments()).args(["--json", "-e", chunk]);
        let (out, err) = texts(&command.output().unwrap());
        std::fs::remove_dir_all(&self.0).unwrap();
        assert!(["0\n", "1\n"].contains(&out.as_str()), "{out}{err}");
        out == "1\n"
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A child that does not outlive its test.
struct Running(Child);

impl Running {
    /// Waits until the program says that it goes on.
    fn begin(mut command: Command) -> Running {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Running(command.spawn().unwrap());
        let mut out = BufReader::new(child.0.stdout.take().unwrap());
        let mut lines = String::new();
        while !lines.ends_with("go\n") {
            assert_ne!(out.read_line(&mut lines).unwrap(), 0, "{lines}{}", child.complaint());
        }
        child
    }

    fn send(&self, signal: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// The exit status; none if it was killed, as one is that does not end.
    fn status(&mut self) -> Option<i32> {
        let begun = Instant::now();
        while begun.elapsed() < LONG {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    fn complaint(&mut self) -> String {
        let mut err = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        err
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program, with the usual meaning of every signal, whatever started the tests.
fn heedful() -> Command {
    if !cfg!(target_os = "linux") {
        return kademlua();
    }
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", PROGRAM]).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn program(state: &State, chunk: &str) -> Command {
    let mut command = heedful();
    command.args(state.arguments()).args(["-e", &format!("{STORE}{chunk}")]);
    command
}

#[test]
fn a_program_that_fails_has_kept_what_it_stored() {
    let state = State::new("error");
    for (chunk, status) in [
        ("", 0),
        ("error('later')", 1),
        ("error({})", 1),
        ("local x = nil + 1", 1),
        ("return setmetatable({}, {__tostring = error})", 0),
        ("local t = {} while true do t[#t + 1] = ('x'):rep(1e6) end", 1),
    ] {
        let output = program(&state, chunk).output().unwrap();
        let (_, err) = texts(&output);
        if status == 1 {
            assert_eq!(output.status.code(), Some(1), "{chunk}: {err}");
        }
        assert!(state.has_value(), "{chunk}: {err}");
    }
    // Read before it is known that it cannot be compiled.
    let mut command = kademlua();
    command.args(state.arguments()).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{STORE}error()").as_bytes()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(state.has_value(), "standard input");
}

#[test]
fn a_signal_ends_a_program_in_good_order_and_the_status_tells_which() {
    let state = State::new("signals");
    let stuck = "string.find(('a'):rep(500), ('a-'):rep(50) .. 'b')";
    for (signal, status) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        for chunk in ["sleep(60)", "while true do end", "while true do pcall(sleep, 60) end", stuck]
        {
            let mut child = Running::begin(program(&state, chunk));
            child.send(signal);
            if chunk == stuck && signal == "-INT" {
                let mut err = BufReader::new(child.0.stderr.take().unwrap());
                err.read_line(&mut String::new()).unwrap();
                child.send(signal);
            }
            assert_eq!(child.status(), Some(status), "{signal}: {chunk}");
            assert!(state.has_value(), "{signal}: {chunk}");
        }
    }
}

#[test]
fn a_signal_is_told_by_the_status_alone() {
    let state = State::new("quiet");
    let mut child = Running::begin(program(&state, "sleep(60)"));
    child.send("-TERM");
    assert_eq!((child.status(), child.complaint()), (Some(143), String::new()));
}

#[test]
fn who_is_to_outlive_the_terminal_does() {
    let state = State::new("nohup");
    let mut command = Command::new("nohup");
    command.arg(PROGRAM).args(state.arguments()).args(["-e", &format!("{STORE}sleep(1) error()")]);
    command.stdin(Stdio::null());
    let mut child = Running::begin(command);
    child.send("-HUP");
    assert_eq!(child.status(), Some(1));
}

#[test]
fn serve_ends_in_good_order_when_its_terminal_goes_too() {
    let state = State::new("serve");
    for signal in ["-INT", "-TERM", "-HUP"] {
        let arguments = state.arguments();
        let mut command = heedful();
        command.arg("serve").args(&arguments).stderr(Stdio::piped());
        let mut child = Running(command.spawn().unwrap());
        let mut log = BufReader::new(child.0.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        assert!(line.contains("started"), "{line}");
        let mut store = kademlua();
        store.args([&free_port().to_string(), "--bootstrap", &arguments[0], "-e", STORE]);
        assert!(store.output().unwrap().status.success());
        child.send(signal);
        assert_eq!(child.status(), Some(0), "{signal}");
        let mut rest = String::new();
        log.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("stopped"), "{signal}: {rest}");
        assert!(state.has_value(), "{signal}");
    }
}

/// As in a container: the first process gets no signal that it does not ask for.
#[test]
#[cfg(target_os = "linux")]
fn the_first_process_of_a_namespace_ends_when_it_is_told() {
    let unshare = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let tried = Command::new("unshare").args(unshare).arg("true").output();
    if !tried.as_ref().is_ok_and(|output| output.status.success()) {
        let why = format!("no process namespace of one's own: {tried:?}");
        assert!(std::env::var_os("KADEMLUA_FORBID_SKIPS").is_none(), "{why}");
        eprintln!("skipped: {why}");
        return;
    }
    let state = State::new("first");
    for (signal, status) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let mut command = Command::new("unshare");
        command
            .args(unshare)
            .args(["env", "--default-signal=HUP", PROGRAM])
            .args(state.arguments());
        command.args(["-e", &format!("{STORE}sleep(60)")]).stdin(Stdio::null());
        let mut child = Running::begin(command);
        // The signal is for the only child of the one that made the namespace.
        let children = format!("/proc/{0}/task/{0}/children", child.0.id());
        let first = std::fs::read_to_string(children).unwrap();
        let sent = Command::new("kill").args([signal, first.trim()]).status().unwrap();
        assert!(sent.success());
        assert_eq!(child.status(), Some(status), "{signal}");
        assert!(state.has_value(), "{signal}");
    }
}

/// What ends a prompt: a signal, or the end of its input.
#[test]
fn a_prompt_that_is_ended_leaves_the_terminal_as_it_was() {
    let state = State::new("prompt");
    for (signal, status) in [("TERM", 143), ("HUP", 129), ("", 0)] {
        let script = "echo before $(stty -g) is
            sh -c 'echo process $$ is; exec \"$@\"' sh \"$@\"
            echo status $? is; echo after $(stty -g) is";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", PROGRAM]).args(state.arguments());
        command.env_remove("RUST_LOG").env("TERM", "xterm").env("HOME", &state.0);
        command.env_remove("XDG_STATE_HOME");
        let timeout_ms = Some(LONG.as_millis() as u64);
        let options = Options::new().timeout_ms(timeout_ms).strip_ansi_escape_codes(true);
        let mut terminal: PtySession =
            rexpect::session::spawn_with_options(command, options).unwrap();
        terminal.exp_string("before ").unwrap();
        let before = terminal.exp_string(" is").unwrap();
        terminal.exp_string("process ").unwrap();
        let process = terminal.exp_string(" is").unwrap();
        terminal.exp_string(" > ").unwrap();
        terminal.send_line(STORE).unwrap();
        terminal.exp_string("go\r\n").unwrap();
        terminal.exp_string(" > ").unwrap();
        match signal {
            "" => terminal.send_control('d').unwrap(),
            signal => {
                let kill = Command::new("kill").args(["-s", signal, process.trim()]).status();
                assert!(kill.unwrap().success());
            }
        }
        terminal.exp_string("status ").unwrap();
        assert_eq!(terminal.exp_string(" is").unwrap().trim(), status.to_string(), "{signal}");
        terminal.exp_string("after ").unwrap();
        assert_eq!(terminal.exp_string(" is").unwrap(), before, "{signal}");
        assert!(state.has_value(), "{signal}");
    }
}

#[test]
fn too_few_descriptors_are_one_message_that_says_for_what() {
    for count in 4..45 {
        for arguments in ["\"$2\" -e 1", "serve \"$2\"", "sim -e 1"] {
            let script = format!("ulimit -n {count}; exec timeout 1 \"$1\" {arguments}");
            let mut command = Command::new("bash");
            let port = free_port().to_string();
            command.args(["-c", &script, "bash", PROGRAM, &port]).env_remove("RUST_LOG");
            let output = command.stdin(Stdio::null()).output().unwrap();
            let (_, err) = texts(&output);
            let what = format!("{count}, {arguments}: {err}");
            assert!(!err.contains("panicked"), "{what}");
            if output.status.code() == Some(1) && !err.contains("error while loading") {
                assert!(err.contains("file descriptors") && err.contains("ulimit -n"), "{what}");
                assert_eq!(err.lines().count(), 1, "{what}");
            } else if count > 40 {
                assert!(matches!(output.status.code(), Some(0 | 124)), "{what}");
            }
        }
    }
}

#[test]
fn empty_input_without_a_terminal_is_answered_with_a_hint() {
    for input in ["", "\n", " \t\r\n"] {
        let mut command = shell::alone();
        command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let (out, err) = texts(&output);
        assert_eq!((output.status.code(), out.as_str()), (Some(2), ""), "{err}");
        assert!(err.contains("kademlua serve"), "{err}");
    }
}
