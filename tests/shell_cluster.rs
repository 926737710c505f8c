//! Real nodes that the shell starts as processes, and that end with it.

#![cfg(feature = "shell")]

mod shell;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::kill;
use nix::unistd::Pid;
use shell::{alone, shown};

/// Far longer than an end takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn await_end(process: i32) {
    let deadline = Instant::now() + PATIENCE;
    while kill(Pid::from_raw(process), None).is_ok() {
        // One that has ended and that nobody has waited for yet is not left behind.
        let state = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        if state.contains(") Z ") {
            return;
        }
        assert!(Instant::now() < deadline, "process {process} is left");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn nodes_of_a_cluster_store_find_and_die() {
    let chunk = "local c, key = cluster(4), sha1('key')
        local value = {'a\\255\\n\"', 2, {x = 'y'}}
        local report = c:add(1, key, value)
        assert(#report.stored == 4 and report.kept_here and tostring(report):find('^stored at 4'))
        local status = c:status()
        for i = 1, 4 do assert(status[i].alive and status[i].values == 1 and status[i].port) end
        assert(c:kill(2) and not c:kill(2))
        local found = c:findvalue(3, key, 1).values[1].value
        assert(found[1] == value[1] and found[2] == 2 and found[3].x == 'y')
        assert(#findvalue(key).values > 0)
        assert(not c:status()[2].alive and #c:contacts(1) >= 3)
        local _, problem = pcall(c.findvalue, c, 2, key)
        assert(problem:find('c:findvalue: the node at port %d+ was killed'), problem)
        _, problem = pcall(c.findvalue, c, 5, key)
        assert(problem:find('c:findvalue: node: expected a whole number from 1 to 4, got 5'), problem)
        _, problem = pcall(c.findvalue, c, 1, 'short')
        assert(problem:find('findvalue: key: expected a 20%-byte string'), problem)
        c:stop()
        for _, member in ipairs(c:status()) do assert(not member.alive) end
        return 'done'";
    assert_eq!(shown(chunk), "\"done\"\n");
}

#[test]
fn what_others_store_is_counted() {
    let chunk = "local c = cluster(2) assert(#c:add(1, sha1('key'), 'value').stored == 2)
        local counters = node().counters
        return counters.stored, counters.handed_over";
    assert_eq!(shown(chunk), "1\n0\n");
}

/// Starts a cluster, and ends its shell as `how` does.
fn none_is_left_after(chunk_end: &str, how: impl Fn(&mut std::process::Child)) {
    let chunk = format!(
        "for _, member in ipairs(cluster(3):status()) do print(member.process) end {chunk_end}"
    );
    let mut child = alone().args(["-e", &chunk]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let processes: Vec<i32> = lines.take(3).map(|line| line.unwrap().parse().unwrap()).collect();
    how(&mut child);
    child.wait().unwrap();
    assert_eq!(processes.len(), 3);
    processes.into_iter().for_each(await_end);
}

#[test]
fn no_node_is_left_when_the_shell_ends() {
    none_is_left_after("", |_| {});
}

#[test]
fn no_node_is_left_when_the_shell_is_killed() {
    none_is_left_after("sleep(1000)", |child| child.kill().unwrap());
}
