//! Simulated networks inside of the shell, and the examples.

#![cfg(feature = "shell")]

mod shell;

use std::path::PathBuf;
use std::process::Stdio;

use rexpect::session::spawn_command;
use shell::{assert_golden, kademlua, shown, sim, texts};

/// The complaint of `kademlua sim`; it must fail.
fn complaint(chunk: &str) -> String {
    let output = kademlua().args(["sim", "-e", chunk]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{chunk}");
    texts(&output).1
}

#[test]
fn a_network_goes_as_recorded_under_its_seed() {
    let chunk = "local n = net{nodes = 60, seed = 7, latency = {20, 80}, loss = 0.01}
        print(n, n:node(4))
        print(n:add(1, sha1('key'), 'value'))
        print(n:trace(findvalue, 9, sha1('key')))
        print(#n:kill(0.3), n:join(2)[2], n:run(60))
        print(n:findvalue(n:random(), sha1('key')))
        print(n:node(61):routing())
        print(n:stats('reset'), n:stats())
        local me = n:node(61)
        print(me.trace(me.add, sha1('other'), 'value'))
        print(me:lookups())";
    let out = sim(&["-e", chunk]);
    assert_golden("net.txt", &out);
    assert_eq!(sim(&["-e", chunk]), out);
    assert_ne!(sim(&["-e", &chunk.replace("seed = 7", "seed = 8")]), out);
}

#[test]
fn contacts_that_are_gone_leave_where_nodes_check_them() {
    let chunk = "local counts = {}
        for _, check in ipairs{0, 60} do
          local n = net{nodes = 30, seed = 7, check = check, keepalive = 0}
          n:run(60)
          local first = n:alive()[1]
          local dead = {}
          for _, i in ipairs(n:alive()) do if i ~= first then dead[#dead + 1] = i end end
          n:kill(dead)
          n:run(120)
          counts[#counts + 1] = n:node(first).node().contacts
        end
        return counts[1], counts[2]";
    assert_eq!(sim(&["-e", chunk]), "29\n0\n");
}

#[test]
fn a_lookup_is_traced_as_the_readme_shows() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(file).unwrap();
    let chunk = readme.split("```\n").find(|block| block.starts_with("n = net{")).unwrap();
    let chunk = chunk.split_inclusive('\n').take_while(|line| !line.starts_with("n:node"));
    let chunk = chunk.collect::<String>().replace("n:trace(", "return n:trace(");
    let out = sim(&["-e", &chunk]);
    assert!(out.contains("* #2 ") && out.lines().count() > 15, "{out}");
    assert!(readme.contains(&format!("```\n{out}```\n")), "the README is to show:\n{out}");
}

#[test]
fn what_is_done_to_a_network_shows() {
    let chunk = "local n, key = net{nodes = 40, k = 3}, sha1('key')
        n:add(1, key, 'value')
        assert(#n:holders(key) == 3)
        local sides = n:partition{n:holders(key)}
        assert(#sides == 2 and #sides[1] == 3 and #sides[2] == 37)
        assert(#n:findvalue(sides[2][1], key).values == 0)
        n:heal()
        assert(n:findvalue(sides[2][1], key).values[1].value == 'value')
        n:loss(1)
        n:stats('reset')
        assert(#n:findnode(1, key).nodes == 0 and n:stats().success == 0)
        assert(n:loss(0) == 0)
        local dead = n:kill{2, 3}
        assert(#dead == 2 and #n:alive() == 38 and not pcall(n.findnode, n, 2, key))
        local me = n:node(5)
        assert(#me.contacts() == #me:contacts() and me.node().id == me.id)
        assert(me.findnode(me.id).nodes[1].id == n:findnode(5, me.id).nodes[1].id)
        n:spoof(5, sha1('nobody')) n:run(10)
        for _, contact in ipairs(me.contacts()) do assert(contact.id ~= tohex(sha1('nobody'))) end
        return #n:join(2, key, 20)";
    assert_eq!(sim(&["-e", chunk]), "2\n");
    assert_eq!(shown("#net{nodes = 3}:alive()"), "3\n");
}

#[test]
fn complaints_say_what_was_expected() {
    for (chunk, message) in [
        ("net{nodes = 0}", "net: nodes: expected a whole number from 1 to 1000000, got 0"),
        ("net{node = 1}", "net: no setting is called 'node'; there are nodes, seed"),
        ("net{k = 21}", "net: k: expected a whole number from 1 to 20, got 21"),
        ("net{latency = {80, 20}}", "net: latency: expected milliseconds"),
        ("net{addresses = 4}", "net: addresses: expected \"private\", \"private6\", \"public\" or"),
        (
            "net{}:join(1, nil, nil, 'x/8')",
            "n:join: ranges: expected a list of ranges of addresses",
        ),
        ("net{}:join(1, nil, nil, {'x/8'})", "n:join: ranges: expected a list of ranges"),
        ("net(5)", "net: settings: expected a table, got 5. Try net{"),
        ("net{}:kill(2)", "n:kill: nodes: expected a share"),
        ("net{}:lie(0.1, 'x')", "n:lie: way: expected \"drop\", \"collude\" or \"garbage\""),
        ("net{}:findvalue(101, 'x')", "n:findvalue: node: expected a whole number from 1 to 100"),
        ("net{}:findvalue(1, 'x')", "Try n:findvalue(1, sha1(\"key\"))"),
        ("local n = net{} n:kill{7} n:findnode(7, sha1('x'))", "n:findnode: node 7 is dead"),
        ("net{}:trace('ping', 1)", "n:trace: expected add, put, findvalue, findnode or route"),
        ("findvalue(sha1('key'))", "findvalue: there is no node here"),
        ("net{nodes = 1000}:join(999001)", "at most 1000000 simulated nodes fit"),
        ("net{nodes = 100001, check = 60}", "at most 100000 simulated nodes fit that check"),
    ] {
        let error = complaint(chunk);
        assert!(error.contains(message), "{chunk}: {error}");
    }
    assert_eq!(kademlua().args(["sim", "no.lua"]).output().unwrap().status.code(), Some(1));
}

#[test]
fn every_example_prints_its_table() {
    let examples = [
        ("hops", 4),
        ("route", 8),
        ("churn", 4),
        ("alpha", 4),
        ("k", 6),
        ("partition", 4),
        ("liars", 5),
        ("sybil", 4),
    ];
    for (example, lines) in examples {
        let out = sim(&[&format!("{example}.lua"), "quick"]);
        assert_eq!(out.lines().count(), lines, "{example}: {out}");
        assert_golden(&format!("{example}.txt"), &out);
    }
}

/// The promise of disjoint paths: in a network of 1,000 nodes of which a fifth lies, eight paths find
/// at least 99 % of all values.
#[test]
fn disjoint_paths_find_values_among_liars() {
    let out = sim(&["liars.lua"]);
    assert_golden("liars-1000.txt", &out);
    let fifth = out.lines().find(|line| line.starts_with("  20%")).expect("a line for each share");
    let found = fifth.split_whitespace().nth_back(1).and_then(|found| found.strip_suffix('%'));
    assert!(found.expect("a share").parse::<f64>().unwrap() >= 99.0, "{out}");
}

/// Found on one path and on eight, next to each number of chosen ids, by where their addresses are.
#[test]
fn few_addresses_hide_no_value_however_ids_are_chosen() {
    let out = sim(&["sybil.lua"]);
    assert_golden("sybil-200.txt", &out);
    for line in out.lines().skip(2) {
        let shares = line.split_whitespace().skip(1).map(|share| share.strip_suffix('%').unwrap());
        let shares: Vec<u32> = shares.map(|share| share.parse().unwrap()).collect();
        let [one_24, one_24_on_8, _, _, one_56, one_56_on_8, ..] = shares[..] else {
            panic!("{line}")
        };
        assert!([one_24, one_24_on_8, one_56, one_56_on_8] == [100; 4], "{line}");
    }
}

#[test]
fn a_publisher_learns_that_few_owners_may_hold_a_value() {
    let store = "local n, key = net{nodes = 60, max_per_subnet = 20, addresses = KIND}, sha1('key')
        n:join(30, key, 40, RANGES)
        print(n:add(1, key, 'value'))
        return n:add(1, key, 'value').few_subnets";
    for (kind, ranges, told) in [
        ("'public'", "{'203.0.113.0/24', '198.51.100.0/24'}", true),
        ("'public6'", "{'2001:db8:1::/48'}", true),
        ("'public'", "nil", false),
        ("'private'", "nil", false),
    ] {
        let out = sim(&["-e", &store.replace("KIND", kind).replace("RANGES", ranges)]);
        assert_eq!(out.contains("careful: "), told, "{kind}, {ranges}: {out}");
        assert!(out.ends_with(&format!("{told}\n")), "{out}");
    }
}

#[test]
fn ctrl_c_ends_a_long_run() {
    let mut command = kademlua();
    command.env("TERM", "dumb").env("XDG_STATE_HOME", "/dev/null").stdin(Stdio::inherit());
    command.arg("sim");
    let mut session = spawn_command(command, Some(20_000)).unwrap();
    session.send_line("n = net{nodes = 500} print('go' .. 1) n:run(1e9)").unwrap();
    session.exp_string("go1").unwrap();
    session.send_control('c').unwrap();
    session.exp_string("interrupted").unwrap();
    session.send_line("print('goes' .. 'on', #n:alive())").unwrap();
    session.exp_string("goeson\t500").or_else(|_| session.exp_string("goeson")).unwrap();
    session.send_control('d').unwrap();
    session.exp_eof().unwrap();
}
