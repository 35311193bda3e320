//! Options from every side.

use super::*;
use clap::{CommandFactory, Parser};
use std::ffi::OsString;

struct Place {
    home: tempfile::TempDir,
}

impl Place {
    /// A home with a regtest chain's cookie in it.
    fn new() -> Place {
        let place = Place::empty();
        place.write(".chand-regtest/regtest/.cookie", "__cookie__:x");
        place
    }

    fn empty() -> Place {
        Place { home: tempfile::tempdir().unwrap() }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.home.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn run(&self, args: &[&str], env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let cli = Cli::try_parse_from(["chand"].iter().chain(args)).unwrap();
        let home = self.home.path().as_os_str().to_owned();
        Config::resolve(&cli.flags, &|name| match name {
            "HOME" => Some(home.clone()),
            _ => env.iter().find(|(k, _)| *k == name).map(|(_, v)| OsString::from(v)),
        })
    }

    fn complaint(&self, args: &[&str]) -> String {
        self.run(args, &[]).unwrap_err().to_string()
    }
}

fn setting(config: &Config, name: &str) -> Setting {
    config.settings.iter().find(|s| s.name == name).unwrap().clone()
}

#[test]
fn with_nothing_said_it_is_regtest_in_the_home_directory() {
    let place = Place::new();
    let config = place.run(&[], &[]).unwrap();
    let dir = place.home.path().join(".chand/regtest");
    assert_eq!(config.dir, dir);
    assert_eq!(config.rpc_socket, dir.join("rpc.sock"));
    assert_eq!(config.seed_path(), dir.join("seed"));
    assert_eq!(config.listen, ["127.0.0.1:9735".parse().unwrap()]);
    assert!(config.listen_is_default);
    assert_eq!((config.fee_base_msat, config.fee_ppm), (1_000, 10));
    assert_eq!((config.cltv_delta_blocks, config.cltv_final_blocks), (34, 18));
    assert_eq!((config.to_self_delay_blocks, config.funding_confirms), (6, 1));
    assert_eq!((config.max_in_flight_percent, config.simple_close), (100, false));
    assert_eq!(config.dev, None);
    let cookie = place.home.path().join(".chand-regtest/regtest/.cookie");
    assert_eq!((config.bitcoin_rpc.port, config.bitcoin_rpc.auth), (18_443, RpcAuth::Cookies(vec![cookie])));
}

#[test]
fn an_old_copy_is_told_of_on_the_command_line_for_one_start() {
    let place = Place::new();
    assert!(!place.run(&[], &[]).unwrap().restored);
    assert!(place.run(&["--restored"], &[("CHAND_RESTORED", "1")]).unwrap().restored);
    let said = place.run(&[], &[("CHAND_RESTORED", "1")]).unwrap_err().to_string();
    assert!(said.contains("--restored (CHAND_RESTORED): only on the command line"), "{said}");
    assert!(!place.run(&[], &[("CHAND_RESTORED", "0")]).unwrap().restored);
    place.write(".chand/chand.toml", "restored = true");
    assert!(place.complaint(&[]).contains("only on the command line"));
}

#[test]
fn other_networks_have_their_own_defaults() {
    let place = Place::new();
    for (name, port) in [("bitcoin", 8_332), ("testnet", 18_332), ("testnet4", 48_332), ("signet", 38_332)] {
        let folder = network::find(name).unwrap().node_dir;
        assert!(place.complaint(&["--network", name]).contains("no chain found"), "{name}");
        place.write(&format!(".bitcoin/{folder}/.cookie"), "x:y");
        let config = place.run(&["--network", name], &[]).unwrap();
        assert_eq!((config.to_self_delay_blocks, config.funding_confirms), (144, 3));
        assert_eq!(config.bitcoin_rpc.port, port);
        assert!(config.dir.ends_with(name));
    }
}

#[test]
fn litecoin_has_the_same_hours_in_other_blocks() {
    let place = Place::new();
    assert!(place.complaint(&["--network", "litecoin"]).contains("start litecoind"));
    place.write(".litecoin/.cookie", "x:y");
    let config = place.run(&["--network", "litecoin"], &[]).unwrap();
    assert_eq!((config.to_self_delay_blocks, config.funding_confirms), (576, 12));
    assert_eq!((config.cltv_delta_blocks, config.cltv_final_blocks), (136, 72));
    assert_eq!(config.bitcoin_rpc.port, 9_332);
    assert!(place.complaint(&["--network", "litecoin", "--cltv-delta", "135"]).contains("at least 136"));
    // A bitcoind's cookie, or that of `chand regtest`, is none of its.
    place.write(".chand-regtest/regtest/.cookie", "x:y");
    assert!(place.complaint(&["--network", "litecoin-regtest"]).contains("no chain found"));
}

#[test]
fn the_command_line_wins_over_the_variable_and_that_over_the_file() {
    let place = Place::new();
    let file = place.home.path().join(".chand/chand.toml");
    place.write(
        ".chand/chand.toml",
        "fee-base = 3\nalias = \"file\"\nlisten = [\"1.2.3.4:5\", \"[::1]:6\"]\nsimple_close = true\n",
    );
    let env = [("CHAND_FEE_BASE", "2"), ("CHAND_ALIAS", "variable")];
    let config = place.run(&["--fee-base", "1"], &env).unwrap();
    assert_eq!(config.fee_base_msat, 1);
    assert_eq!(config.alias.as_deref(), Some("variable"));
    assert_eq!(config.listen.len(), 2);
    assert!(config.simple_close && !config.listen_is_default);
    let sources =
        ["fee-base", "alias", "simple-close", "fee-per-satoshi"].map(|n| setting(&config, n).source);
    assert_eq!(
        sources,
        [Source::Flag, Source::Env("CHAND_ALIAS".into()), Source::File(file), Source::Default]
    );
    assert_eq!(setting(&config, "fee-base").value, SettingValue::Int(1));
    assert_eq!(setting(&config, "simple-close").value, SettingValue::Set(true));
    let config =
        place.run(&["--listen=1.1.1.1:1", "--listen=2.2.2.2:2"], &[("CHAND_SIMPLE_CLOSE", "off")]).unwrap();
    assert_eq!(
        setting(&config, "listen").value,
        SettingValue::List(vec!["1.1.1.1:1".into(), "2.2.2.2:2".into()])
    );
    assert!(!config.simple_close);
}

#[test]
fn every_bad_value_gets_a_sentence_with_its_option_and_its_source() {
    let place = Place::new();
    for (args, want) in [
        (&["--network=mainnet"][..], "the main network is called bitcoin"),
        (&["--listen=9735"], "not an address and a port"),
        (&["--cltv-delta=33"], "at least 34, unless --dev"),
        (&["--cltv-final=17"], "at least 18, unless --dev"),
        (&["--cltv-final=70000"], "not a number of blocks"),
        (&["--to-self-delay=0"], "too few"),
        (&["--to-self-delay=2017"], "at most 2016"),
        (&["--funding-confirms=0"], "from 1 to 100"),
        (&["--max-htlc-value-in-flight=101"], "from 1 to 100"),
        (&["--fee-base=-1"], "from 0 to 4294967295"),
        (&["--rgb=red"], "six hex digits"),
        (&["--alias=123456789012345678901234567890123"], "at most 32"),
        (&["--log-level=loud"], "none of error, warn"),
        (&["--bitcoin-rpc-cookie=/nowhere/.cookie"], "there is no file /nowhere/.cookie"),
        (&["--dev-fast-gossip"], "only with --dev"),
        (&["--dev", "--dev-bitcoind-poll=0"], "from 1 to 3600"),
    ] {
        let said = place.complaint(args);
        assert!(said.contains(want) && said.contains("(command line)"), "{args:?}: {said}");
    }
    let said = place.run(&[], &[("CHAND_CLTV_DELTA", "many")]).unwrap_err().to_string();
    assert!(said.starts_with("--cltv-delta (CHAND_CLTV_DELTA): "), "{said}");
}

#[test]
fn what_is_wrong_in_the_file_is_said_without_quoting_it() {
    for (text, want) in [
        ("fee-bass = 3", "no option \"fee-bass\""),
        ("bitcoin-rpc = \"http://u:sesame@h\" x", "is not TOML near line 1"),
        ("alias = [\"a\"]", "alias has a value of the wrong kind"),
        ("data-dir = \"/x\"", "cannot stand in the file"),
        ("fee-base = \"x\"", "whole number"),
    ] {
        let place = Place::new();
        place.write(".chand/chand.toml", text);
        let said = place.complaint(&[]);
        assert!(said.contains(want) && said.contains("chand.toml") && !said.contains("sesame"), "{said}");
    }
}

#[test]
fn dev_lowers_the_bounds_and_opens_its_options() {
    let place = Place::new();
    let key = "01".repeat(32);
    let six = [key.as_str(); 6].join("/");
    let config = place
        .run(
            &[
                "--dev",
                "--cltv-delta=6",
                "--cltv-final=5",
                "--dev-bitcoind-poll=1",
                "--dev-no-htlc-timeout",
                "--dev-fast-gossip",
                "--dev-allow-localhost",
                "--dev-force-privkey",
                &key,
                "--dev-force-bip32-seed",
                &key,
                "--dev-force-channel-secrets",
                &six,
            ],
            &[],
        )
        .unwrap();
    let dev = config.dev.clone().unwrap();
    assert_eq!((config.cltv_delta_blocks, config.cltv_final_blocks), (6, 5));
    assert_eq!(dev.force_privkey.as_ref().unwrap().reveal(), &[1; 32]);
    assert_eq!(dev.force_channel_secrets.as_ref().unwrap().shachain_seed.reveal(), &[1; 32]);
    assert!(dev.fast_gossip && dev.no_htlc_timeout && dev.allow_localhost);
    assert_eq!(dev.bitcoind_poll_s, Some(1));
    let all = format!("{config:?}");
    assert!(!all.contains("0101") && !all.contains("1, 1, 1"), "a secret is shown: {all}");
    for bad in [
        ["--dev-force-privkey", &"00".repeat(32)],
        ["--dev-force-channel-secrets", "1/2"],
        ["--dev-force-bip32-seed", "ff"],
    ] {
        let said = place.complaint(&["--dev", bad[0], bad[1]]);
        assert!(said.contains(bad[0]), "{said}");
    }
}

#[test]
fn a_chain_is_named_by_url_by_cookie_or_by_both() {
    let place = Place::empty();
    place.write("cookie", "__cookie__:abc");
    let cookie = place.home.path().join("cookie");
    let cookie_flag = format!("--bitcoin-rpc-cookie={}", cookie.display());
    let rpc = |args: &[&str]| place.run(args, &[]).unwrap().bitcoin_rpc;
    let with_login = rpc(&["--bitcoin-rpc=http://user:p%40ss:%25@10.0.0.1:1234/wallet/w"]);
    let auth = RpcAuth::Password { user: "user".into(), password: Hidden::new("p@ss:%".into()) };
    assert_eq!(
        with_login,
        BitcoinRpc { host: "10.0.0.1".into(), port: 1_234, path: "/wallet/w".into(), auth }
    );
    assert_eq!(rpc(&["--bitcoin-rpc=http://u:p@[::1]"]).host, "::1");
    assert_eq!(rpc(&["--bitcoin-rpc=http://u:p@[::1]:9"]).port, 9);
    assert_eq!(rpc(&[&cookie_flag]).auth, RpcAuth::Cookies(vec![cookie.clone()]));
    let both = rpc(&["--bitcoin-rpc=http://10.0.0.1", &cookie_flag]);
    assert_eq!(
        (both.host.as_str(), both.port, both.auth),
        ("10.0.0.1", 18_443, RpcAuth::Cookies(vec![cookie]))
    );
    let config = place.run(&["--bitcoin-rpc=http://user:sesame@h:1"], &[]).unwrap();
    assert_eq!(setting(&config, "bitcoin-rpc").value, SettingValue::Text("(hidden)".into()));
    assert!(!format!("{config:?}").contains("sesame"));
    for (args, want) in [
        (&[][..], "chand regtest"),
        (&["--bitcoin-rpc=http://u:sesame@h", &cookie_flag], "one of both"),
        (&["--bitcoin-rpc=http://127.0.0.1:1"], "names no user"),
        (&["--bitcoin-rpc=u:sesame@h"], "does not begin with http://"),
        (&["--bitcoin-rpc=https://u:sesame@h"], "https is not spoken"),
        (&["--bitcoin-rpc=http://u:sesame@"], "names no host"),
        (&["--bitcoin-rpc=http://u:sesame@h:x"], "no valid port"),
        (&["--bitcoin-rpc=http://u:sesame%zz@h"], "%25"),
        (&["--bitcoin-rpc=http://sesame@h"], "names no password"),
    ] {
        let said = place.complaint(args);
        assert!(said.contains(want) && !said.contains("sesame"), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1);
    }
}

#[test]
fn several_chains_are_named_in_order_each_with_its_login() {
    let place = Place::empty();
    place.write("cookie", "__cookie__:abc");
    let cookie = place.home.path().join("cookie");
    let cookie_flag = format!("--bitcoin-rpc-cookie={}", cookie.display());
    let login = |user: &str, password: &str| RpcAuth::Password {
        user: user.into(),
        password: Hidden::new(password.into()),
    };
    let config = place
        .run(
            &[
                "--bitcoin-rpc=http://a:1@h",
                "--bitcoin-rpc=http://10.0.0.1:5",
                "--bitcoin-rpc=http://b:2@i",
                &cookie_flag,
            ],
            &[],
        )
        .unwrap();
    let all = [&config.bitcoin_rpc].into_iter().chain(&config.more_bitcoin_rpc);
    let all: Vec<_> = all.map(|b| (b.host.as_str(), b.auth.clone())).collect();
    let expected = [
        ("h", login("a", "1")),
        ("10.0.0.1", RpcAuth::Cookies(vec![cookie.clone()])),
        ("i", login("b", "2")),
    ];
    assert_eq!(all, expected);
    // Commas separate them in a variable, and may stand in a password.
    let config = place.run(&[], &[("CHAND_BITCOIN_RPC", "http://a:1,2,3@h,http://b:2@i")]).unwrap();
    assert_eq!((config.bitcoin_rpc.auth, config.more_bitcoin_rpc.len()), (login("a", "1,2,3"), 1));
    let said = place.complaint(&[
        "--bitcoin-rpc=http://a:1@h",
        "--bitcoin-rpc=http://i",
        &cookie_flag,
        &cookie_flag,
    ]);
    assert!(said.contains("one of both"), "{said}");
}

#[test]
fn a_password_in_a_file_that_others_may_read_is_warned_of() {
    let place = Place::new();
    place.write(".chand/chand.toml", "bitcoin-rpc = \"http://u:p@127.0.0.1:1\"");
    let file = place.home.path().join(".chand/chand.toml");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    assert!(place.run(&[], &[]).unwrap().warnings[0].contains("chmod 600"));
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(place.run(&[], &[]).unwrap().warnings, Vec::<String>::new());
}

#[test]
fn a_socket_path_that_the_system_cannot_take_is_refused() {
    let place = Place::new();
    let dir = format!("/tmp/{}", "d".repeat(107 - "/tmp/".len() - "/regtest/rpc.sock".len()));
    assert_eq!(
        OsStr::as_bytes(place.run(&["--data-dir", &dir], &[]).unwrap().rpc_socket.as_os_str()).len(),
        107
    );
    let said = place.complaint(&["--data-dir", &format!("{dir}d")]);
    assert!(said.contains("108 bytes") && said.contains("--rpc-socket"), "{said}");
    assert!(place.run(&["--data-dir", &format!("{dir}d"), "--rpc-socket=/tmp/s"], &[]).is_ok());
}

#[test]
fn without_a_home_the_data_dir_must_be_named() {
    let cli = Cli::try_parse_from(["chand"]).unwrap();
    assert_eq!(Config::resolve(&cli.flags, &|_| None).unwrap_err(), ConfigError::NoHome);
}

#[test]
fn folders_are_for_their_owner_only() {
    let place = Place::new();
    let config = place.run(&[], &[]).unwrap();
    config.make_dir().unwrap();
    let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&config.dir), mode(config.dir.parent().unwrap())), (0o700, 0o700));
    place.write("file", "");
    assert!(make_private_dir(&place.home.path().join("file/x"))
        .unwrap_err()
        .to_string()
        .contains("cannot be made"));
}

#[test]
fn the_help_fits_on_a_screen_and_names_every_option() {
    let help = Cli::command().render_help().to_string();
    assert!(help.lines().count() <= 40, "{} lines:\n{help}", help.lines().count());
    assert!(help.lines().all(|l| l.chars().count() <= 120), "{help}");
    for name in
        ["data-dir", "bitcoin-rpc-cookie", "max-htlc-value-in-flight", "watchtower", "regtest", "demo"]
    {
        assert!(help.contains(name), "{name} is missing:\n{help}");
    }
    assert!(
        help.contains("--dev-fast-gossip (news leave at once) and --dev-allow-localhost (local addresses")
    );
    for part in ["regtest", "demo", "watchtower"] {
        let mut all = Cli::command();
        all.build();
        let help = all.find_subcommand_mut(part).unwrap().render_help().to_string();
        assert!(help.lines().count() <= 40, "{help}");
        assert!(help.lines().all(|l| l.chars().count() <= 120), "{help}");
    }
}

#[test]
fn the_other_programs_parse() {
    let run = |args: &[&str]| Cli::try_parse_from(["chand"].iter().chain(args));
    let args = ["regtest", "--listen", "127.0.0.1:1", "--premine", "7", "--fee-estimate", "1000"];
    let Some(Program::Regtest(args)) = run(&args).unwrap().command else { panic!("not regtest") };
    assert_eq!((args.listen.port(), args.premine, args.fee_estimate), (1, 7, Some(1_000)));
    let Some(Program::Demo(args)) = run(&["demo", "--stay"]).unwrap().command else { panic!("not demo") };
    assert!(args.stay && args.chapter == "all");
    assert!(run(&["--alias", "x", "demo"]).is_err());
    assert!(run(&["demo", "--step", "--json"]).is_err());
}
