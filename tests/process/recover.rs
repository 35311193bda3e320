//! What comes back after a disaster: every row of the table in docs/RECOVERY.md, to the satoshi.
//!
//! In: a node with coins and a channel; the loss. Out: what its wallet holds at the end. Read next: `check`, `penalty`.

use crate::stage::{channel_id, funding, hold, output_of};
use bitcoin::{OutPoint, Transaction};
use chand_tests::trail::wait_spender;
use chand_tests::{programs, wait_for, ChannelType, Node, World};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Alice's folder of one network, where seed, database and backup lie.
fn folder(node: &Node) -> PathBuf {
    node.socket().parent().expect("a folder").to_path_buf()
}

/// Exit status 0 or not, and all that was printed.
fn chand(world: &World, args: &[&str]) -> (bool, String) {
    let output = Command::new(programs::find("chand"))
        .env_clear()
        .env("HOME", world.dir.path())
        .env("TMPDIR", world.dir.path())
        .args(args)
        .output()
        .expect("chand runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// A safe place beside the data folders, with Alice's words and her backup in it.
struct Safe {
    words: PathBuf,
    backup: PathBuf,
}

impl Safe {
    fn of(world: &World) -> Safe {
        let place = world.dir.path().join("safe");
        fs::create_dir_all(&place).expect("a folder");
        let (words, backup) = (place.join("words"), place.join("channels"));
        let from = folder(&world.alice);
        fs::copy(from.join("seed"), &words).expect("the words");
        fs::copy(from.join("emergency.recover"), &backup).expect("the backup");
        Safe { words, backup }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Runs `chand recover` into Alice's folder.
fn recover(world: &World, words: &Path, backup: Option<&Path>) -> (bool, String) {
    let data = world.alice.data_dir();
    let mut args = vec!["recover", "--data-dir", text(&data), "--words-file", text(words)];
    args.extend(backup.iter().flat_map(|path| ["--backup", text(path)]));
    chand(world, &args)
}

/// Alice and Bob with a channel that was used: Alice's part is 450,000 sat.
fn lived(kind: ChannelType) -> World {
    let world = World::with_channel(1_000_000, 500_000_000, kind);
    let bolt11 = world.bob.invoice(50_000_000, "rent");
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
    world.wait_quiet();
    world
}

const ALICES_SAT: u64 = 450_000;

/// Her output in Bob's commitment: she opened the channel, and pays for the commitment and its anchors.
fn due(theirs: &Transaction) -> u64 {
    let amounts = || theirs.output.iter().map(|output| output.value.to_sat());
    let anchors: u64 = amounts().filter(|sat| *sat == 330).sum();
    ALICES_SAT - (1_000_000 - amounts().sum::<u64>()) - anchors
}

/// What the disaster must leave: Alice's coins.
struct Before {
    wallet_sat: u64,
    funding: OutPoint,
}

impl Before {
    fn of(world: &World) -> Before {
        Before { wallet_sat: world.alice.wallet_sat(), funding: funding(&world.alice, &world.bob) }
    }

    /// The peer's commitment is in a block, what is Alice's in it was swept, and all of it is in her wallet less the sweep's fee.
    fn comes_back(&self, world: &World) -> Transaction {
        let theirs = wait_spender(&world.chain, &self.funding);
        world.mine(1);
        self.swept(world, &theirs);
        theirs
    }

    /// The same from when the peer's commitment is in a block.
    fn swept(&self, world: &World, theirs: &Transaction) {
        let sweep = wait_spender(&world.chain, &output_of(theirs, due(theirs)));
        world.mine(1);
        let fee = world.chain.fee(&sweep);
        assert!(fee < 2_000, "{fee} sat");
        let must = self.wallet_sat + due(theirs) - fee;
        wait_for("Alice's coins", || match world.alice.wallet_sat() {
            now if now == must => Ok(()),
            now => Err(format!("{now} sat instead of {must}")),
        });
    }
}

#[test]
fn a_lost_disk_with_seed_and_backup_gives_all_of_it_back() {
    for kind in [ChannelType::Anchors, ChannelType::StaticRemoteKey] {
        let mut world = lived(kind);
        let (before, safe) = (Before::of(&world), Safe::of(&world));
        world.alice.kill();
        fs::remove_dir_all(world.alice.data_dir()).expect("lost");
        let (done, said) = recover(&world, &safe.words, Some(&safe.backup));
        assert!(done && said.contains("1 with 1000000 sat"), "{said}");
        // Her words, and nobody else's folder, twice.
        let (again, said) = recover(&world, &safe.words, Some(&safe.backup));
        assert!(!again && said.contains("is there already"), "{said}");
        world.alice.launch();
        let theirs = before.comes_back(&world);
        let entry = crate::stage::closed(&world.alice);
        assert_eq!(entry["final_to_us_msat"], due(&theirs) * 1_000, "{entry}");
        let closers = world.alice.call("listpeerchannels", json!({}))["channels"][0]["status"].to_string();
        assert!(closers.contains("it lost state"), "{closers}");
        assert!(!world.alice.log().contains("a bug of chand"));
        // Nothing of Alice's own was published: Bob's commitment is what spent the funding output.
        let bobs = world.bob.call("listclosedchannels", json!({}))["closedchannels"][0].clone();
        assert_eq!(bobs["closer"], "local", "{bobs} {}", theirs.compute_txid());
    }
}

#[test]
fn a_payment_under_way_at_the_loss_does_not_keep_the_rest() {
    let mut world = lived(ChannelType::Anchors);
    let (before, safe) = (Before::of(&world), Safe::of(&world));
    hold(&world.bob, &world.alice, 20_000, "held");
    world.alice.kill();
    fs::remove_dir_all(world.alice.data_dir()).expect("lost");
    assert!(recover(&world, &safe.words, Some(&safe.backup)).0);
    world.alice.launch();
    before.comes_back(&world);
}

#[test]
fn the_words_alone_give_the_coins_and_a_backup_that_is_found_later_the_channel() {
    let mut world = lived(ChannelType::Anchors);
    let (before, safe) = (Before::of(&world), Safe::of(&world));
    world.alice.kill();
    fs::remove_dir_all(world.alice.data_dir()).expect("lost");
    let (done, said) = recover(&world, &safe.words, None);
    assert!(done && said.contains("none without a backup"), "{said}");
    world.alice.launch();
    world.alice.wait_height(world.chain.height());
    assert_eq!(world.alice.wallet_sat(), before.wallet_sat, "all that was on chain, to the satoshi");
    assert!(world.alice.channels(&world.bob).is_empty());
    // Bob closed meanwhile, and the block with that was read.
    world.bob.call("close", json!({ "id": channel_id(&world.bob, &world.alice), "unilateraltimeout": 1 }));
    let theirs = wait_spender(&world.chain, &before.funding);
    world.mine(2);
    fs::copy(&safe.backup, folder(&world.alice).join("emergency.recover.old")).expect("found");
    let made = world.alice.call("emergencyrecover", json!({}));
    assert_eq!(made["stubs"].as_array().map(Vec::len), Some(1), "{made}");
    before.swept(&world, &theirs);
}

#[test]
fn a_database_that_is_damaged_is_made_anew_in_its_folder() {
    let mut world = lived(ChannelType::Anchors);
    let before = Before::of(&world);
    world.alice.stop();
    let folder = folder(&world.alice);
    let log = folder.join("store/db");
    let mut bytes = fs::read(&log).expect("the log");
    let middle = bytes.len() / 3;
    bytes[middle..middle + 8_192].fill(0x5a);
    fs::write(&log, bytes).expect("damaged");
    let data = world.alice.data_dir();
    let (whole, said) = chand(&world, &["check", "--data-dir", text(&data)]);
    assert!(!whole, "{said}");
    fs::rename(folder.join("store"), folder.join("store.damaged")).expect("moved aside");
    // The seed lies there, and so does the backup: nothing else is needed.
    let (done, said) = recover(&world, &folder.join("seed"), None);
    assert!(done && said.contains("emergency.recover: 1 channels"), "{said}");
    world.alice.launch();
    before.comes_back(&world);
}

#[test]
fn an_old_copy_of_the_whole_folder_publishes_nothing_and_loses_nothing() {
    let mut world = World::with_channel(1_000_000, 500_000_000, ChannelType::Anchors);
    world.alice.stop();
    let (data, copy) = (world.alice.data_dir(), world.dir.path().join("copy"));
    let copied = Command::new("cp").arg("-a").arg(&data).arg(&copy).status().expect("cp");
    assert!(copied.success());
    world.alice.launch();
    world.wait_normal();
    let bolt11 = world.bob.invoice(50_000_000, "rent");
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
    world.wait_quiet();
    let before = Before::of(&world);
    world.alice.kill();
    fs::remove_dir_all(&data).expect("lost");
    fs::rename(&copy, &data).expect("put back");
    world.alice.set_extra(&["--restored"]);
    world.alice.launch();
    before.comes_back(&world);
    assert!(world.alice.log().contains("taken for an old copy: 1 channels"));
}

#[test]
fn a_backup_is_verified_without_touching_anything() {
    let mut world = lived(ChannelType::Anchors);
    let safe = Safe::of(&world);
    let data = world.alice.data_dir();
    let id = channel_id(&world.alice, &world.bob);
    let names = |dir: &Path| {
        let mut names: Vec<_> = fs::read_dir(dir).expect("a folder").flatten().map(|e| e.path()).collect();
        names.sort();
        names
    };
    // While she runs, by her folder; and with the words alone.
    for key in [["--data-dir", text(&data)], ["--words-file", text(&safe.words)]] {
        let before = (names(world.dir.path()), names(&folder(&world.alice)));
        let (good, said) = chand(&world, &[&["backup", "verify", text(&safe.backup)][..], &key].concat());
        assert!(good, "{said}");
        for word in [
            id.as_str().expect("an id"),
            world.bob.id(),
            &world.bob.address(),
            "1000000 sat",
            "nothing was changed",
        ] {
            assert!(said.contains(word), "no {word} in {said}");
        }
        assert_eq!(before, (names(world.dir.path()), names(&folder(&world.alice))));
    }
    // After the close there is nothing in it.
    let closing = world.alice.call("close", json!({ "id": id }));
    assert!(!closing["txid"].is_null() || !closing["txids"].is_null(), "{closing}");
    world.mine(1);
    let newest = folder(&world.alice).join("emergency.recover");
    wait_for("a backup without the channel", || {
        let (good, said) = chand(&world, &["backup", "verify", text(&newest), "--data-dir", text(&data)]);
        if good && said.contains("emergency.recover: 0 channels") {
            Ok(())
        } else {
            Err(said)
        }
    });
    world.alice.stop();
}

#[test]
fn wrong_words_and_bad_backups_are_refused_in_words_and_nothing_is_made() {
    let mut world = lived(ChannelType::Anchors);
    let safe = Safe::of(&world);
    world.alice.kill();
    fs::remove_dir_all(world.alice.data_dir()).expect("lost");
    let place = world.dir.path().join("safe");
    let words = fs::read_to_string(&safe.words).expect("words");
    let line = words.lines().last().expect("words").to_string();
    let sealed = fs::read(&safe.backup).expect("a backup");
    let file = |name: &str, bytes: &[u8]| {
        let path = place.join(name);
        fs::write(&path, bytes).expect("written");
        path
    };
    let mut turned: Vec<&str> = line.split(' ').collect();
    turned.rotate_left(1);
    let turned = file("turned", turned.join(" ").as_bytes());
    let strange = file("strange", line.replacen(' ', " sesame ", 1).as_bytes());
    let few = file("few", line.split(' ').take(11).collect::<Vec<_>>().join(" ").as_bytes());
    let abandon = "abandon ".repeat(11) + "about";
    let others = file("others", abandon.as_bytes());
    let cut = file("cut", &sealed[..sealed.len() - 7]);
    let mut bent = sealed.clone();
    let middle = bent.len() / 2;
    bent[middle] ^= 1;
    let bent = file("bent", &bent);
    let none = file("none", b"hello");
    let right = &safe.words;
    for (words, backup, wanted) in [
        (&turned, &safe.backup, "checksum"),
        (&strange, &safe.backup, "25 words"),
        (&few, &safe.backup, "11 words"),
        (&others, &safe.backup, "another seed"),
        (right, &cut, "cut short"),
        (right, &bent, "changed since it was written"),
        (right, &none, "no channel backup"),
        (right, &place.join("nowhere"), "there is no backup"),
    ] {
        let (done, said) = recover(&world, words, Some(backup));
        // One order of words in 256 is a seed all the same.
        let fits = said.contains(wanted) || wanted == "checksum" && said.contains("another seed");
        assert!(!done && fits, "{wanted}: {said}");
        let pairs: Vec<&str> = line.split(' ').collect();
        assert!(pairs.windows(2).all(|pair| !said.contains(&pair.join(" "))), "words are shown: {said}");
        assert!(!world.alice.data_dir().exists(), "something was made");
        let args = ["backup", "verify", text(backup), "--words-file", text(words)];
        let (good, said) = chand(&world, &args);
        let fits = said.contains(wanted) || wanted == "checksum" && said.contains("another seed");
        assert!(!good && fits, "{wanted}: {said}");
    }
    // Twelve words are as good as twenty-four.
    let (done, said) = recover(&world, &others, None);
    assert!(done, "{said}");
}

#[test]
fn the_words_and_a_peer_give_the_channel_back() {
    let mut world = lived(ChannelType::Anchors);
    let (before, safe) = (Before::of(&world), Safe::of(&world));
    world.alice.kill();
    fs::remove_dir_all(world.alice.data_dir()).expect("lost");
    assert!(recover(&world, &safe.words, None).0);
    // Bob, who keeps the copy, may have been away, too.
    world.bob.kill_and_launch();
    world.alice.launch();
    assert!(world.alice.channels(&world.bob).is_empty());
    world.alice.connect(&world.bob);
    before.comes_back(&world);
    assert!(world.alice.log().contains("1 channels are restored from it"));
}

#[test]
fn a_sealed_seed_opens_with_its_passphrase_alone_and_a_wrong_one_is_told_at_once() {
    let mut world = lived(ChannelType::Anchors);
    let before = Before::of(&world);
    world.alice.stop();
    let (data, place) = (world.alice.data_dir(), world.dir.path().to_path_buf());
    let file = |name: &str, text: &str| {
        let path = place.join(name);
        fs::write(&path, text).expect("written");
        path
    };
    let (right, wrong, newer) =
        (file("right", "horse staple"), file("wrong", "horse stable"), file("newer", "x"));
    let words = fs::read_to_string(folder(&world.alice).join("seed")).expect("words");
    let line = words.lines().last().expect("words").to_string();
    let dir = ["--data-dir", text(&data)];
    let (done, said) = chand(&world, &[&["passphrase", "--new", text(&right)][..], &dir].concat());
    assert!(done, "{said}");
    for entry in fs::read_dir(folder(&world.alice)).expect("a folder").flatten() {
        let path = entry.path();
        let holds = path.is_file() && fs::read_to_string(&path).is_ok_and(|text| text.contains(&line));
        assert!(!holds, "the words stand in {}", path.display());
    }
    let chain = ["--bitcoin-rpc", "http://nobody:nothing@127.0.0.1:1"];
    for (pass, wanted) in [(vec![], "is sealed"), (vec!["--passphrase-file", text(&wrong)], "does not open")]
    {
        let (started, said) = chand(&world, &[&dir[..], &chain, &pass].concat());
        assert!(!started && said.contains(wanted), "{said}");
    }
    world.alice.set_extra(&["--passphrase-file", text(&right)]);
    world.alice.launch();
    world.wait_normal();
    world.alice.stop();
    let change = ["passphrase", "--old", text(&right), "--new", text(&newer)];
    let (done, said) = chand(&world, &[&change[..], &dir].concat());
    assert!(done, "{said}");
    let (done, _) = chand(&world, &[&change[..], &dir].concat());
    assert!(!done, "the old one opens nothing any more");
    world.alice.set_extra(&["--passphrase-file", text(&newer)]);
    world.alice.launch();
    world.wait_normal();
    assert_eq!(world.alice.wallet_sat(), before.wallet_sat, "nothing is lost");
}
