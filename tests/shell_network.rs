//! The shell's functions in a small network of real nodes.

#![cfg(feature = "shell")]

mod shell;

use std::process::Output;

use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::message::StoreMode;
use kademlua::net::Handle;
use shell::{free_port, kademlua, network, texts};

/// Runs a program in a node that joins the network of `nodes`.
fn run_in(nodes: &[Handle], arguments: &[&str]) -> Output {
    let bootstrap = nodes[0].local_addr().to_string();
    let port = free_port().to_string();
    let command = &mut kademlua();
    command.args(["--bootstrap", &bootstrap, &port]).args(arguments).output().unwrap()
}

/// The output of a chunk there; it must succeed.
fn shown_in(nodes: &[Handle], arguments: &[&str]) -> String {
    let output = run_in(nodes, arguments);
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{arguments:?}: {err}");
    assert_eq!(err, "");
    out
}

#[tokio::test]
async fn what_one_node_stores_the_shell_of_another_finds() {
    let nodes = network(5);
    let value = Value::encode(&("text", 7)).unwrap();
    nodes[1].store(Id::of_name("rust"), value, StoreMode::Add).await.unwrap();
    assert_eq!(
        shown_in(&nodes, &["-e", "findvalue(sha1('rust')).values[1].value"]),
        "{\"text\", 7}\n"
    );

    let chunk = "add(sha1('lua'), {name = 'x', list = {1, 2}, none = {}})";
    let report = shown_in(&nodes, &["-e", chunk]);
    assert!(report.starts_with("stored at 5 nodes and this one, in "), "{report}");
    let found = nodes[4].find_value(Id::of_name("lua"), 1, 6).await.unwrap();
    let expected = Value::parse(b"d4:listli1ei2ee4:name1:x4:nonelee").unwrap();
    assert_eq!(found.values[0].value, expected);
}

#[test]
fn a_found_value_is_one_line_for_each_holder() {
    let nodes = network(3);
    let chunk = "add(sha1('key'), 'value\\27[31m') print(findvalue(sha1('key'), 5))";
    let out = shown_in(&nodes, &["-e", chunk]);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 5, "three nodes, this one, and the time: {out}");
    for line in &lines[..4] {
        assert!(line.starts_with("127.0.0.1:") && line.ends_with(": value\\x1b[31m"), "{line}");
    }
    assert!(lines[4].starts_with("in ") && lines[4].contains(" ms, 1 hop"), "{out}");
}

#[test]
fn results_are_tables_for_programs() {
    let nodes = network(3);
    let port = nodes[1].local_addr().port();
    let chunk = format!(
        "add(sha1('key'), 'value')
        local found = findvalue(sha1('key'))
        assert(#found.values >= 3 and found.ms > 0 and found.hops == 1 and found.messages > 0)
        local hit = found.values[2]
        assert(hit.value == 'value' and hit.who.port and #hit.who.id == 40 and hit.ms and hit.hops)
        local answered = 0
        for _, query in ipairs(found.queries) do
            if query.outcome == 'answered' then answered = answered + 1 end
        end
        assert(answered >= 2)
        local missed = findvalue(sha1('nothing'))
        assert(#missed.values == 0 and tostring(missed):find('nothing found'))
        local near = findnode(node().id)
        assert(#near.nodes == 3 and tostring(near.nodes[1]):find('^127.0.0.1:%d+ %x+$'))
        assert(findnode(near.nodes[2].id).nodes[1].id == near.nodes[2].id)
        assert(#contacts() == 3 and contacts()[1].seen < 60 and contacts()[1].failures == 0)
        assert(#routing().buckets[1].contacts == 3 and routing().buckets[1].is_last)
        local own = node()
        assert(own.port == getsocket({port}).port and own.contacts == 3 and own.uptime < 60)
        assert(own.counters.datagrams_in > 0 and own.stored.keys == 1)
        assert(ping({port}).ms > 0 and ping('127.0.0.1:{port}').who.port == {port})
        assert(ping(near.nodes[1]).who.id == near.nodes[1].id)
        assert(bootstrap({port}).answered == 1)
        assert(put(sha1('key'), 'new').kept_here)
        assert(gc().lua > 0 and gc('collect').process > 1000 and gc('step').max == 262144)
        local inside = coroutine.wrap(function() return findvalue(sha1('key')).values[1].value end)
        assert(inside() == 'new')
        return true"
    );
    assert_eq!(shown_in(&nodes, &["-e", &chunk]), "true\n");
}

#[test]
fn json_lines_are_for_other_programs() {
    let nodes = network(2);
    let chunk = "add(sha1('key'), {'text', '\\255'}) return findvalue(sha1('key'), 1), nil, 1.5";
    let out = shown_in(&nodes, &["--json", "-e", chunk]);
    let lines: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert_eq!(lines[0]["values"][0]["value"], serde_json::json!(["text", { "hex": "ff" }]));
    assert!(lines[0]["values"][0]["who"]["port"].is_u64() && lines[0]["ms"].is_f64());
    assert_eq!(lines[1..], [serde_json::Value::Null, serde_json::json!(1.5)]);
}

#[tokio::test]
async fn functions_are_called_across_the_network() {
    let nodes = network(2);
    let mut calls = nodes[1].register(b"greet").await.unwrap();
    let caller = nodes[0].clone();
    tokio::spawn(async move {
        while let Some(call) = calls.recv().await {
            let name: String = call.args[0].decode().unwrap();
            call.answer(vec![Value::bytes(format!("hello {name}")), Value::integer(1)]);
        }
    });

    let (port, own) = (nodes[1].local_addr().port(), free_port());
    let chunk = format!(
        "local seen = 0
        rpc('twice', function(from, n) seen = seen + 1 sleep(0.01) return 2 * n, from.port end)
        rpc('nothing', function() return nil end)
        rpc('breaks', function() error('here') end)
        rpc('endless', function() while true do pcall(error) end end)
        rpc('gone', print) assert(rpc('gone'))
        assert(select('#', call({port}, 'greet', 'you')) == 2)
        print(call({port}, 'greet', 'you'))
        print(pcall(call, {port}, 'absent'))
        print(pcall(rpc, 'ping', print))
        while seen < 1 do sleep(0.01) end sleep(0.2)"
    );
    let bootstrap = nodes[0].local_addr().to_string();
    let mut command = kademlua();
    command.args(["--bootstrap", &bootstrap, &own.to_string(), "-e", &chunk]);
    let running = std::thread::spawn(move || command.output().unwrap());

    let peer = std::net::SocketAddr::from(([127, 0, 0, 1], own)).into();
    let mut answer = caller.call(peer, b"breaks", vec![]).await;
    while answer.as_ref().is_err_and(|error| {
        error.to_string().contains("no answer") || error.to_string().contains("no such")
    }) {
        answer = caller.call(peer, b"breaks", vec![]).await;
    }
    assert!(answer.unwrap_err().to_string().contains("failed"));
    assert!(caller.call(peer, b"gone", vec![]).await.is_err());
    assert_eq!(caller.call(peer, b"nothing", vec![]).await.unwrap(), []);
    // One that never returns must not keep the others from answering for ever.
    assert!(caller.call(peer, b"endless", vec![]).await.is_err());
    let mut tries = 0;
    while caller.call(peer, b"nothing", vec![]).await.is_err() {
        tries += 1;
        assert!(tries < 20, "an endless function keeps the shell");
    }
    let twice = caller.call(peer, b"twice", vec![Value::integer(21)]).await.unwrap();
    let from = i64::from(caller.local_addr().port());
    assert_eq!(twice, [Value::integer(42), Value::integer(from)]);

    let output = running.join().unwrap();
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{err}");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], "hello you\t1");
    assert!(lines[1].contains("knows no such RPC"), "{out}");
    assert!(lines[2].starts_with("false\trpc: "), "{out}");
    assert!(err.contains("rpc breaks: -e:4: here"), "{err}");
    assert!(err.contains("rpc endless: interrupted"), "{err}");
}

#[tokio::test]
async fn every_example_of_the_help_runs() {
    let nodes = network(3);
    let mut calls = nodes[2].register(b"greet").await.unwrap();
    tokio::spawn(async move {
        while let Some(call) = calls.recv().await {
            call.answer(vec![Value::bytes("hello")]);
        }
    });
    let port = nodes[2].local_addr().port();
    let chunk = format!(
        "local count = 0
        local names = {{}}
        for name in help().text:gmatch('\\n?([%w_]+)%([^\\n]*') do names[#names + 1] = name end
        for _, name in ipairs {{ 'net', 'cluster', 'lesson' }} do
            for method in help(name).text:gmatch('\\n  (%l+[:.]%l+)%([^\\n]*') do names[#names + 1] = method end
        end
        for _, name in ipairs(names) do
            if pcall(help, name) then
                local example = help(name).text:match('\\nExample:\\n(.*)$'):gsub('\\n  ', '\\n')
                example = example:gsub('8003%f[%D]', '{port}')
                local chunk = load('return ' .. example) or assert(load(example))
                local ok, problem = pcall(chunk)
                assert(ok, name .. ': ' .. tostring(problem))
                count = count + 1
            end
        end
        sleep(0.2)
        return count"
    );
    let bootstrap = nodes[0].local_addr().to_string();
    let own = free_port().to_string();
    // One of them leaves a file.
    let folder = std::env::temp_dir().join(format!("kademlua-examples-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let mut command = kademlua();
    command.current_dir(&folder).args(["--bootstrap", &bootstrap, &own, "-e", &chunk]);
    let running = tokio::task::spawn_blocking(move || command.output().unwrap());
    let (out, err) = texts(&running.await.unwrap());
    std::fs::remove_dir_all(folder).unwrap();
    assert_eq!(err, "");
    assert!(out.contains("hello you") && out.contains("later"), "the background runs too: {out}");
    let count: usize = out.lines().last().unwrap().parse().unwrap();
    assert!(count > 90, "functions and methods: {out}");
}

#[test]
fn values_that_cannot_be_stored_are_refused_before_anything_is_sent() {
    let nodes = network(2);
    let chunk = "local before = node().counters.datagrams_out
        for _, value in ipairs {1.5, print, true, 1e14, ('x'):rep(20000), {[{}] = 1}} do
            local ok, problem = pcall(add, sha1('key'), value)
            assert(not ok and problem:find('^add: '), problem)
        end
        local cycle = {} cycle[1] = cycle
        assert(not pcall(add, sha1('key'), cycle))
        return node().counters.datagrams_out - before";
    assert_eq!(shown_in(&nodes, &["-e", chunk]), "0\n");
}

#[test]
fn a_configuration_says_what_node_runs() {
    let port = free_port();
    let file = std::env::temp_dir().join(format!("kademlua-config-{port}.lua"));
    let id = "ab".repeat(20);
    std::fs::write(&file, format!("port = {port} id = '{id}' bootstrap = {{{port}}} k = 5"))
        .unwrap();
    let config = file.to_str().unwrap();
    let own = |arguments: &[&str]| {
        let output = kademlua().args(["--config", config]).args(arguments).output().unwrap();
        texts(&output)
    };
    assert_eq!(own(&["-e", "node().id, node().port"]).0, format!("\"{id}\"\n{port}\n"));
    let other = free_port().to_string();
    assert_eq!(
        own(&[&other, "-e", "node().port"]).0,
        format!("{other}\n"),
        "the command line wins"
    );
    std::fs::write(&file, "kk = 1").unwrap();
    assert!(own(&["-e", "1"]).1.contains("no setting is called 'kk'"));
    std::fs::remove_file(file).unwrap();
}

#[test]
fn standard_input_is_one_program() {
    use std::io::Write;
    use std::process::Stdio;
    let mut command = shell::alone();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let program = b"local x = 1\nprint(x)\nfor i = 1, 2 do\n  print(i)\nend\nerror('end')";
    child.stdin.take().unwrap().write_all(program).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(texts(&output), ("1\n1\n2\n".into(), "kademlua: stdin:6: end\n".into()));
}
