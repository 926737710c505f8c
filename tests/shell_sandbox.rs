//! What programs in the shell cannot reach, and what they can.

#![cfg(feature = "shell")]

mod shell;

use shell::{alone, complaint, kademlua, run, shown, texts};

#[test]
fn nothing_leads_to_files_processes_or_the_interpreter() {
    let names = "io debug package loadfile warn os.execute os.getenv os.exit \
                 os.remove os.rename os.tmpname os.setlocale string.dump (\"\").dump \
                 _G.io _G.package coroutine.running().x";
    for name in names.split_whitespace() {
        let absent =
            shown(&format!("select(2, pcall(function() return {name} end)) == nil or 'there'"));
        if name.starts_with("coroutine") {
            continue;
        }
        assert_eq!(absent, "true\n", "{name}");
    }
}

#[test]
fn the_safe_standard_library_is_there() {
    for (chunk, expected) in [
        ("('abc'):upper():rep(2, '-')", "\"ABC-ABC\"\n"),
        ("table.concat({1, 2}, ',')", "\"1,2\"\n"),
        ("math.floor(2.5)", "2\n"),
        ("utf8.char(233)", "\"é\"\n"),
        ("os.date('!%Y', 0)", "\"1970\"\n"),
        ("type(os.time()), type(os.clock())", "\"number\"\n\"number\"\n"),
        ("select('#', pcall(error))", "2\n"),
        ("load('return x', 'n', 't', {x = 5})()", "5\n"),
        ("load('y = 6')() or y", "6\n"),
        (
            "load(coroutine.wrap(function() coroutine.yield('return ') coroutine.yield('7') end))()",
            "7\n",
        ),
        ("setmetatable({}, {__index = function(_, k) return k end}).key", "\"key\"\n"),
        ("string.rep('', 1e15)", "\"\"\n"),
        ("coroutine.wrap(function(a) local b = coroutine.yield(a + 1) return b * 2 end)(1)", "2\n"),
        ("pcall(function() sleep(0.01) return pcall(sleep, 0.01) end)", "true\ntrue\n"),
        ("coroutine.resume(coroutine.create(error), 'x')", "false\n\"x\"\n"),
        ("getmetatable('')", "false\n"),
        ("xpcall(error, function(e) return e .. '!' end, 'no')", "false\n\"no!\"\n"),
        ("_VERSION", "\"Lua 5.4\"\n"),
        ("#{1, 2}", "2\n"),
        ("nil", "nil\n"),
        ("x = 1", ""),
    ] {
        assert_eq!(shown(chunk), expected, "{chunk}");
    }
}

#[test]
fn bytecode_is_refused() {
    assert!(shown(r#"load("\27Lua\84")"#).contains("attempt to load a binary chunk"));
    assert!(shown(r#"load("\27Lua\84", "x", "b")"#).contains("attempt to load a binary chunk"));
}

#[test]
fn finalizers_are_refused_for_ctrl_c_does_not_reach_them() {
    let message = complaint("setmetatable({}, {__gc = function() end})");
    assert!(message.contains("-e:1: setmetatable: __gc is not available"), "{message}");
}

#[test]
fn too_much_memory_is_an_error_and_not_the_end() {
    let chunk = "print(pcall(function() local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end end))
        print(pcall(string.rep, 'x', 1 << 40))
        print('alive')";
    let out = shown(chunk);
    assert_eq!(
        out.matches("not enough memory").count() + out.matches("too large").count(),
        2,
        "{out}"
    );
    assert!(out.ends_with("alive\n"), "{out}");
    let message = complaint("local t = {} while true do t[#t + 1] = {} end");
    assert_eq!(message, "kademlua: not enough memory: programs may use 256 MB\n");
}

#[test]
fn endless_recursion_is_an_error() {
    assert!(complaint("function f() return 1 + f() end f()").contains("stack overflow"));
    let nested = "function f() return (('x'):gsub('x', f)) end f()";
    assert!(complaint(nested).contains("C stack overflow"));
}

#[test]
fn errors_show_message_and_line() {
    for (chunk, message) in [
        ("\n\nerror('boo')", "kademlua: -e:3: boo\n"),
        ("\nlocal x = nil + 1", "kademlua: -e:2: attempt to perform arithmetic on a nil value\n"),
        ("x = = 1", "kademlua: -e:1: unexpected symbol near '='\n"),
        ("error('no place', 0)", "kademlua: no place\n"),
        (
            "\nfindvalue('short')",
            "kademlua: -e:2: findvalue: key: expected a 20-byte string or 40 hex digits, got a string of 5 bytes. Try findvalue(sha1(\"key\"))\n",
        ),
        (
            "findvalue()",
            "kademlua: -e:1: findvalue: key: expected a 20-byte string or 40 hex digits, got nothing. Try findvalue(sha1(\"key\"))\n",
        ),
        (
            "findvalue(sha1('k'), 0)",
            "kademlua: -e:1: findvalue: maxnodes: expected a whole number from 1 to 100, got 0\n",
        ),
        (
            "add(sha1('k'), {a = {1.5}})",
            "kademlua: -e:1: add: value.a[1]: expected a whole number, got 1.5\n",
        ),
        (
            "add(sha1('k'), print)",
            "kademlua: -e:1: add: value: expected a string, an integer or a table, got a function\n",
        ),
        (
            "ping('nowhere')",
            "kademlua: -e:1: ping: contact: expected a contact, \"address:port\" or a port of 127.0.0.1, got a string of 7 bytes. Try ping(8001)\n",
        ),
        (
            "every(1)",
            "kademlua: -e:1: every: function: expected a function, got nothing. Try every(1, function() print(\"tick\") end)\n",
        ),
        (
            "sleep(-1)",
            "kademlua: -e:1: sleep: seconds: expected a number of seconds from 0 up, got -1\n",
        ),
        (
            "help('nothing')",
            "kademlua: -e:1: help: expected one of the names that help() lists, got \"nothing\"\n",
        ),
        (
            "fromhex('abc')",
            "kademlua: -e:1: fromhex: digits: expected an even number of hex digits. Try fromhex(\"415a\")\n",
        ),
    ] {
        assert_eq!(complaint(chunk), message, "{chunk}");
    }
}

#[test]
fn errors_of_the_shell_can_be_caught_as_strings() {
    assert_eq!(
        shown("pcall(findnode, {})"),
        "false\n\"findnode: id: expected a 20-byte string or 40 hex digits, got a table. Try findnode(sha1(\\\"key\\\"))\"\n"
    );
}

#[test]
fn what_is_printed_never_gives_orders_to_the_terminal() {
    assert_eq!(shown(r#"print("\27[2J\7", "a\tb\nc")"#), "\\x1b[2J\\x07\ta\tb\nc\n");
    assert_eq!(shown(r#""\27]0;x\7\0""#), "\"\\x1b]0;x\\x07\\x00\"\n");
    assert_eq!(complaint(r#"error("\27[31m", 0)"#), "kademlua: \\x1b[31m\n");
}

#[test]
fn tables_are_shown_with_all_they_hold() {
    assert_eq!(
        shown("{1, 'two', {3}, key = true, ['a b'] = 4.5, [10] = 5}"),
        "{1, \"two\", {3}, [10] = 5, [\"a b\"] = 4.5, key = true}\n"
    );
    assert_eq!(
        shown("(function() local t = {} t.self = t return t end)()"),
        "{self = <a table around this one>}\n"
    );
    assert_eq!(shown("sha1('key')"), "a62f2225bf70bfaccbc7f1ef2a397836717377de\n");
    let long =
        shown("(function() local t = {} for i = 1, 20 do t[i] = ('x'):rep(8) end return t end)()");
    assert!(
        long.starts_with("{\n  \"xxxxxxxx\", \"xxxxxxxx\",") && long.ends_with("\"xxxxxxxx\"\n}\n"),
        "{long}"
    );
}

#[test]
fn bytes_and_ids_are_taken_apart_and_put_together() {
    for (chunk, expected) in [
        ("tohex(sha1('8001'))", "\"0c7fa9633c55e421aa41f2300470e6d40676d09b\"\n"),
        ("fromhex(tohex('a\\0b')) == 'a\\0b'", "true\n"),
        ("tohex(xor(sha1('a'), sha1('a')))", &format!("\"{}\"\n", "0".repeat(40))),
        ("getbucketno(xor(sha1('a'), sha1('a')))", "161\n"),
        ("getbucketno(fromhex('80' .. ('00'):rep(19)))", "1\n"),
        ("getbucketno(('00'):rep(19) .. '01')", "160\n"),
        ("getbucketno(('ff'):rep(20), ('fe'):rep(20))", "8\n"),
    ] {
        assert_eq!(shown(chunk), expected, "{chunk}");
    }
}

#[test]
fn help_covers_the_environment_and_nothing_else() {
    let chunk = "
        local standard = {}
        for name in ('_G _VERSION assert collectgarbage coroutine error getmetatable ipairs load math '
            .. 'next os pairs pcall rawequal rawget rawlen rawset select setmetatable string table '
            .. 'tonumber tostring type utf8 xpcall'):gmatch('%S+') do standard[name] = true end
        local listed = {}
        for name in help().text:gmatch('([%w_]+)%([^\\n]*') do listed[name] = listed[name] or true end
        for name in pairs(_G) do
            if not standard[name] then
                assert(listed[name], name .. ' is not listed')
                assert(help(name).text:find('Example:'), name)
                assert(help(name).text == help(_G[name]).text, name)
            end
        end
        for line in help().text:gmatch('[^\\n]+') do
            if line:find('findvalue?', 1, true) then break end
            local name = line:match('^([%w_]+)%(')
            local f = name and _G[name]
            assert(type(f) == 'function' or getmetatable(f).__call, line)
        end";
    assert_eq!(shown(chunk), "");
}

#[test]
fn help_knows_methods_by_name_by_value_and_by_what_a_value_is() {
    let chunk = "
        n, c = net{nodes = 3}, nil
        local function same(a, b) assert(help(a).text == help(b).text, tostring(b)) end
        same('n:kill', n.kill) same('n.kill', n.kill) same(' n:kill() ', n.kill)
        same('n:findvalue', n.findvalue) same('n:node', n.node) same('n:node', n:node(1))
        same('findvalue', n:node(1).findvalue) same('findvalue', 'n:node(1).findvalue')
        same('net', n) same('lesson', lesson) same('lesson.next', lesson.next) same(n, net)
        same('findnode', n:findnode(1, sha1('a'))) same('add', n:add(1, sha1('a'), 'b'))
        -- Every method has help.
        for name, method in next, getmetatable(n).__index do assert(help(method).text:find('Example:'), name) end
        for name, method in next, lesson do
            if type(method) == 'function' and name ~= 'replay' then assert(help(method).text:find('Example:'), name) end
        end
        -- A path runs nothing.
        setmetatable(_G, {__index = function() error('run') end})
        assert(not pcall(help, 'nothing.at.all') and not pcall(help, function() end) and not pcall(help, {}))
        assert(not select(2, pcall(help, 'nothing.at.all')):find('run'))
        n = 5
        same('n:kill', 'n.kill')";
    assert_eq!(shown(chunk), "");
    let list = shown("help('cluster')");
    assert!(list.contains("  c:status()") && list.contains("  c:findvalue(i, key, "), "{list}");
}

#[test]
fn help_fits_80_columns() {
    let chunk = "local overview = help().text
        print(overview)
        for name in overview:gmatch('([%w_]+)%([^\\n]*') do
            if pcall(help, name) then print(help(name).text) end
        end
        for _, name in ipairs { 'net', 'cluster', 'lesson' } do
            for method in help(name).text:gmatch('\\n  (%l+[:.]%l+)%([^\\n]*') do print(help(method).text) end
        end";
    let text = shown(chunk);
    assert!(text.matches("Example:").count() > 90, "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn a_script_has_its_arguments_and_modules_of_its_own_folder() {
    let folder = std::env::temp_dir().join(format!("kademlua-script-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("lib")).unwrap();
    std::fs::write(
        folder.join("lib/twice.lua"),
        "count = (count or 0) + 1 return {of = function(n) return 2 * n end}",
    )
    .unwrap();
    std::fs::write(folder.join("../kademlua-outside.lua"), "return 1").unwrap();
    let script = folder.join("main.lua");
    std::fs::write(
        &script,
        "#!/usr/bin/env kademlua
        local twice = require 'lib.twice'
        assert(twice == require('lib.twice') and count == 1)
        print(arg[0]:match('[^/]*$'), #arg, arg[1], arg[2], twice.of(21))
        print(pcall(require, '../kademlua-outside'))
        print(pcall(require, 'missing'))
        return arg[1]",
    )
    .unwrap();
    let output = alone().arg(&script).args(["-e", "--json"]).output().unwrap();
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{err}");
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("main.lua\t2\t-e\t--json\t42"));
    assert!(lines.next().unwrap().contains("expected letters, digits"), "{out}");
    assert!(lines.next().unwrap().contains("'missing': No such file"), "{out}");
    assert_eq!(lines.next(), Some("\"-e\""));
    std::fs::remove_file(folder.join("../kademlua-outside.lua")).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_exit_status_tells_how_it_ended() {
    assert_eq!(run("return 1").status.code(), Some(0));
    assert_eq!(run("error()").status.code(), Some(1));
    for arguments in [
        &["--nonsense"][..],
        &["70000"],
        &["8001", "-e", "1", "script.lua"],
        &["--bootstrap", "nowhere"],
        &["--id", "abc"],
        &["--log", "a=b=c", "-e", "1"],
        &["serve", "70000"],
    ] {
        let output = kademlua().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", texts(&output).1);
    }
    let missing = kademlua().arg("/nonexistent.lua").output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(texts(&missing).1.contains("/nonexistent.lua"));
}

#[test]
fn a_port_in_use_is_told() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    for arguments in [&[&port, "-e", "1"][..], &["serve", &port]] {
        let output = kademlua().args(arguments).output().unwrap();
        let (_, err) = texts(&output);
        assert_eq!(output.status.code(), Some(1));
        assert!(err.contains(&format!("127.0.0.1:{port}")) && err.contains("in use"), "{err}");
    }
}

#[test]
fn a_closed_standard_error_is_no_panic() {
    let mut program = alone();
    program.args(["-e", "sleep(0.1) error('no')"]).stderr(std::process::Stdio::piped());
    let mut child = program.spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
