//! Configuration from outside: sources and their precedence, problems, printing, `CONFIG`.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside a test function")]

use std::ffi::OsString;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::thread;

use distcache_node::config::options::{self, Change, OptionSpec};
use distcache_node::config::{
    Config, FsyncPolicy, Kind, Launch, LaunchError, LiveConfig, RawConfig, launch,
};

/// A value other than the default that people may write for the option at start.
fn another(spec: &OptionSpec) -> String {
    match spec.kind {
        Kind::Flag => if spec.default == "yes" { "off" } else { "on" }.to_owned(),
        // Ports must differ from each other.
        Kind::Integer { .. } if spec.name == "direct-port" => "7001".to_owned(),
        Kind::Integer { .. } if spec.name == "bus-port" => "7002".to_owned(),
        Kind::Integer { .. } if spec.name == "http-port" => "7003".to_owned(),
        Kind::Integer { max, .. } => max.to_string(),
        Kind::Clamped { high, .. } => high.to_string(),
        Kind::Size { .. } => "3gb".to_owned(),
        Kind::SizeOrPercent => "7%".to_owned(),
        Kind::Percentiles => "90 99.99".to_owned(),
        Kind::Choice { words, .. } => {
            (*words.iter().find(|word| **word != spec.default).unwrap()).to_owned()
        }
        Kind::Text | Kind::Path | Kind::Secret => "other # \"text\" \\ é".to_owned(),
        Kind::Addresses => "127.0.0.2 ::1".to_owned(),
        Kind::Host => "node-1.example".to_owned(),
        Kind::Seeds => "other,[::1]:12051".to_owned(),
        Kind::SavePoints => "60 1 30 100".to_owned(),
        Kind::OutputLimits => "normal 1 2 3 pubsub 7 8 9".to_owned(),
        Kind::Events => "KEA".to_owned(),
    }
}

/// Whether a node with another value than the default does not start.
fn is_refused(spec: &OptionSpec) -> bool {
    ["tls-port", "aclfile"].contains(&spec.name)
}

fn try_start(args: &[&str], variables: &[(&str, &str)]) -> Result<Launch, LaunchError> {
    let args = ["distcache-node"].iter().chain(args).map(OsString::from);
    launch(args, variables.iter().map(|(name, value)| (name.into(), value.into())))
}

fn start(args: &[&str], variables: &[(&str, &str)]) -> LiveConfig {
    match try_start(args, variables) {
        Ok(Launch::Run { config, .. }) => config,
        other => panic!("expected a configuration, not {other:?}"),
    }
}

fn print(args: &[&str]) -> String {
    match try_start(args, &[]) {
        Ok(Launch::Print(text)) => text,
        other => panic!("expected a text, not {other:?}"),
    }
}

fn problems(args: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    match try_start(args, variables) {
        Err(LaunchError::Invalid(problems)) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("expected problems, not {other:?}"),
    }
}

/// A file of the given content, and the text of its path.
fn file_with(content: &str) -> (tempfile::TempPath, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    let path = file.into_temp_path();
    let text = path.to_str().unwrap().to_owned();
    (path, text)
}

fn value(config: &LiveConfig, name: &str) -> String {
    let found = config.get(&[name]);
    assert_eq!(found.len(), 1, "{name}");
    found[0].1.clone()
}

fn set(config: &LiveConfig, pairs: &[(&str, &str)]) -> Result<(), String> {
    config.set(pairs).map_err(|error| error.to_string())
}

#[test]
fn defaults_are_those_that_the_readme_promises() {
    let config = start(&[], &[]).current();
    assert_eq!(*config, Config::default());
    assert_eq!(
        config.bind.iter().map(|b| b.ip).collect::<Vec<_>>(),
        [IpAddr::from([127, 0, 0, 1])]
    );
    assert_eq!(config.port, 2050);
    assert_eq!(config.data_dir.to_str(), Some("./distcache-data"));
    assert_eq!((config.oplog, config.fsync), (true, FsyncPolicy::EverySecond));
    assert_eq!((config.maxmemory_bytes, config.databases), (0, 16));
    assert!(config.shard_count() >= 1);
}

#[test]
fn flag_variable_and_file_give_the_same_value() {
    let one_value =
        |spec: &&OptionSpec| matches!(spec.kind, Kind::Integer { min, max, .. } if min == max);
    for spec in options::rows().filter(|spec| !one_value(spec) && !is_refused(spec)) {
        let text = another(spec);
        let flag = start(&[&format!("--{}", spec.name), &text], &[]);
        let variable = start(&[], &[(&spec.variable(), &text)]);
        let literal = format!("{} = '''{text}'''", spec.name);
        let (_file, path) = file_with(&literal);
        let file = start(&["--config", &path], &[]);
        let is_other = value(&flag, spec.name) != value(&start(&[], &[]), spec.name);
        assert!(is_other || spec.hidden, "{}", spec.name);
        for other in [variable, file] {
            assert_eq!(value(&flag, spec.name), value(&other, spec.name), "{}", spec.name);
            assert_eq!(*flag.current(), *other.current(), "{}", spec.name);
        }
    }
}

#[test]
fn ports_follow_from_the_port_for_all_clients() {
    let ports = |args: &[&str]| {
        let config = start(args, &[]).current();
        (config.direct_port(config.port), config.bus_port(config.port))
    };
    assert_eq!(ports(&[]), (2051, 12050));
    assert_eq!(ports(&["--port", "7000"]), (7001, 17000));
    assert_eq!(ports(&["--port", "0"]), (0, 0));
    assert_eq!(ports(&["--port", "60000"]), (60001, 0));
    assert_eq!(ports(&["--direct-port", "9", "--bus-port", "0"]), (9, 0));
    let http = |args: &[&str]| {
        let config = start(args, &[]).current();
        config.http_port(config.port)
    };
    assert_eq!(http(&[]), Some(2052));
    assert_eq!(http(&["--port", "65534"]), Some(0));
    assert_eq!(http(&["--port", "0"]), Some(0));
    assert_eq!(http(&["--http-port", "9"]), Some(9));
    assert_eq!(http(&["--http-port", "0"]), None);
}

#[test]
fn options_of_the_cluster_must_go_together() {
    let told = problems(
        &["--direct-port", "2050", "--bus-port", "2051", "--seeds", "a b:c:d", "--replicas", "1"],
        &[],
    );
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with("seeds = 'a b:c:d' (--seeds): allowed: host[:port]"), "{told:?}");
    assert!(told[1].starts_with("replicas = '1' (--replicas): allowed: 0 to 0"), "{told:?}");
    assert!(told[2].starts_with("direct-port = '2050' (--direct-port): another"), "{told:?}");

    let told = problems(&["--http-port", "2051"], &[]);
    assert!(told[0].starts_with("http-port = '2051' (--http-port): another"), "{told:?}");
    let told = problems(&["--direct-port", "2052"], &[]);
    assert!(
        told[0].starts_with("http-port = '-1' (default): another port of this node"),
        "{told:?}"
    );

    let open = ["--bind", "*", "--insecure", "--seeds", "a,b:7"];
    let told = problems(&open, &[]);
    assert!(told[0].starts_with("cluster-secret (default): a cluster beyond"), "{told:?}");
    start(&[&open[..], &["--insecure-cluster"]].concat(), &[]);
    let config = start(&open, &[("DISTCACHE_CLUSTER_SECRET", "x")]).current();
    assert_eq!(config.seeds.len(), 2);
    assert_eq!((config.seeds[0].port, config.seeds[1].port), (None, Some(7)));
    let told = problems(&["--port", "0", "--seeds", "a"], &[]);
    assert!(told[0].contains("a seed without a port needs a bus-port"), "{told:?}");
}

#[test]
fn flags_win_over_variables_over_file_over_defaults() {
    let (_file, path) = file_with("hz = 20\ntimeout = 21\nmaxclients = 22\n");
    let variables =
        [("DISTCACHE_CONFIG", &*path), ("DISTCACHE_HZ", "30"), ("DISTCACHE_TIMEOUT", "31")];
    let config = start(&["--hz", "40"], &variables).current();
    assert_eq!(config.hz, 40);
    assert_eq!(config.timeout_s, 31);
    assert_eq!(config.maxclients, 22);
    assert_eq!(config.tcp_keepalive_s, 300);
}

#[test]
fn the_file_takes_types_of_toml_and_names_of_redis() {
    let (_file, path) = file_with(
        "appendonly = false\nappendfsync = \"always\"\nmaxmemory = 1_000\nloglevel = \"notice\"\n\
         bind = [\"127.0.0.1\", \"-::1\"]\nenable-debug-command = true\n",
    );
    let config = start(&["--config", &path], &[]);
    assert_eq!(value(&config, "oplog"), "no");
    assert_eq!(value(&config, "fsync"), "always");
    assert_eq!(value(&config, "maxmemory"), "1000");
    assert_eq!(value(&config, "log-level"), "info");
    assert_eq!(value(&config, "enable-debug-command"), "yes");
    let bind = &config.current().bind;
    assert_eq!(bind.iter().map(|b| b.optional).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn every_problem_of_every_source_is_told_at_once() {
    let (_file, path) = file_with("prot = 1\ndatabases = 256\nshards = 1.5\nhz = = 2\n");
    let told = problems(
        &["--config", &path, "--port", "70000", "--bind", "0.0.0.0"],
        &[("DISTCACHE_MAXMEMORY", "10xx"), ("DISTCACHE_FSYNC", "sometimes")],
    );
    let expected = [
        ("config", ":4"),
        ("prot", "not an option; did you mean port"),
        ("databases = '256'", "allowed: 1 to 255 databases"),
        ("shards", "a float is not allowed here; allowed: 0 to 1024 shards"),
        ("maxmemory = '10xx' (DISTCACHE_MAXMEMORY)", "allowed: a size, as 100mb"),
        ("fsync = 'sometimes' (DISTCACHE_FSYNC)", "everysec, always, no"),
        ("port = '70000' (--port)", "allowed: 0 to 65535"),
        ("bind = '0.0.0.0' (--bind)", "needs requirepass"),
    ];
    for (start, part) in expected {
        let matches = |line: &&String| line.starts_with(start) && line.contains(part);
        assert_eq!(told.iter().filter(matches).count(), 1, "{start}: {told:#?}");
    }
    assert_eq!(told.len(), expected.len(), "{told:#?}");
}

#[test]
fn one_option_under_two_names_in_the_file_is_a_problem() {
    let (_file, path) = file_with("oplog = true\nappendonly = false\n");
    let told = problems(&["--config", &path], &[]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("given twice"), "{told:?}");
}

#[test]
fn a_missing_file_and_unknown_flags_are_refused() {
    let told = problems(&["--config", "/nonexistent/distcache.toml"], &[]);
    assert!(told[0].starts_with("config = '/nonexistent/distcache.toml' (--config): cannot be"));
    match try_start(&["--prot", "1"], &[]) {
        Err(LaunchError::Usage(text)) => assert!(text.contains("--port"), "{text}"),
        other => panic!("expected a usage error, not {other:?}"),
    }
}

#[test]
fn an_unknown_variable_is_a_warning() {
    match try_start(&[], &[("DISTCACHE_PROT", "1"), ("OTHER", "1"), ("DISTCACHE_PORT", "0")]) {
        Ok(Launch::Run { warnings, .. }) => {
            assert_eq!(warnings, ["DISTCACHE_PROT is not an option; did you mean DISTCACHE_PORT"]);
        }
        other => panic!("expected a configuration, not {other:?}"),
    }
}

#[test]
fn beyond_loopback_a_password_or_insecure_is_needed() {
    assert_eq!(problems(&["--bind", "127.0.0.1", "--bind", "::*"], &[]).len(), 1);
    start(&["--bind", "*", "--requirepass", "secret"], &[]);
    start(&["--bind", "*", "--protected-mode", "no"], &[]);
    let config = start(&["--bind", "192.0.2.1", "--insecure"], &[]);
    assert!(config.current().listens_beyond_loopback());
    let refused = set(&config, &[("protected-mode", "yes")]).unwrap_err();
    assert!(refused.contains("'protected-mode') - an address beyond loopback"), "{refused}");
    assert_eq!(value(&config, "protected-mode"), "no");
}

#[test]
fn what_is_printed_reads_back_as_the_same_configuration() {
    let mut args: Vec<String> = Vec::new();
    for spec in options::rows().filter(|spec| !spec.is_secret() && !is_refused(spec)) {
        args.extend([format!("--{}", spec.name), another(spec)]);
    }
    for args in [args, Vec::new()] {
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        let before = start(&args, &[]);
        args.push("--print-config");
        let printed = print(&args);
        assert!(printed.lines().all(|line| line.chars().count() <= 100), "{printed}");
        let (_file, path) = file_with(&printed);
        let after = start(&["--config", &path], &[]);
        assert_eq!(before.get(&["*"]), after.get(&["*"]));
        assert_eq!(
            print(&["--config", &path, "--print-config"]).lines().count(),
            printed.lines().count()
        );
    }
}

/// They were accepted without a word: whoever gave them believed that TLS and users were on.
#[test]
fn options_without_effect_are_told_and_those_that_would_protect_are_refused() {
    let told = problems(&["--tls-port", "7709", "--aclfile", "/etc/users.acl"], &[]);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().any(|told| told.starts_with("tls-port = '7709' (--tls-port): this ver")));
    assert!(told.iter().any(|told| told.contains("no ACL users")), "{told:?}");
    let warnings = |args: &[&str]| match try_start(args, &[]) {
        Ok(Launch::Run { warnings, .. }) => warnings,
        other => panic!("expected a configuration, not {other:?}"),
    };
    let said = warnings(&["--logfile", "/var/log/x", "--masterauth", "hunter2", "--hz", "20"]);
    assert_eq!(said.len(), 2, "{said:?}");
    let logfile = "logfile = '/var/log/x' (--logfile): this has no effect. The process is left to";
    assert!(said.iter().any(|line| line.starts_with(logfile)), "{said:?}");
    assert!(!said.concat().contains("hunter2"), "{said:?}");
    let defaults = ["--save", "", "--tls-port", "0", "--aclfile", "", "--io-threads", "1"];
    assert_eq!(warnings(&defaults), [""; 0], "who gives the default has what he wants");
}

#[test]
fn secrets_show_in_config_get_alone() {
    let args = ["--requirepass", "hunter2", "--masterauth", "hunter2"];
    let args = [&args[..], &["--cluster-secret", "hunter2hunter2"]].concat();
    let config = start(&args, &[]);
    assert_eq!(value(&config, "requirepass"), "hunter2");
    // Every client of the data could have become a node.
    assert_eq!(value(&config, "cluster-secret"), "");
    let all = config.get(&["*"]);
    assert!(all.contains(&("cluster-secret".to_owned(), String::new())));
    assert!(all.iter().all(|(_, value)| value != "hunter2hunter2"));
    let secret = config.current().cluster_secret.clone();
    assert_eq!(secret.as_ref().map(|secret| secret.reveal()), Some("hunter2hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    let printed = print(&[&args[..], &["--print-config"]].concat());
    assert!(!printed.contains("hunter2") && printed.contains("set, not shown"), "{printed}");
    let (_file, path) = file_with("requirepass = { a = 'hunter2' }\nbind = '0.0.0.0'");
    assert!(!problems(&["--config", &path], &[]).concat().contains("hunter2"));
}

#[test]
fn help_shows_the_options_with_an_effect() {
    let help = print(&["--help"]);
    for spec in options::rows() {
        let flag = format!("--{} ", spec.name);
        assert_eq!(help.contains(&flag), spec.apply.is_some(), "{}", spec.name);
    }
    assert!(help.contains("DISTCACHE_DATA_DIR") && help.contains("--print-config"));
}

#[test]
fn config_set_changes_live_options_and_no_others() {
    for named in options::names() {
        let config = start(&["--requirepass", "x"], &[]);
        let text = match (named.spec.kind, another(named.spec)) {
            (Kind::Flag, _) if named.spec.default == "yes" => "no".to_owned(),
            (Kind::Flag, _) => "yes".to_owned(),
            (Kind::Choice { redis, .. }, _) if named.name == "loglevel" => redis[0].to_owned(),
            (_, text) => text,
        };
        let before = (config.generation(), value(&config, named.name));
        let result = set(&config, &[(named.name, &text)]);
        let after = (config.generation(), value(&config, named.name));
        match named.spec.change {
            Change::Live => {
                assert_eq!(result, Ok(()), "{}", named.name);
                assert!(after.0 != before.0 && after.1 != before.1, "{}", named.name);
            }
            Change::Steady => {
                assert!(result.unwrap_err().ends_with("while the node runs, only at start"));
                assert_eq!(after, before);
                assert_eq!(set(&config, &[(named.name, &before.1)]), Ok(()), "{}", named.name);
            }
            Change::Fixed | Change::Protected => {
                let said = result.unwrap_err();
                assert!(said.contains(named.name) && said.contains("can't set"), "{said}");
                assert_eq!(after, before);
            }
        }
    }
}

#[test]
fn config_set_is_all_or_nothing() {
    let config = start(&[], &[]);
    let held = config.current();
    assert!(set(&config, &[("hz", "20"), ("maxmemory", "1gb"), ("timeout", "x")]).is_err());
    assert_eq!((config.generation(), value(&config, "hz")), (0, "10".to_owned()));
    set(&config, &[("hz", "20"), ("maxmemory", "1gb")]).unwrap();
    assert_eq!(config.generation(), 1);
    assert_eq!((config.current().hz, config.current().maxmemory_bytes), (20, 1 << 30));
    assert_eq!(held.hz, 10, "a configuration that somebody holds does not change");
}

/// Answers recorded from redis-server 7.0.15.
#[test]
fn config_set_refuses_in_the_words_of_redis() {
    let config = start(&[], &[]);
    for (pairs, name, reason) in REDIS_REFUSALS {
        let expected =
            format!("CONFIG SET failed (possibly related to argument '{name}') - {reason}");
        assert_eq!(set(&config, pairs), Err(expected), "{pairs:?}");
    }
    let unknown = "Unknown option or number of arguments for CONFIG SET - 'Foo'".to_owned();
    assert_eq!(set(&config, &[("hz", "1"), ("Foo", "bar")]), Err(unknown));
    assert_eq!(config.generation(), 0);
    set(&config, &[("list-max-ziplist-size", "4"), ("list-max-listpack-size", "5")]).unwrap();
    assert_eq!(value(&config, "list-max-ziplist-size"), "5");
}

type Pairs = &'static [(&'static str, &'static str)];

const REDIS_REFUSALS: &[(Pairs, &str, &str)] = &[
    (&[("maxmemory", "10xx")], "maxmemory", "argument must be a memory value"),
    (&[("maxmemory", "-1")], "maxmemory", "argument must be a memory value"),
    (&[("maxmemory", "-1%")], "maxmemory", "argument must be a memory value"),
    (&[("hz", "abc")], "hz", "argument couldn't be parsed into an integer"),
    (&[("HZ", "+10")], "hz", "argument couldn't be parsed into an integer"),
    (&[("hz", "-1")], "hz", "argument must be between 0 and 2147483647 inclusive"),
    (&[("activedefrag", "on")], "activedefrag", "argument must be 'yes' or 'no'"),
    (
        &[("appendfsync", "bad")],
        "appendfsync",
        "argument(s) must be one of the following: everysec, always, no",
    ),
    (
        &[("maxmemory-policy", "foo")],
        "maxmemory-policy",
        "argument(s) must be one of the following: volatile-lru, volatile-lfu, volatile-random, \
         volatile-ttl, allkeys-lru, allkeys-lfu, allkeys-random, noeviction",
    ),
    (
        &[("loglevel", "info")],
        "loglevel",
        "argument(s) must be one of the following: debug, verbose, notice, warning",
    ),
    (&[("Databases", "3")], "Databases", "can't set immutable config"),
    (&[("dir", "/tmp")], "dir", "can't set protected config"),
    (&[("dbfilename", "a/b")], "dbfilename", "can't set protected config"),
    (&[("HZ", "10"), ("hz", "11")], "hz", "duplicate parameter"),
    (
        &[("maxmemory-clients", "101%")],
        "maxmemory-clients",
        "percentage argument must be less or equal to 100",
    ),
    (
        &[("maxmemory-clients", "x%")],
        "maxmemory-clients",
        "argument must be a memory or percent value",
    ),
    (
        &[("client-output-buffer-limit", "master 1 2 3")],
        "client-output-buffer-limit",
        "Invalid client class specified in buffer limit configuration.",
    ),
    (
        &[("client-output-buffer-limit", "normal 1 1")],
        "client-output-buffer-limit",
        "Wrong number of arguments in buffer limit configuration.",
    ),
    (
        &[("client-output-buffer-limit", "normal 1 2 0.5")],
        "client-output-buffer-limit",
        "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
    ),
    (&[("save", "900")], "save", "Invalid save parameters"),
    (
        &[("notify-keyspace-events", "xyz")],
        "notify-keyspace-events",
        "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.",
    ),
    (
        &[("slowlog-log-slower-than", "-2")],
        "slowlog-log-slower-than",
        "argument must be between -1 and 9223372036854775807 inclusive",
    ),
    (
        &[("proto-max-bulk-len", "1")],
        "proto-max-bulk-len",
        "argument must be between 1048576 and 9223372036854775807 inclusive",
    ),
    (&[("maxclients", "0")], "maxclients", "argument must be between 1 and 4294967295 inclusive"),
    (
        &[("list-max-ziplist-size", "x")],
        "list-max-ziplist-size",
        "argument couldn't be parsed into an integer",
    ),
];

#[test]
fn config_get_answers_each_matching_name_once() {
    let config = start(&[], &[]);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(config.get(&["HZ", "hz", "?z", "nosuch"]), [pair("HZ", "10")]);
    assert_eq!(
        config.get(&["appendfs*", "DIR", "[f-g]sync"]),
        [
            pair("appendfsync", "everysec"),
            pair("DIR", "./distcache-data"),
            pair("fsync", "everysec")
        ]
    );
    assert_eq!(config.get(&["*"]).len(), options::names().count());
    assert_eq!(config.get::<&str>(&[]), []);
}

#[test]
fn changes_are_applied_in_the_order_in_which_they_are_made() {
    let config = start(&[], &[]);
    let applied = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for timeout in 1..=2 {
            let (config, applied) = (&config, &applied);
            scope.spawn(move || {
                for round in 0..500 {
                    let number = (timeout + 2 * round).to_string();
                    let apply = |new: &Config| {
                        let seen = (config.generation(), new.timeout_s);
                        applied.lock().unwrap().push(seen);
                        Ok(())
                    };
                    config.set_and(&[("timeout", number)], apply).unwrap();
                }
            });
        }
    });
    let applied = applied.into_inner().unwrap();
    let generations: Vec<u64> = applied.iter().map(|(generation, _)| *generation).collect();
    assert_eq!(generations, (0..1000).collect::<Vec<u64>>(), "one after the other");
    assert_eq!(applied.last().unwrap().1.to_string(), value(&config, "timeout"));
    config.set_and(&[("timeout", "-1")], |_| panic!("a refused change is applied")).unwrap_err();
}

#[test]
fn config_rewrite_keeps_the_file_and_survives_a_restart() {
    let (_file, path) = file_with("# kept\nhz = 20 # kept too\ntimeout = 5\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let config = start(&["--config", &path, "--maxclients", "9"], &[]);
    set(&config, &[("hz", "30"), ("maxmemory", "100mb"), ("requirepass", "a\"b")]).unwrap();
    config.rewrite().unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "it may hold a password: the mode stays");
    let content = fs::read_to_string(&path).unwrap();
    assert!(content.starts_with("# kept\nhz = 30 # kept too\ntimeout = 5\n"), "{content}");
    assert!(!content.contains("maxclients"), "a flag stays a flag: {content}");
    let again = start(&["--config", &path], &[]);
    for name in ["hz", "timeout", "maxmemory", "requirepass"] {
        assert_eq!(value(&again, name), value(&config, name), "{name}");
    }
}

/// The file got `warning`, the nearest word of Redis, so another level was in force after a start.
#[test]
fn every_choice_survives_a_rewrite_under_either_name() {
    for named in options::names() {
        let Kind::Choice { words, .. } = named.spec.kind else { continue };
        if named.spec.change != Change::Live {
            continue;
        }
        for word in words {
            let present = value(&start(&[], &[]), named.name);
            let (_file, path) = file_with(&format!("{} = '{present}'\n", named.name));
            let config = start(&["--config", &path], &[]);
            set(&config, &[(named.spec.name, word)]).unwrap();
            config.rewrite().unwrap();
            let again = start(&["--config", &path], &[]);
            let content = fs::read_to_string(&path).unwrap();
            assert_eq!(value(&again, named.spec.name), *word, "{}: {content}", named.name);
        }
    }
}

#[test]
fn config_rewrite_tells_why_it_cannot() {
    let config = start(&[], &[]);
    let said = config.rewrite().unwrap_err().to_string();
    assert_eq!(said, "The server is running without a config file");
    let (file, path) = file_with("hz = 20\n");
    let config = start(&["--config", &path], &[]);
    fs::write(&file, "hz = = 20\n").unwrap();
    let said = config.rewrite().unwrap_err().to_string();
    assert!(said.starts_with("Rewriting config file: line 1: "), "{said}");
    file.close().unwrap();
    assert!(config.rewrite().unwrap_err().to_string().starts_with("Rewriting config file: "));
}

#[test]
fn the_default_raw_configuration_is_valid() {
    assert!(LiveConfig::new(RawConfig::default(), None).is_ok());
}
