//! `trace` and `lookups` in the shell: the story of a lookup as a table, as text and as JSON.

#![cfg(feature = "shell")]

mod shell;

use std::net::{SocketAddr, UdpSocket};

use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::message::{Request, Response, Rest};
use kademlua::net::Handle;
use kademlua::wire::{Body, emit, parse};
use shell::{free_port, kademlua, network, texts};

/// The output of a program in a node that joins through another; it must succeed.
fn shown_at(bootstrap: SocketAddr, arguments: &[&str]) -> String {
    let port = free_port().to_string();
    let mut command = kademlua();
    command.args(["--bootstrap", &bootstrap.to_string(), &port]).args(arguments);
    let output = command.output().unwrap();
    let (out, err) = texts(&output);
    assert!(output.status.success() && err.is_empty(), "{arguments:?}: {out}{err}");
    out
}

fn shown_in(nodes: &[Handle], arguments: &[&str]) -> String {
    shown_at(nodes[0].local_addr(), arguments)
}

#[test]
fn a_traced_call_returns_what_the_call_does_and_all_it_did() {
    let nodes = network(5);
    let chunk = "
        local before = node().counters
        local story = trace(add, sha1('key'), 'value')
        local after = node().counters
        assert(story.call == 'findnode' and story.cause == 'store' and story.ended == 'converged')
        assert(#story.stored == 5 and #story.deliveries == 5 and #story.queries == 5)
        -- The others may have asked something meanwhile.
        assert(after.bytes_out - before.bytes_out >= story.bytes_sent)
        assert(after.bytes_in - before.bytes_in >= story.bytes_received)
        assert(story.messages == 20)
        local sent, received = 0, 0
        for _, query in ipairs(story.queries) do
            assert(query.outcome == 'answered' and query.hop == 1 and not query.introduced_by)
            assert(query.ms > 0 and query.contacts >= query.new and query.bits_after >= query.bits)
            sent, received = sent + query.bytes_sent, received + query.bytes_received
        end
        for _, delivery in ipairs(story.deliveries) do
            assert(delivery.outcome == 'stored' and delivery.tries == 1 and delivery.ms > 0)
            assert(delivery.sent >= story.queries[5].sent)
            sent, received = sent + delivery.bytes_sent, received + delivery.bytes_received
        end
        assert(sent == story.bytes_sent and received == story.bytes_received)

        local found = trace('findvalue', sha1('key'))
        assert(#found.values == 3 and found.values[1].value == 'value' and found.rounds >= 1)
        assert(found.ended == 'enough values' and found.call == 'findvalue')
        assert(trace(put, sha1('key'), 'new').kept_here)
        return story, found, trace(findnode, node().id)";
    let out = shown_in(&nodes, &["-e", chunk]);
    let key = Id::of_name("key").to_string();
    for line in [
        &format!("findnode {key}, cause: store"),
        "hop rnd sent ms    rtt ms    # asked           bits named by   new nearest",
        "who named whom, * on the way to the result:",
        "stored at 5 nodes and this one",
        &format!("findvalue {key}, cause: search"),
        "this node, has the value",
    ] {
        assert!(out.lines().any(|shown| shown == line), "{line}: {out}");
    }
    assert!(out.contains("├─* #1 127.0.0.1:") && out.contains(", the nearest\n"), "{out}");
    assert!(out.contains("\nconverged, in ") && out.ends_with("1 hop\n"), "{out}");
}

#[test]
fn the_last_lookups_are_there_with_their_causes() {
    let nodes = network(5);
    let chunk = "
        add(sha1('key'), 'value') findvalue(sha1('key')) findnode(sha1('other'))
        local last, causes = lookups(), {}
        for i, lookup in ipairs(last) do
            causes[i] = lookup.cause
            assert(lookup.ago < 60 and #lookup.target == 40)
        end
        assert(last[1].target == tohex(sha1('other')) and last[2].values[1].value == 'value')
        assert(tostring(last):find(' 1 +0 s search +findnode +' .. last[1].target:sub(1, 8)))
        assert(tostring(last[2]):find('this node, has the value', 1, true))
        return table.concat(causes, ', ')";
    let out = shown_in(&nodes, &["-e", chunk]);
    assert!(out.starts_with("\"search, search, store, ") && out.ends_with("join\"\n"), "{out}");
}

#[test]
fn a_story_is_json_too() {
    let nodes = network(3);
    let out = shown_in(&nodes, &["--json", "-e", "trace(add, sha1('key'), '\\255'), lookups()"]);
    let lines: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [story, last] = &lines[..] else { panic!("{out}") };
    assert_eq!(story["cause"], "store");
    assert_eq!(story["target"], Id::of_name("key").to_string());
    let queries = story["queries"].as_array().unwrap();
    assert_eq!((queries.len(), story["deliveries"].as_array().unwrap().len()), (3, 3));
    assert!(queries[0]["who"]["port"].is_u64() && queries[0]["ms"].is_f64(), "{out}");
    assert_eq!(last[0]["queries"], story["queries"]);
}

#[test]
fn what_cannot_be_traced_is_told_at_the_callers_line() {
    let complaint = |chunk: &str| {
        let output = kademlua().args(["sim", "-e", chunk]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{chunk}");
        texts(&output).1
    };
    let node = "local n = net{nodes = 9}\n";
    for (chunk, message) in [
        (
            format!("{node}n:trace(print, 1)"),
            "-e:2: n:trace: expected add, put, findvalue, findnode or",
        ),
        (
            format!("{node}n:trace(nil, 1)"),
            "-e:2: n:trace: expected add, put, findvalue, findnode or",
        ),
        (format!("{node}n:trace(findnode, 1, 5)"), "-e:2: n:findnode: id: expected a 20-byte"),
        (format!("{node}n:node(2).trace('add', 5)"), "-e:2: n:add: key: expected a 20-byte"),
        (format!("{node}n:lookups(10)"), "-e:2: n:lookups: node: expected a whole number"),
        ("trace(findnode, 5)".into(), "-e:1: trace: there is no node here"),
        ("lookups()".into(), "-e:1: lookups: there is no node here"),
    ] {
        let error = complaint(&chunk);
        assert!(error.contains(message), "{chunk}: {error}");
    }
    let alone = shell::complaint("trace(findnode, 5)");
    assert!(alone.contains("-e:1: findnode: id: expected a 20-byte string"), "{alone}");
    let alone = shell::complaint("trace(ping, 5)");
    assert!(
        alone.contains("-e:1: trace: expected add, put, findvalue, findnode or route"),
        "{alone}"
    );
}

/// A peer that has orders for the terminal in all that it says.
fn insolent_peer() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 65_535];
        while let Ok((len, asker)) = socket.recv_from(&mut buffer) {
            let Ok(asked) = parse(&buffer[..len]) else { continue };
            let Body::Query(query) = asked.body else { continue };
            let reason = format!("\x1b[2J\u{202e}{}", "é".repeat(300));
            let values = vec![Value::bytes("\x1b[31mred\n\u{7}")];
            let response = match query.read() {
                Ok(Request::Store(_)) => Response::Refused { reason, token: None },
                Ok(Request::FindValue(_)) => {
                    Response::Values { values, closest: Vec::new(), rest: Rest::default() }
                }
                Ok(Request::FindNode { .. }) => Response::Nodes(Vec::new()),
                _ => Response::Pong,
            };
            let mut out = Vec::new();
            emit(&mut out, &asked.reply_from(Id::of_name("insolent")), &response);
            let _ = socket.send_to(&out, asker);
        }
    });
    address
}

#[test]
fn what_a_peer_says_is_shown_and_never_obeyed() {
    let peer = insolent_peer();
    let chunk = "trace(add, sha1('key'), 'v'), trace(findvalue, sha1('key')), lookups()[1]";
    let out = shown_at(peer, &["-e", chunk]);
    assert!(!out.contains(['\x1b', '\u{7}', '\u{202e}']), "{out:?}");
    let refused = out.lines().find(|line| line.contains("refused: ")).unwrap();
    assert!(refused.contains("refused: \\x1b[2J\\u{202e}éé") && refused.ends_with("é…"), "{out}");
    assert!(refused.chars().count() <= 100, "{refused}");
    assert_eq!(out.matches(": \\x1b[31mred\\n\\x07\n").count(), 2, "{out}");
}

/// Draws a made-up chain, in which each node but the last names the next and three others, on IPv6.
const CHAIN: &str = "
    local story = net{nodes = 2}:trace(findnode, 1, sha1('key'))
    local shape, queries, before = getmetatable(story), {}, nil
    for hop = 1, 60 do
        for j = 1, hop == 1 and 1 or 4 do
            local who = {address = '2001:db8:ffff:ffff:ffff:ffff:ffff:ffff', port = 60000 + j,
                id = ('%038d%02d'):format(hop, j)}
            queries[#queries + 1] = {who = who, introduced_by = before, hop = hop, round = hop, sent = hop * 10,
                ms = 10, outcome = 'answered', bits = hop, bits_before = hop, bits_after = hop, new = 4, contacts = 4}
        end
        before = queries[#queries].who
    end
    story.queries, story.nodes = queries, {before}
    queries[1].introduced_by = before -- nonsense, which must not lead in circles
    print(story)";

#[test]
fn a_deep_tree_stays_narrow_and_loses_nobody() {
    let output = kademlua().args(["sim", "-e", CHAIN]).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(err, "");
    let tree: Vec<_> = out.lines().skip_while(|line| !line.starts_with("this node")).collect();
    let drawn = |line: &&str| line.starts_with(['├', '└', '│', ' ']);
    let drawn: Vec<&str> = tree[1..].iter().copied().take_while(drawn).collect();
    for line in &drawn {
        let least = line.chars().count() - if line.contains(':') { 27 } else { 0 };
        assert!(least <= 80, "{line}");
    }
    let words = drawn.iter().flat_map(|line| line.split_whitespace());
    let mut numbers: Vec<usize> =
        words.filter_map(|word| word.strip_prefix('#')?.parse().ok()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=237).collect::<Vec<_>>(), "{out}");
}
